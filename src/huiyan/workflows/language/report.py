"""The report of a language model: report.json (programs), report.html (people), README.md, the terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from huiyan.workflows import wording
from huiyan.workflows.figures import learning_curves
from huiyan.workflows.rendering import card_of, flat, page_of
from huiyan.workflows.report import write_files

FIGURES = {
    "bits_per_character": "bits a character",
    "bits_per_byte": "bits a byte",
    "perplexity": "perplexity a token",
    "loss": "loss a token, nats",
    "masked_accuracy": "hidden tokens guessed right",
}


def write_report(folder: Path, report: Mapping[str, Any], *, surprise: str = "") -> None:
    """Write ``report.json``, ``report.html`` and ``README.md`` into ``folder``.

    Args:
        folder: of the run.
        report: plain values.
        surprise: a text of the test part with its surprises, as escaped HTML.
    Raises:
        HuiyanError: a number is NaN or infinite.
        OutputError: the folder cannot be written.
    """
    training = report["training"]
    values = {
        "sentence": sentence(report),
        "figures": {key: told for key, told in FIGURES.items() if key in report["test"]},
        "curves": learning_curves(training["history"], metric="", best_step=training["best_step"]),
        "run": flat(report["run"]),
        "name": folder.name,
    }
    write_files(
        folder,
        report,
        lambda clean: {
            "report.html": page_of("language.html.jinja", report=clean, surprise=surprise, **values),
            "README.md": card_of("language_card.md.jinja", report=clean, **values),
        },
    )


def sentence(report: Mapping[str, Any]) -> str:
    """The result in a line."""
    test = report["test"]
    if "masked_accuracy" in test:
        return f"On text it has not seen the model guesses {test['masked_accuracy']:.1%} of the hidden tokens right."
    return (
        f"On text it has not seen the model needs {test['bits_per_character']:.3f} bits a character "
        f"(perplexity {test['perplexity']:,.2f} a token)."
    )


def figures_table(parts: Mapping[str, Mapping[str, float]]) -> RenderableType:
    """The figures of parts of a text, a column each."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("")
    for name in parts:
        table.add_column(name, justify="right")
    for key, told in FIGURES.items():
        if any(key not in figures for figures in parts.values()):
            continue
        table.add_row(told, *(f"{figures[key]:,.4f}" for figures in parts.values()))
    return table


def terminal_summary(report: Mapping[str, Any]) -> RenderableType:
    """The result, the figures, the warnings."""
    return Group(
        Text(sentence(report), style="bold"),
        Text(),
        figures_table({name: report[name] for name in ("validation", "test")}),
        *[Text.assemble(("Warning: ", "yellow"), wording.printable(text)) for text in report["warnings"]],
    )
