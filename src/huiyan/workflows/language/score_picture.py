"""A text with its surprises as a picture: in a terminal, on a page, as PNG."""

import math
import unicodedata
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from huiyan.workflows import wording
from huiyan.workflows.drawing import saved_png
from huiyan.workflows.language.score import Scored

FULL_BITS = 12.0
"""From here on the colour is at its strongest: one in 4,096."""
_LIGHT, _DARK = (255, 255, 255), (214, 73, 51)
_COLUMNS, _MOST_LINES = 96, 60
_LINE_BREAK = "⏎"


def terminal_picture(scored: Scored, *, most: int = 5) -> RenderableType:
    """The text, the redder the more of a surprise, and the parts that surprised most."""
    line = Text()
    for part, bits in _with_bits(scored):
        red, green, blue = colour(bits)
        shown = "".join(character if character == "\n" else wording.printable(character) for character in part)
        line.append(shown, style=f"rgb(20,20,20) on rgb({red},{green},{blue})")
    ranked = sorted(_with_bits(scored), key=lambda one: -one[1])[:most]
    told = ", ".join(f"{wording.printable(part)!r} {bits:.1f}" for part, bits in ranked)
    return Group(line, Text(), Text(sentence(scored), style="bold"), Text(f"Most bits: {told}", style="dim"))


def sentence(scored: Scored) -> str:
    """The figures of the whole text."""
    return (
        f"{scored.bits_per_character:.3f} bits a character, perplexity {scored.perplexity:,.2f} a token "
        f"({scored.n_tokens:,} tokens)"
    )


def html_picture(scored: Scored) -> str:
    """The text as HTML, escaped; each part says its bits to who points at it."""
    spans = (
        f'<span style="background:rgb({",".join(map(str, colour(bits)))})" title="{bits:.1f} bits">'
        f"{escape(part)}</span>"
        for part, bits in _with_bits(scored)
    )
    return "".join(spans)


def save_png(scored: Scored, path: Path) -> list[str]:
    """The text in lines, each part on its colour; a long text is cut, and that is said.

    Returns:
        What the user should know.
    Raises:
        MissingExtraError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    lines = list(_lines(scored))
    shown = lines[:_MOST_LINES]

    def draw(figure: Any) -> None:
        from matplotlib.patches import Rectangle

        axes = figure.subplots()
        axes.set_xlim(0, _COLUMNS)
        axes.set_ylim(len(shown), -0.2)
        axes.axis("off")
        for row, cells in enumerate(shown):
            for column, width, part, bits in cells:
                shade = tuple(channel / 255 for channel in colour(bits))
                axes.add_patch(Rectangle((column, row), width, 0.92, color=shade, linewidth=0))
                # A dollar sign would begin a formula.
                label = wording.printable(part.replace("\n", _LINE_BREAK)).replace("$", r"\$")
                axes.text(column + width / 2, row + 0.5, label, fontsize=9, ha="center", va="center")
        axes.set_title(sentence(scored), fontsize=10)

    remarks = saved_png(path, draw, inches=(11, 0.5 + 0.26 * len(shown)), text="".join(scored.parts))
    if len(lines) > len(shown):
        remarks = [*remarks, f"The picture holds the first {len(shown)} of {len(lines)} lines."]
    return remarks


def colour(bits: float) -> tuple[int, int, int]:
    """From white, no surprise, to red."""
    share = min(1.0, max(0.0, bits / FULL_BITS))
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(_LIGHT, _DARK, strict=True))
    return red, green, blue


def _with_bits(scored: Scored) -> Iterator[tuple[str, float]]:
    for part, nats in zip(scored.parts, scored.nats, strict=True):
        yield part, nats / math.log(2)


def _lines(scored: Scored) -> Iterator[list[tuple[int, int, str, float]]]:
    """Cells of each line: column, width, text, bits."""
    line, column = list[tuple[int, int, str, float]](), 0
    for part, bits in _with_bits(scored):
        width = max(1, sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in part))
        if column + width > _COLUMNS and line:
            yield line
            line, column = [], 0
        line.append((column, min(width, _COLUMNS), part, bits))
        column += width
        if part.endswith("\n"):
            yield line
            line, column = [], 0
    if line:
        yield line
