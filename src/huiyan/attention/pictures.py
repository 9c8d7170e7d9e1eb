"""Maps as small pictures, for notebooks: SVG, without a library."""

import torch
from jaxtyping import Float
from torch import Tensor

MOST_CELLS = 48
"""Cells on a side; of a larger map each shows the mean of its rows and the sum of its columns."""
_SIDE = 240
_THUMBNAIL = 40


def bins(n: int, most: int = MOST_CELLS) -> Float[Tensor, "n c"]:
    """Which of at most ``most`` neighbouring cells each of ``n`` numbers falls into, as ones and zeros."""
    cells = min(n, most)
    cell = torch.arange(n) * cells // max(1, n)
    return torch.nn.functional.one_hot(cell, max(1, cells)).float() if n else torch.zeros(0, 1)


def heat_svg(weights: Float[Tensor, "r c"], *, side: int = _SIDE, title: str = "") -> str:
    """Weights from 0 to 1 as shades of blue; what is next to nothing is left out. The title must hold no markup."""
    rows, columns = weights.shape
    across, down = side / max(1, columns), side / max(1, rows)
    # The root lets small weights be seen.
    shades = weights.clamp(0, 1).sqrt().mul(20).round().long().tolist()
    cells = "".join(
        f'<rect x="{j * across:.2f}" y="{i * down:.2f}" width="{across:.2f}" height="{down:.2f}" '
        f'fill-opacity="{shade / 20:.2f}"/>'
        for i, row in enumerate(shades)
        for j, shade in enumerate(row)
        if shade
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{side}" height="{side}" viewBox="0 0 {side} {side}" '
        f'role="img"><title>{title}</title><rect width="{side}" height="{side}" fill="#fff" stroke="#888"/>'
        f'<g fill="#08306b">{cells}</g></svg>'
    )


def row_of_thumbnails(pictures: list[Float[Tensor, "r c"]], titles: list[str]) -> str:
    """Small pictures side by side."""
    drawn = (heat_svg(one, side=_THUMBNAIL, title=title) for one, title in zip(pictures, titles, strict=True))
    return f'<div style="display: flex; gap: 2px; margin: 2px 0">{"".join(drawn)}</div>'
