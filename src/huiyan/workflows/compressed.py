"""A model before and after compression, side by side: measured, as a card, and for the terminal."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from huiyan.core.devices import wait_for
from huiyan.core.files import atomic_text, write_json
from huiyan.data.examples import Examples
from huiyan.data.sample import spread
from huiyan.evaluation.comparison import compare_paired
from huiyan.models.low_rank import projections
from huiyan.models.weights import weight_files
from huiyan.tasks.artifact import Artifact
from huiyan.tasks.classify import class_indices
from huiyan.workflows import wording
from huiyan.workflows.judging.classes import ClassJudge
from huiyan.workflows.rank_search import Trial
from huiyan.workflows.rendering import render_compressed_card, render_size_picture

TIMED_ROWS = 128
ROUNDS = 5
PICTURE = "compression.svg"
ORIGINS = ("source", "revision", "licence", "origin", "family")
METRICS = ("accuracy", "macro_f1")


def compare_models(
    before: Artifact, after: Artifact, rows: Examples, trials: Sequence[Trial], *, folders: tuple[Path, Path]
) -> dict[str, Any]:
    """What the report says of the two models: size, speed, scores on ``rows`` with a paired test, and the ranks.

    Args:
        before: the full model.
        after: the smaller one, with the ranks of the last trial.
        rows: looked at here, once, and by nothing that chose the ranks.
        trials: the full model, then what was tried, the chosen one last.
        folders: where the two lie.
    """
    classes, original, chosen = before.manifest.classes, trials[0], trials[-1]
    judge, labels = ClassJudge(before.manifest.as_task()), class_indices(rows.labels, classes)
    old, new = before.outputs(rows.texts), after.outputs(rows.texts)
    sizes = [sum(path.stat().st_size for path in weight_files(folder)) for folder in folders]
    compared = {metric: compare_paired(labels, new, old, metric=metric, name="the full model") for metric in METRICS}
    return {
        "classes": list(classes),
        "before": judge.figures(labels, judge.of_probabilities(old)),
        "test": judge.figures(labels, judge.of_probabilities(new)),
        "comparisons": [
            {
                "metric": metric,
                "difference": found.difference,
                "low": found.interval.low,
                "high": found.interval.high,
                "p_value": found.p_value,
                "verdict": found.verdict,
                "words": found.words,
            }
            for metric, found in compared.items()
        ],
        "size": {
            "parameters": {"before": original.parameters, "after": chosen.parameters},
            "bytes": {"before": sizes[0], "after": sizes[1]},
        },
        "speed": rows_per_second(before, after, spread(rows.texts, TIMED_ROWS)),
        "ranks": {
            name: {"rank": chosen.ranks.get(name), "full": min(layer.in_features, layer.out_features)}
            for name, layer in projections(before.model.encoder).items()
        },
        "trials": [
            {name: getattr(trial, name) for name in ("lost", "parameters", "accuracy", "probability", "error")}
            for trial in trials
        ],
        "model": {name: getattr(before.manifest, name) for name in ORIGINS},
    }


def rows_per_second(before: Artifact, after: Artifact, texts: Sequence[str | tuple[str, str]]) -> dict[str, Any]:
    """How fast both answer the same texts, from text to probabilities: turn by turn, the median of several rounds."""
    models = {"before": before, "after": after}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for number in range(ROUNDS + 1):
        # Whoever goes second may find the caches warm: they take turns.
        for name in sorted(models, reverse=number % 2 == 0):
            device = next(models[name].model.parameters()).device
            wait_for(device)
            began = time.perf_counter()
            models[name].outputs(texts)
            wait_for(device)
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - began)
    return {
        "rows": len(texts),
        "rounds": ROUNDS,
        "threads": torch.get_num_threads(),
        "rows_per_second": {name: len(texts) / median(taken) for name, taken in seconds.items()},
    }


def write_compressed(folder: Path, report: Mapping[str, Any], *, name: str) -> None:
    """Write ``report.json``, ``README.md`` (a model card) and ``compression.svg`` into the folder.

    Args:
        folder: where to write.
        report: what ``compress`` measured.
        name: of the model, for the card.
    Raises:
        OutputError: the folder cannot be written.
    """
    # The name of a file may hold bytes that are not text: lone surrogates, which no file can hold.
    clean = json.loads(json.dumps(report, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace"))
    pages = {"README.md": render_compressed_card(clean, name=name), PICTURE: render_size_picture(clean)}
    write_json(folder / "report.json", clean)
    for page, text in pages.items():
        with atomic_text(folder / page) as file:
            file.write(text)


def compression_summary(report: Mapping[str, Any]) -> RenderableType:
    """The report for a terminal."""
    size, speed = report["size"], report["speed"]["rows_per_second"]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    for heading in ("before", "after"):
        table.add_column(heading, min_width=19)
    table.add_row("parameters", *(wording.count(size["parameters"][when]) for when in ("before", "after")))
    table.add_row("weights", *(wording.size(size["bytes"][when]) for when in ("before", "after")))
    for metric in METRICS:
        figures = [report[when]["metrics"][metric] for when in ("before", "test")]
        table.add_row(wording.metric_name(metric), *map(_with_interval, figures))
    table.add_row("rows a second", *(f"{speed[when]:,.0f}" for when in ("before", "after")))
    rows = wording.count(report["data"]["reporting_rows"])
    return Group(
        table,
        Text(f"Scores on {rows} rows that chose nothing. In brackets: 95 % intervals over them.", style="dim"),
        Text(),
        Text(wording.printable(report["comparisons"][0]["words"])),
    )


def _with_interval(metric: Mapping[str, Any]) -> str:
    return f"{wording.score(metric['value'])} ({wording.score(metric['low'])}…{wording.score(metric['high'])})"
