"""Attention as a picture: in a terminal, as PNG, in a notebook."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.cells import set_cell_size
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from huiyan.workflows import wording
from huiyan.workflows.attention import Looked
from huiyan.workflows.drawing import saved_png

MOST_WORDS = 40
"""Words in a terminal's picture; of a longer text those that are looked at most."""
LABEL_WIDTH = 14
_TOLD, _LEAST_TOLD = 0.05, 24
_SHADES = " ·░▒▓█"
_THUMBNAIL = 0.42
"""Inches."""


def terminal_picture(looked: Looked, layer: int, head: int, *, width: int = 120) -> RenderableType:
    """One head: who looks (down) at whom (across), and what each word looks at most.

    Args:
        looked: the maps of a text.
        layer: from 0.
        head: from 0.
        width: of the terminal, in places; of a text that does not fit, the words are shown that are looked at most.
    """
    weights = looked.in_words(layer, head).cpu().numpy()
    room = width - LABEL_WIDTH - 5
    chosen = _chosen(weights, most=max(4, min(MOST_WORDS, (room - _LEAST_TOLD) // 2)))
    wide = 3 if 3 * len(chosen) + _LEAST_TOLD <= room else 2
    numbers = [str(place % 100) for place in range(len(chosen))]
    lines = [
        Text(" " * (LABEL_WIDTH + 5) + "".join(number.rjust(wide) for number in numbers) + "  looks at", style="dim")
    ]
    for place, word in enumerate(chosen):
        row = weights[word]
        most = np.argsort(-row, kind="stable")[:3].tolist()
        told = [f"{wording.printable(looked.words[one])} {row[one]:.0%}" for one in most if row[one] >= _TOLD]
        line = Text(f"{numbers[place]:>3} ", style="dim", no_wrap=True, overflow="ellipsis")
        line.append(set_cell_size(wording.printable(looked.words[word]), LABEL_WIDTH) + " ", style="not dim")
        line.append("".join(_shade(float(row[other])) * wide for other in chosen), style="cyan not dim")
        line.append("  " + ", ".join(told))
        lines.append(line)
    title = Text(f"layer {layer}, head {head}", style="bold")
    if len(chosen) < len(weights):
        title.append(f" (the {len(chosen)} of {len(weights)} words that are looked at most)", style="not bold dim")
    return Group(title, *lines)


def head_table(looked: Looked, most: int | None = None) -> RenderableType:
    """How every head looks."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("layer", "head", "entropy", "distance", "to special tokens"):
        table.add_column(name, justify="right")
    table.add_column("looked at most")
    for one in looked.statistics()[:most]:
        table.add_row(
            str(one["layer"]),
            str(one["head"]),
            f"{one['entropy']:.2f}",
            f"{one['distance']:.1f}",
            f"{one['to_special']:.0%}",
            Text(f"{wording.printable(one['most'])} {one['most_share']:.0%}"),
        )
    note = "Entropy in nats: 0 looks at one token. Distance in tokens. All are means over the tokens of the text."
    return Group(table, Text(note, style="dim"))


def save_png(looked: Looked, path: Path, layer: int, head: int) -> list[str]:
    """Layers × heads as thumbnails, and one head large, with words.

    Returns:
        What the user should know, such as a font that is missing.
    Raises:
        MissingExtraError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    n_layers, n_heads = len(looked.layers), max(map(len, looked.layers))
    size = min(14.0, max(5.0, 0.24 * len(looked.words) + 1.5))
    small = _THUMBNAIL * n_heads + 0.8

    def draw(figure: Any) -> None:
        left, right = figure.subfigures(1, 2, width_ratios=[small, size])
        _draw_all(left, looked, (layer, head))
        _draw_one(right, looked, layer, head)

    inches = (size + small, max(size, _THUMBNAIL * n_layers + 1.2))
    return saved_png(path, draw, inches=inches, text="".join(looked.words))


def _draw_all(figure: Any, looked: Looked, chosen: tuple[int, int]) -> None:
    """Every head as a thumbnail, the chosen one framed."""
    axes = figure.subplots(len(looked.layers), max(map(len, looked.layers)), squeeze=False)
    figure.supxlabel("head")
    figure.supylabel("layer")
    for layer, head in np.ndindex(*axes.shape):
        one = axes[layer, head]
        one.set_xticks([])
        one.set_yticks([])
        if head >= len(looked.layers[layer]):
            one.set_visible(False)
            continue
        _draw(one, looked.in_words(layer, head).cpu().numpy())
        if layer == len(looked.layers) - 1:
            one.set_xlabel(str(head), fontsize=7)
        if head == 0:
            one.set_ylabel(str(layer), fontsize=7, rotation=0, labelpad=6)
        if (layer, head) == chosen:
            for spine in one.spines.values():
                spine.set_color("#d1495b")
                spine.set_linewidth(2)


def _draw_one(figure: Any, looked: Looked, layer: int, head: int) -> None:
    """One head with its words."""
    # A dollar sign would begin a formula.
    labels = [wording.printable(word).replace("$", r"\$") for word in looked.words]
    axes = figure.subplots()
    drawn = _draw(axes, looked.in_words(layer, head).cpu().numpy())
    axes.set_title(f"layer {layer}, head {head}: who looks (down) at whom (across)", fontsize=10)
    font = max(4.0, min(9.0, 400 / max(1, len(labels))))
    axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=font)
    axes.set_yticks(range(len(labels)), labels, fontsize=font)
    figure.colorbar(drawn, ax=axes, shrink=0.6, label="weight")


def notebook_table(rows: Sequence[dict[str, Any]]) -> str:
    """Statistics as an HTML table, escaped."""
    head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in (rows[0] if rows else {}))
    body = "".join(f"<tr>{''.join(map(_cell, row.values()))}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    return f"<td>{escape(f'{value:.2f}' if isinstance(value, float) else str(value))}</td>"


def _draw(axes: Any, weights: np.ndarray) -> Any:
    # The root lets small weights be seen beside the large ones of special tokens.
    from matplotlib.colors import PowerNorm

    return axes.imshow(weights, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")


def _chosen(weights: np.ndarray, most: int) -> list[int]:
    """Which words are shown, in their order."""
    if len(weights) <= most:
        return list(range(len(weights)))
    return sorted(np.argsort(-weights.sum(axis=0), kind="stable")[:most].tolist())


def _shade(weight: float) -> str:
    # By the root, as in the picture: 0.02 is seen.
    return _SHADES[min(len(_SHADES) - 1, round(weight**0.5 * (len(_SHADES) - 1)))]
