"""Time and memory over length on logarithmic axes, as one SVG with two panels."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Colour is the engine, the dash is the variant; a hollow dot is extrapolated.
LINES = {
    ("huiyan", "plain"): ("Huiyan, plain", "#0b6b62", ""),
    ("sdpa", "plain"): ("SDPA, plain", "#b4540a", ""),
    ("huiyan", "t5"): ("Huiyan, learned bias", "#0b6b62", "7 3"),
    ("sdpa", "t5"): ("SDPA, learned bias", "#b4540a", "7 3"),
    ("huiyan", "window"): ("Huiyan, window", "#0b6b62", "2 3"),
    ("sdpa", "window"): ("SDPA, window", "#b4540a", "2 3"),
}
PANELS = {"seconds": "Seconds", "extra_bytes": "Peak memory above the inputs"}
WIDTH, HEIGHT, LEFT, TOP, GAP, RIGHT = 330, 260, 62, 76, 90, 34
Points = Mapping[tuple[str, str], Sequence[tuple[int, float, bool]]]

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #5d5852; }
.title { font-weight: 600; fill: #1d1b19; }
.grid { stroke: #e2ddd5; }
polyline, .key { fill: none; stroke-width: 2.2; stroke-linejoin: round; }
"""


def draw(cells: Iterable[Mapping[str, Any]]) -> str:
    """Forward and backward in fp32: the figure as the text of a file."""
    chosen = [one for one in cells if (one["dtype"], one["mode"]) == ("fp32", "both") and "seconds" in one]
    width, height = LEFT + 2 * WIDTH + GAP + RIGHT, TOP + HEIGHT + 78
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"',
        'role="img" aria-label="Time and peak memory of attention over sequence length">',
        f"<style>{STYLE}</style>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        '<text class="title" x="12" y="20">Attention forward and backward, fp32, 8 heads × 64, over tokens</text>',
        '<text x="12" y="37">hollow: extrapolated</text>',
    ]
    for place, (field, title) in enumerate(PANELS.items()):
        points = {
            line: sorted(
                (one["n"], one[field], one["how"] == "measured")
                for one in chosen
                if (one["engine"], one["variant"]) == line and one[field] > 0
            )
            for line in LINES
        }
        parts += _panel(points, title, LEFT + place * (WIDTH + GAP), field)
    return "\n".join([*parts, *_key(TOP + HEIGHT + 48), "</svg>", ""])


def _panel(points: Points, title: str, left: float, field: str) -> list[str]:
    marks = [point for line in points.values() for point in line]
    if not marks:
        return []
    low, high = (turn(math.log10(value) for _, value, _ in marks) for turn in (min, max))
    low, high = math.floor(low), max(math.ceil(high), math.floor(low) + 1)
    lengths = sorted({n for n, _, _ in marks})
    first, last = math.log2(lengths[0]), max(math.log2(lengths[-1]), math.log2(lengths[0]) + 1)

    def at(n: float, value: float) -> tuple[float, float]:
        x = left + 8 + (WIDTH - 16) * (math.log2(n) - first) / (last - first)
        return round(x, 1), round(TOP + HEIGHT * (high - math.log10(value)) / (high - low), 1)

    parts = [f'<text class="title" x="{left}" y="{TOP - 10}">{title}</text>']
    for power in range(low, high + 1):
        y = at(lengths[0], 10.0**power)[1]
        parts.append(f'<line class="grid" x1="{left}" x2="{left + WIDTH}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{_power(power, field)}</text>')
    under = TOP + HEIGHT + 18
    parts += [f'<text x="{at(n, 1.0)[0]}" y="{under}" text-anchor="middle">{n:,}</text>' for n in lengths]
    for line, its in points.items():
        _, colour, dash = LINES[line]
        places = [at(n, value) for n, value, _ in its]
        joined = " ".join(f"{x},{y}" for x, y in places)
        parts.append(f'<polyline stroke="{colour}" stroke-dasharray="{dash or "none"}" points="{joined}"/>')
        for (x, y), (_, _, measured) in zip(places, its, strict=True):
            filled = colour if measured else "#ffffff"
            parts.append(f'<circle cx="{x}" cy="{y}" r="3.2" fill="{filled}" stroke="{colour}"/>')
    return parts


def _power(power: int, field: str) -> str:
    if field == "seconds":
        return f"{10.0**power:g}"
    unit, step = next((unit, step) for unit, step in (("GB", 9), ("MB", 6), ("kB", 3), ("B", -99)) if power >= step)
    return f"{10 ** (power - max(step, 0)):g} {unit}"


def _key(top: float) -> list[str]:
    parts = []
    for place, (name, colour, dash) in enumerate(LINES.values()):
        x, y = LEFT + 240 * (place // 2), top + 18 * (place % 2)
        parts.append(f'<line class="key" stroke="{colour}" stroke-dasharray="{dash or "none"}" x1="{x}" x2="{x + 34}" y1="{y - 4}" y2="{y - 4}"/>')  # noqa: E501 # fmt: skip
        parts.append(f'<text x="{x + 42}" y="{y}">{name}</text>')
    return parts
