"""What the schemes that are added to the input have in common."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from huiyan.core.errors import ShapeError


def positions_of(x: Float[Tensor, "*n m"]) -> Int[Tensor, " l"]:
    """0, 1, … along the last dimension but the width."""
    return torch.arange(x.shape[-2], device=x.device)


def check_input(module: nn.Module, x: Tensor, positions: Tensor | None, *, width: int) -> None:
    """Refuse what would otherwise broadcast to another shape, or to a wrong one.

    Raises:
        ShapeError: a width that is not the module's, or positions that do not broadcast.
    """
    name = type(module).__name__
    if x.dim() < 2 or x.shape[-1] != width:
        raise ShapeError(f"{name} takes `… l m` with m = {width}. Got {tuple(x.shape)} instead.")
    if positions is not None:
        check_positions(name, positions, x.shape[:-1])


def check_positions(name: str, positions: Tensor, leading: torch.Size) -> None:
    """Refuse positions that do not broadcast to the shape of the tokens.

    Raises:
        ShapeError: they do not.
    """
    aligned = zip(reversed(positions.shape), reversed(leading), strict=False)
    if positions.dim() > len(leading) or any(have not in (1, want) for have, want in aligned):
        raise ShapeError(
            f"{name} needs positions that broadcast to {tuple(leading)}. Got {tuple(positions.shape)} instead.",
            hint="A packed row takes one position for each of its tokens.",
        )
