"""Small pictures as SVG text: heat maps, line charts, and several side by side. Plain Python, for pages and notebooks.

In a notebook a ``Picture`` that ends a cell is shown; elsewhere ``picture.svg()`` is the text of a file.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from huiyan.workflows.figures import ticks

PLUS, MINUS, INK, GREY, RULE = "#0b6b62", "#b4540a", "#1d1b19", "#5d5852", "#d9d3ca"
COLOURS = (PLUS, MINUS, "#3b5ba5", "#8a5aa8", "#7a7a2a", "#a8324a", "#4a4a4a")
FONT = "system-ui, 'Noto Sans', 'Noto Sans CJK SC', sans-serif"


@dataclass(frozen=True)
class Picture:
    """Elements of SVG in a box of ``width`` × ``height``."""

    width: float
    height: float
    parts: tuple[str, ...]

    def svg(self, label: str = "") -> str:
        """The text of an SVG file; ``label`` says what is to be seen, for those who cannot see it."""
        size = f"{self.width:.0f}", f"{self.height:.0f}"
        role = f' role="img" aria-label="{escape(label)}"' if label else ""
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" width="{size[0]}" height="{size[1]}"{role}'  # noqa: E501
        body = [
            f'{head} font-family="{FONT}" font-size="11">',
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            *self.parts,
        ]
        return "\n".join([*body, "</svg>", ""])

    def _repr_svg_(self) -> str:
        return self.svg()

    def __repr__(self) -> str:
        return f"Picture({self.width:.0f} × {self.height:.0f})"


def heat_map(
    values: Any,
    *,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    title: str = "",
    digits: int | None = 2,
    cell: float = 34,
    largest: float | None = None,
) -> Picture:
    """A matrix: the deeper the colour, the larger the number; orange below 0.

    Args:
        values: rows of numbers; a tensor, an array or lists.
        rows: what stands before each row.
        columns: what stands above each column.
        title: over all.
        digits: decimals written into each cell; None writes nothing.
        cell: width of a cell; its height is the same, or less where a number is written.
        largest: the number of the deepest colour; None is the largest there is.
    """
    table = [[float(x) for x in row] for row in values]
    full = largest or max((abs(x) for row in table for x in row), default=1.0) or 1.0
    left = 8 + max((_text_width(row) for row in rows), default=0)
    top = (22 if title else 4) + (16 if columns else 0)
    height = cell if digits is None else min(cell, 22)
    parts = [_text(left, 14, title, bold=True)] if title else []
    parts += [
        _text(left + (i + 0.5) * cell, top - 5, name, anchor="middle", fill=GREY) for i, name in enumerate(columns)
    ]
    parts += [
        _text(left - 5, top + (i + 0.5) * height + 4, name, anchor="end", fill=GREY) for i, name in enumerate(rows)
    ]
    for i, row in enumerate(table):
        for j, x in enumerate(row):
            strength = min(1.0, abs(x) / full)
            place = f'x="{_n(left + j * cell)}" y="{_n(top + i * height)}" width="{_n(cell)}" height="{_n(height)}"'
            if strength >= 0.005:
                parts.append(f'<rect {place} fill="{PLUS if x > 0 else MINUS}" fill-opacity="{strength:.2f}"/>')
            if digits is not None:
                ink = "#ffffff" if strength > 0.55 else INK
                middle = left + (j + 0.5) * cell, top + (i + 0.5) * height + 3.5
                parts.append(_text(*middle, _number(x, digits), anchor="middle", fill=ink, size=9.5))
    width_, height_ = len(table[0]) * cell, len(table) * height
    parts += [_grid(left, top, len(table), len(table[0]), cell, height), _frame(left, top, width_, height_)]
    wide = max(left + width_, left + _text_width(title, 12.5) + 4)
    return Picture(wide + 4, top + height_ + 6, tuple(parts))


def pattern(values: Any, *, title: str = "", cell: float = 12, rule: int | None = 1) -> Picture:
    """A square for each number that is not 0, as deep as the number, up to 1: masks, blocks, what dropout drops.

    Args:
        values: rows of numbers or booleans.
        title: over all.
        cell: width and height of a square.
        rule: a thin line every so many cells; None draws none.
    """
    table = [[float(x) for x in row] for row in values]
    n_rows, n_columns, top = len(table), len(table[0]), 22 if title else 4
    parts = [_text(4, 14, title, bold=True)] if title else []
    for depth in sorted({x for row in table for x in row if x}):
        squares = "".join(
            f"M{_n(4 + j * cell)} {_n(top + i * cell)}h{_n(cell)}v{_n(cell)}h{_n(-cell)}z"
            for i, row in enumerate(table)
            for j, x in enumerate(row)
            if x == depth
        )
        parts.append(f'<path d="{squares}" fill="{PLUS}" fill-opacity="{min(1.0, depth):.2f}"/>')
    if rule is not None:
        across = "".join(f"M4 {_n(top + i * cell)}h{_n(n_columns * cell)}" for i in range(rule, n_rows, rule))
        down = "".join(f"M{_n(4 + j * cell)} {_n(top)}v{_n(n_rows * cell)}" for j in range(rule, n_columns, rule))
        parts.append(f'<path d="{across}{down}" stroke="{RULE}" stroke-width="0.8" fill="none"/>')
    parts.append(_frame(4, top, n_columns * cell, n_rows * cell))
    wide = max(8 + n_columns * cell, 8 + _text_width(title, 12.5))
    return Picture(wide, top + n_rows * cell + 6, tuple(parts))


def line_chart(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    title: str = "",
    x_title: str = "",
    width: float = 230,
    height: float = 150,
    logarithmic: bool = False,
    dashed: Iterable[str] = (),
    key: bool = True,
) -> Picture:
    """Lines through points, a name each.

    Args:
        series: name → (x of each point, y of each point).
        title: over all.
        x_title: under the axis.
        width: of the plot, without numbers and names.
        height: likewise.
        logarithmic: both axes; else none.
        dashed: names of the lines that are dashed.
        key: whether names are written under the chart.
    """
    xs, ys = ([float(v) for line in series.values() for v in line[place]] for place in (0, 1))
    if logarithmic:
        x_ticks, bends = sorted(set(xs)), (math.log2, math.log10)
        low, high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))
        y_ticks = [10.0**power for power in range(low, max(high, low + 1) + 1)]
    else:
        x_ticks, y_ticks, bends = ticks(min(xs), max(xs)), ticks(min(ys), max(ys)), (float, float)
    left, top = 12 + max(_text_width(_tick(y)) for y in y_ticks), 26
    across = _axis(x_ticks, left, width, bends[0])
    down = _axis(y_ticks, top + height, -height, bends[1])

    parts = [_text(left, 14, title, bold=True)] if title else []
    for y in y_ticks:
        parts += [
            f'<path d="M{_n(left)} {_n(down(y))}h{_n(width)}" stroke="{RULE}"/>',
            _text(left - 5, down(y) + 4, _tick(y), anchor="end", fill=GREY),
        ]
    parts += [_text(across(x), top + height + 15, _tick(x), anchor="middle", fill=GREY) for x in x_ticks]
    bottom = top + height + 20
    if x_title:
        bottom += 13
        parts.append(_text(left + width / 2, bottom - 3, x_title, anchor="middle", fill=GREY))
    for number, (name, (its_xs, its_ys)) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(f"{_n(across(float(x)))},{_n(down(float(y)))}" for x, y in zip(its_xs, its_ys, strict=True))
        dash = ' stroke-dasharray="5 3"' if name in dashed else ""
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>')
        if key:
            bottom += 15
            parts += [
                f'<path d="M{_n(left)} {_n(bottom - 4)}h18" stroke="{colour}" stroke-width="2.5"{dash}/>',
                _text(left + 24, bottom, name, fill=GREY),
            ]
    names = max((_text_width(name) + 24 for name in series), default=0) if key else 0
    wide = left + max(width + _text_width(_tick(x_ticks[-1])) / 2, names, _text_width(title, 12.5))
    return Picture(wide + 6, bottom + 8, tuple(parts))


def beside(*pictures: Picture, columns: int | None = None, gap: float = 22) -> Picture:
    """Pictures in rows of ``columns``, each row and each column as large as its largest; None is one row."""
    columns = columns or len(pictures)
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    widths = [max(row[i].width for row in rows if i < len(row)) for i in range(min(columns, len(pictures)))]
    parts: list[str] = []
    y = gap / 2
    for row in rows:
        x = gap / 2
        for picture, width in zip(row, widths, strict=False):
            parts += [f'<g transform="translate({_n(x)} {_n(y)})">', *picture.parts, "</g>"]
            x += width + gap
        y += max(picture.height for picture in row) + gap
    return Picture(sum(widths) + gap * len(widths), y - gap / 2, tuple(parts))


def _axis(
    marks: Sequence[float], start: float, size: float, bend: Callable[[float], float]
) -> Callable[[float], float]:
    low, high = bend(marks[0]), bend(marks[-1])
    return lambda x: start + size * (bend(x) - low) / (high - low)


def _grid(left: float, top: float, n_rows: int, n_columns: int, cell: float, height: float) -> str:
    down = "".join(f"M{_n(left + j * cell)} {_n(top)}v{_n(n_rows * height)}" for j in range(1, n_columns))
    across = "".join(f"M{_n(left)} {_n(top + i * height)}h{_n(n_columns * cell)}" for i in range(1, n_rows))
    return f'<path d="{down}{across}M0 0" stroke="#ffffff" stroke-width="0.6" fill="none"/>'


def _frame(left: float, top: float, width: float, height: float) -> str:
    place = f'x="{_n(left)}" y="{_n(top)}" width="{_n(width)}" height="{_n(height)}"'
    return f'<rect {place} fill="none" stroke="{RULE}"/>'


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", fill: str = INK, size: float = 11, bold: bool = False
) -> str:
    extra = ' font-weight="600" font-size="12"' if bold else "" if size == 11 else f' font-size="{size}"'
    anchored = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{_n(x)}" y="{_n(y)}" fill="{fill}"{anchored}{extra}>{escape(text)}</text>'


def _text_width(text: str, size: float = 11) -> float:
    """About how wide a text is: nobody measures it before it is drawn."""
    return sum(1.0 if ord(char) > 0x2E80 else 0.58 for char in text) * size


def _number(x: float, digits: int) -> str:
    return f"{x:.{digits}f}".replace("-", "−") if round(x, digits) else f"{0:.{digits}f}"


def _tick(x: float) -> str:
    return f"{x:,.10g}".replace("-", "−")


def _n(x: float) -> str:
    return f"{x:.1f}".removesuffix(".0")
