"""One report, four readers: report.json (programs), report.html (people), README.md (the hub), the terminal."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from huiyan.core.errors import HuiyanError
from huiyan.core.files import atomic_text, write_json
from huiyan.workflows import wording
from huiyan.workflows.rendering import render_card, render_page

TERMINAL_METRICS = (
    *("accuracy", "micro_f1", "macro_f1", "macro_precision", "macro_recall", "weighted_f1", "exact_match"),
    *("label_accuracy", "qwk", "within_one", "mcc", "auroc", "r2", "mae", "rmse", "pearson", "spearman"),
)
"""Those a report has of these, in this order."""
_ONE_LABEL = ("micro_f1",)
"""With one label a text, the accuracy under another name."""

_SURROGATES = re.compile("[\ud800-\udfff]")


def write_report(folder: Path, report: dict[str, Any]) -> None:
    """Write ``report.json``, ``report.html`` and ``README.md`` (a model card) into ``folder``.

    The page needs nothing but itself: no script, no font, no network. Dates come from the report, not from the clock,
    so the same report gives the same bytes. Every file is made before the first is written.

    Args:
        folder: is made when it is not there.
        report: plain values under the keys of format 1. Lone surrogates, which no file can hold, become U+FFFD.
    Raises:
        HuiyanError: a number is NaN or infinite; its place in the report is named.
        OutputError: the folder cannot be written.
    """
    write_files(
        folder,
        report,
        lambda clean: {"report.html": render_page(clean), "README.md": render_card(clean, name=folder.name)},
    )


def write_files(folder: Path, report: Mapping[str, Any], render: Callable[[dict[str, Any]], Mapping[str, str]]) -> None:
    """Write ``report.json`` and what is rendered of it, when all of it could be.

    Args:
        folder: is made when it is not there.
        report: plain values.
        render: report → files by name.
    Raises:
        HuiyanError: a number is NaN or infinite; its place in the report is named.
        OutputError: the folder cannot be written.
    """
    clean: dict[str, Any] = _clean(report, "report")
    files = render(clean)
    write_json(folder / "report.json", clean)
    for name, text in files.items():
        with atomic_text(folder / name) as file:
            file.write(text)


def terminal_summary(report: Mapping[str, Any]) -> RenderableType:
    """The report for a terminal: the result, scores with intervals beside baselines, classes, warnings.

    Strings of the report are printed as they are, not as rich markup, and without control characters.
    """
    strongest = wording.strongest_baseline(report)
    return Group(
        Text(wording.result_sentence(report), style="bold"),
        *([Text(wording.printable(strongest["comparison"]["words"]))] if strongest else []),
        *[Text(sentence) for sentence in wording.repeated_sentences(report)],
        *([Text(sentence)] if (sentence := wording.answered_sentence(report["calibration"])) else []),
        *([Text("Early exit: " + wording.early_exit_sentence(report["early_exit"]))] if "early_exit" in report else []),
        *_tables(report["test"], report["baselines"]),
        *[Text.assemble(("Warning: ", "yellow"), wording.printable(text)) for text in report["warnings"]],
    )


def figures_table(figures: Mapping[str, Any]) -> RenderableType:
    """The same for a measurement without baselines: ``figures`` needs only the ``test`` part of a report."""
    answered = wording.answered_sentence(figures["test"])
    return Group(
        Text(wording.result_sentence(figures), style="bold"),
        *([Text(answered)] if answered else []),
        *_tables(figures["test"], []),
    )


def _tables(test: Mapping[str, Any], baselines: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    note = Text("In brackets: 95 % intervals over the test rows.", style="dim")
    tables: list[RenderableType] = [Text(), _headline_table(test, baselines), Text()]
    if "per_class" in test:
        tables.append(_class_table(test["per_class"]))
    return [*tables, note]


def _headline_table(test: Mapping[str, Any], baselines: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("test score", no_wrap=True)
    columns = [test["metrics"]] + [baseline["metrics"] for baseline in baselines]
    for name in ["this model"] + [baseline["name"] for baseline in baselines]:
        table.add_column(Text(wording.printable(name)), min_width=15)
    hidden = _ONE_LABEL if "accuracy" in test["metrics"] else ()
    for metric in (name for name in TERMINAL_METRICS if name in test["metrics"] and name not in hidden):
        cells = [_score_cell(metrics.get(metric), first=index == 0) for index, metrics in enumerate(columns)]
        table.add_row(wording.metric_name(metric), *cells)
    return table


def _score_cell(metric: Mapping[str, Any] | None, *, first: bool) -> Text:
    if metric is None or metric["value"] is None:
        return Text(wording.NO_VALUE)
    cell = Text(wording.score(metric["value"]), style="bold" if first else "")
    # A score that no draw of rows changes (the majority class's AUROC) has no interval worth a place.
    if metric["low"] is not None and metric["high"] is not None and metric["low"] < metric["high"]:
        cell.append(f" ({wording.score(metric['low'])}…{wording.score(metric['high'])})", style="not bold dim")
    return cell


def _class_table(per_class: Sequence[Mapping[str, Any]]) -> Table:
    shown = wording.worst_classes(per_class)
    title = "class" if len(shown) == len(per_class) else f"class (the {len(shown)} worst of {len(per_class)})"
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(title)
    for heading in ("precision", "recall", "F1", "test rows"):
        table.add_column(heading, justify="right")
    for row in shown:
        scores = [wording.score(row[name]) for name in ("precision", "recall", "f1")]
        table.add_row(Text(wording.printable(row["name"])), *scores, wording.count(row["support"]))
    return table


def _clean(value: Any, place: str) -> Any:
    """A copy that every file can hold.

    Raises:
        HuiyanError: a number is NaN or infinite.
    """
    if isinstance(value, str):
        return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, float) and not math.isfinite(value):
        raise HuiyanError(
            f"The report holds {value} at {place}, where a finite number or None was expected.",
            hint="This is a mistake in Huiyan: please report it, with the command line.",
        )
    if isinstance(value, Mapping):
        return {_clean(str(key), place): _clean(part, f"{place}.{key}") for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(part, f"{place}[{index}]") for index, part in enumerate(value)]
    return value
