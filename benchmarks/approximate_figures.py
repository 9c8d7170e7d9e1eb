"""The results of approximate.py as Markdown tables and as line charts in SVG, without a drawing library."""

import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

COLOURS = ("#1f6fb4", "#d9601a", "#2a8c3c", "#b0304a", "#7a55b5", "#8a6b3d", "#3d8f99", "#777777", "#b58900")
_FONT = 'font-family="system-ui, sans-serif" font-size="12" fill="#444"'
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 670, 380, 62, 180, 34, 46

Points = Sequence[tuple[float, float]]


def table(results: Mapping[str, Any]) -> str:
    """What was measured, a Markdown table for each part."""
    shown: list[str] = []
    if "curves" in results:
        rows = [
            [
                row["family"],
                str(row["size"] or "–"),
                f"{row['error']:.3f}",
                f"{min(row['errors']):.3f} – {max(row['errors']):.3f}",
                *(f"{row[key]:.2f}" if key in row else "–" for key in ("time_ratio_512", "time_ratio_2048")),
            ]
            for row in results["curves"]["rows"]
        ]
        heads = ("core", "size", "error", "layer by layer", "time / exact, 512", "time / exact, 2,048")
        shown.append(markdown(heads, rows))
    if "cost" in results:
        rows = results["cost"]["rows"]
        lengths = sorted({row["length"] for row in rows})
        found = {(row["core"], row["length"]): row for row in rows}
        body = [
            [
                core,
                *(
                    f"{found[core, n]['both_s']:.3g} s, {found[core, n]['both_mb']:.0f} MB"
                    if (core, n) in found
                    else ""
                    for n in lengths
                ),
            ]
            for core in dict.fromkeys(row["core"] for row in rows)
        ]
        shown.append(markdown(("forward + backward", *(f"{n:,}" for n in lengths)), body))
    if "swap" in results:
        runs: dict[str, list[dict[str, Any]]] = {}
        for row in results["swap"]["rows"]:
            runs.setdefault(row["core"], []).append(row)
        body = [
            [
                core,
                *(f"{sum(one[key] for one in own) / len(own):.3f}" for key in ("accuracy", "macro_f1")),
                str(len(own)),
            ]
            for core, own in runs.items()
        ]
        shown.append(markdown(("core in all layers", "accuracy", "macro-F1", "runs"), body))
    return "\n\n".join(shown)


def _mean(runs: Sequence[Mapping[str, Any]], key: str) -> str:
    return f"{sum(run[key] for run in runs) / len(runs):.3f}"


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def draw(results: Mapping[str, Any]) -> dict[str, str]:
    """Charts by name: error by size, error by time, seconds and memory by length; of the parts that were measured."""
    drawn: dict[str, str] = {}
    if "curves" in results:
        rows = results["curves"]["rows"]
        by_size: dict[str, list[tuple[float, float]]] = {}
        by_time: dict[str, list[tuple[float, float]]] = {}
        ratios = {(row["family"], row["size"]): row.get("time_ratio_2048") for row in rows}
        for row in rows:
            if row["size"]:
                by_size.setdefault(row["family"], []).append((row["size"], row["error"]))
            ratio = ratios.get((row["family"].replace("fitted", "mean"), row["size"]))
            if ratio:
                by_time.setdefault(row["family"], []).append((ratio, row["error"]))
        titles = "Error on MiniLM's layers", "relative error"
        drawn["error"] = chart(titles[0], by_size, x="rank, landmarks, features or span", y=titles[1])
        drawn["trade"] = chart(titles[0], by_time, x="time / exact attention, 2,048 tokens", y=titles[1])
    if "cost" in results:
        for name, key, y in (("time", "both_s", "seconds"), ("memory", "both_mb", "added memory, MB")):
            lines: dict[str, list[tuple[float, float]]] = {}
            for row in results["cost"]["rows"]:
                if row[key] > 0:
                    lines.setdefault(row["core"], []).append((row["length"], row[key]))
            drawn[name] = chart("Forward and backward, 12 heads of 32", lines, x="tokens", y=y)
    return drawn


def chart(title: str, lines: Mapping[str, Points], *, x: str, y: str) -> str:
    """A line chart with both axes logarithmic."""
    points = [point for line in lines.values() for point in line]
    across = _scale([p[0] for p in points], _LEFT, _WIDTH - _RIGHT)
    down = _scale([p[1] for p in points], _HEIGHT - _BOTTOM, _TOP)
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" {_FONT}>',
        f"<title>{escape(title)}: {escape(y)} by {escape(x)}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="18" font-size="14">{escape(title)}</text>',
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(x)}</text>',
        f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{escape(y)}</text>',
    ]
    for value, at in across.ticks:
        parts.append(f'<path d="M{at} {_TOP}V{_HEIGHT - _BOTTOM}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{at}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{value:,g}</text>')
    for value, at in down.ticks:
        parts.append(f'<path d="M{_LEFT} {at}H{_WIDTH - _RIGHT}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{at + 4}" text-anchor="end">{value:,g}</text>')
    for number, (name, line) in enumerate(lines.items()):
        colour, places = COLOURS[number % len(COLOURS)], [(across(a), down(b)) for a, b in sorted(line)]
        path = " ".join(f"{a},{b}" for a, b in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{a}" cy="{b}" r="3" fill="{colour}"/>' for a, b in places]
        at = _TOP + 14 + 18 * number
        parts.append(f'<rect x="{_WIDTH - _RIGHT + 12}" y="{at - 9}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{_WIDTH - _RIGHT + 27}" y="{at}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


class _scale:  # noqa: N801 - used as a function
    """Numbers to places on a logarithmic axis, with ticks at 1, 2 and 5, or at powers of two where all are such."""

    def __init__(self, values: Sequence[float], start: float, stop: float) -> None:
        low, high = min(values), max(values)
        self.low, self.high, self.start, self.stop = low / 1.08, high * 1.08, start, stop
        if all(math.log2(value).is_integer() for value in values):
            candidates = sorted(set(values))
        else:
            tens = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            candidates = [digit * 10.0**power for power in tens for digit in (1, 2, 5)]
        self.ticks = [(value, self(value)) for value in candidates if self.low <= value <= self.high]

    def __call__(self, value: float) -> float:
        share = (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return round(self.start + share * (self.stop - self.start), 1)
