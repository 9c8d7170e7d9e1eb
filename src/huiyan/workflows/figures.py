"""Where things lie in the report's figures: plain numbers, which the template draws."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

# Above this a coloured table is unreadable, and the most frequent confusions are listed in its place.
MAX_CONFUSION_CLASSES = 20
_MAX_POINTS = 400
_WIDTH, _HEIGHT = 480, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 34


def learning_curves(history: Sequence[Mapping[str, Any]], *, metric: str, best_step: int) -> list[dict[str, Any]]:
    """Two charts over the training steps: the losses, and the metric on the validation rows.

    Args:
        history: the report's ``training.history``.
        metric: the metric that chose the best step.
        best_step: is marked where it lies on the axis.
    Returns:
        Charts with at least one line of two points, each as ``line_chart`` gives.
    """
    losses = {
        "training loss": [(row["step"], row["train_loss"]) for row in history],
        "validation loss": [(row["step"], row["validation_loss"]) for row in history],
    }
    scores = {metric: [(row["step"], (row["validation"] or {}).get(metric)) for row in history]}
    charts = [line_chart("Loss", losses, mark=best_step), line_chart("Validation", scores, mark=best_step)]
    return [chart for chart in charts if chart is not None]


def calibration_charts(calibration: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The reliability diagram, before and after the temperature, and accuracy among the surest answers.

    Args:
        calibration: the report's.
    Returns:
        Charts with at least one line of two points, each as ``line_chart`` gives.
    """

    def of(measured: Mapping[str, Any]) -> list[tuple[float, float]]:
        return [(one["confidence"], one["accuracy"]) for one in measured["bins"]]

    before, after = of(calibration["before"]), of(calibration["after"])
    least = min(x for x, _ in [*before, *after])
    reliability = {"calibrated": after, "as trained": before, "perfect": [(least, least), (1.0, 1.0)]}
    coverage = {"accuracy": [(one["coverage"], one["accuracy"]) for one in calibration["coverage"]]}
    charts = [
        line_chart("Share right against how sure the model is", reliability, unit="", over=""),
        line_chart("Accuracy against the share of texts answered, the surest first", coverage, unit="", over=""),
    ]
    return [chart for chart in charts if chart is not None]


def exit_chart(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Scores on the test rows against measured speed, a point for every patience; the chosen one is marked.

    Args:
        record: as ``early_exit.json`` holds it.
    """
    speeds = [1 / point["seconds_per_row"] for point in record["test"]["curve"]]
    scores = {
        name: [(speed, point[name]) for speed, point in zip(speeds, record["test"]["curve"], strict=True)]
        for name in ("accuracy", "macro_f1")
    }
    mark = speeds[record["patience"] - 1]
    chart = line_chart("Test scores against texts a second", scores, mark=mark, unit="", over="")
    if chart is not None:
        dots = zip(chart["lines"][0]["dots"], record["test"]["curve"], strict=True)
        chart["labels"] = [{"x": x, "y": y - 9 if y > 30 else y + 18, "text": p["patience"]} for (x, y), p in dots]
    return chart


def size_chart(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Accuracy (in %) against millions of parameters over the ranks a compression tried; the chosen size is marked.

    Args:
        report: of ``huiyan compress``; its first trial is the full model, its last the chosen one.
    """
    points = [(trial["parameters"] / 1e6, 100 * trial["accuracy"]) for trial in report["trials"]]
    series: dict[str, list[tuple[float, float | None]]] = {"accuracy": [*sorted(points)]}
    if report["options"]["max_loss"] is not None:
        least = points[0][1] - report["options"]["max_loss"]
        series["least allowed"] = [(min(points)[0], least), (max(points)[0], least)]
    title, size = "Accuracy (%) against size (millions of parameters)", "size"
    return line_chart(title, series, mark=points[-1][0], unit=" M", over=size)


def scatter_chart(points: Sequence[Sequence[float]]) -> dict[str, Any] | None:
    """What was answered against what is so, a dot a row, and the line on which answers are right.

    Args:
        points: pairs of the number and the answer.
    Returns:
        As ``line_chart`` gives, with the dots under ``scatter``; None where all numbers are one.
    """
    low, high = min(x for x, _ in points), max(x for x, _ in points)
    if low == high:
        return None
    right = {"a right answer": [(low, low), (high, high)]}
    return line_chart("Answer against the number", right, unit="", over="", dots=points)


def line_chart(
    title: str,
    series: Mapping[str, Sequence[tuple[float, float | None]]],
    *,
    mark: float | None = None,
    unit: str = " steps",
    over: str = " over the training steps",
    dots: Sequence[Sequence[float]] = (),
) -> dict[str, Any] | None:
    """Geometry of a line chart in a ``width`` × ``height`` box; None when no line has two points.

    Args:
        title: of the chart.
        series: name → (x, y) points; points without y are left out.
        mark: x of a vertical line; None for none.
        unit: what x counts, behind its last number.
        over: what follows the title where the chart is described, in words.
        dots: (x, y) of marks that no line connects.
    """
    styles = {name: number for number, name in enumerate(series, start=1)}  # a line that is left out leaves its own
    lines = {name: _thinned([(x, y) for x, y in points if y is not None]) for name, points in series.items()}
    lines = {name: points for name, points in lines.items() if len(points) > 1}
    if not lines:
        return None
    everything = [*(point for points in lines.values() for point in points), *((x, y) for x, y in dots)]
    x_ticks = ticks(min(x for x, _ in everything), max(x for x, _ in everything))
    y_ticks = ticks(min(y for _, y in everything), max(y for _, y in everything))

    def across(x: float) -> float:
        return round(_LEFT + (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * (_WIDTH - _LEFT - _RIGHT), 1)

    def down(y: float) -> float:
        return round(_HEIGHT - _BOTTOM - (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (_HEIGHT - _TOP - _BOTTOM), 1)

    return {
        "title": title,
        "unit": unit,
        "over": over,
        "labels": [],
        "scatter": [(across(x), down(y)) for x, y in dots],
        "width": _WIDTH,
        "height": _HEIGHT,
        "left": _LEFT,
        "right": _WIDTH - _RIGHT,
        "top": _TOP,
        "bottom": _HEIGHT - _BOTTOM,
        "x_ticks": [{"at": across(x), "label": f"{x:,.10g}"} for x in x_ticks],
        "y_ticks": [{"at": down(y), "label": f"{y:.10g}"} for y in y_ticks],
        "lines": [
            {
                "name": name,
                "style": styles[name],
                "points": " ".join(f"{across(x)},{down(y)}" for x, y in points),
                "dots": [(across(x), down(y)) for x, y in points] if len(points) <= 30 else [],
                "last": points[-1][1],
            }
            for name, points in lines.items()
        ],
        "mark": None if mark is None or not x_ticks[0] <= mark <= x_ticks[-1] else across(mark),
    }


def ticks(low: float, high: float, *, n: int = 5) -> list[float]:
    """About ``n`` round numbers whose first is at most ``low`` and last at least ``high``; always two or more."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / max(1, n - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def confusion_table(classes: Sequence[str], confusion: Sequence[Sequence[int]]) -> dict[str, Any]:
    """The confusion matrix for the page: a table while it is readable, and the most frequent confusions.

    Returns:
        ``rows`` (empty above ``MAX_CONFUSION_CLASSES``): name, total, and cells of count, share of the row, and
        whether it is the diagonal; ``pairs``: up to 20 of actual, predicted, count, share, most frequent first.
    """
    rows: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    for i, (name, row) in enumerate(zip(classes, confusion, strict=True)):
        total = sum(row)
        shares = [n / total if total else 0.0 for n in row]
        rows.append(
            {
                "name": name,
                "total": total,
                "cells": [{"count": n, "share": shares[j], "right": i == j} for j, n in enumerate(row)],
            }
        )
        pairs += [
            {"actual": name, "predicted": classes[j], "count": n, "share": shares[j]}
            for j, n in enumerate(row)
            if n and i != j
        ]
    pairs.sort(key=lambda pair: -pair["count"])
    return {"rows": rows if len(classes) <= MAX_CONFUSION_CLASSES else [], "pairs": pairs[:20]}


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    if len(points) <= _MAX_POINTS:
        return points
    step = math.ceil(len(points) / _MAX_POINTS)
    return [*points[:-1:step], points[-1]]
