"""The report as an HTML page and as a model card. What comes from the user's data is escaped unless told otherwise."""

import json
import re
from collections.abc import Mapping
from typing import Any

import jinja2

from huiyan.workflows import wording
from huiyan.workflows.figures import (
    calibration_charts,
    confusion_table,
    exit_chart,
    learning_curves,
    scatter_chart,
    size_chart,
)

# Printable to JSON, but to YAML a line break or forbidden.
_NOT_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
PUBLISHED = {
    "accuracy": "accuracy",
    "macro_f1": "f1",
    "mcc": "matthews_correlation",
    "auroc": "roc_auc",
    "r2": "r_squared",
    "rmse": "rmse",
    "mae": "mae",
    "spearman": "spearmanr",
}
"""What goes into a model card's metadata, under the names of the hub."""
_MARKDOWN = re.compile(r"([\\`*_\[\]|~#$!])")


class Verbatim(str):
    """Text that is already Markdown or YAML and goes into the card as it is; all else is escaped."""

    __slots__ = ()


def render_page(report: Mapping[str, Any]) -> str:
    """The self-contained HTML page; every value is escaped."""
    training, test = report["training"], report["test"]
    return (
        _environment(autoescape=True)
        .get_template("report.html.jinja")
        .render(
            report=report,
            sentence=wording.result_sentence(report),
            verdict=wording.verdict_in_short(report),
            strongest=wording.strongest_baseline(report),
            meanings=wording.METRIC_MEANINGS,
            worst=wording.worst_classes(test.get("per_class", [])),
            lead=wording.lead_metric(test["metrics"]),
            scatter=scatter_chart(test["points"]) if "points" in test else None,
            names=report["classes"] or list(next(iter(report["data"]["class_counts"].values()))),
            curves=learning_curves(
                training["history"], metric=training["selection_metric"], best_step=training["best_step"]
            ),
            confusion=confusion_table(report["classes"], test["confusion"]) if "confusion" in test else None,
            run=flat(report["run"]),
            repeated=wording.repeated_sentences(report),
            certainty=calibration_charts(report["calibration"]) if report["calibration"] else [],
            answered=wording.answered_sentence(report["calibration"]),
            remark=wording.calibration_remark(report["calibration"]) if report["calibration"] else "",
            scripts=wording.scripts(report["data"]["scripts"]),
            lengths=wording.length_bars(report["data"]["tokens"]),
            exit_curve=_exit_curve(report.get("early_exit")),
        )
    )


def render_exit_picture(record: Mapping[str, Any]) -> str:
    """The curve of ``early_exit.json`` as an SVG picture of its own."""
    template = _environment(autoescape=True).get_template("early_exit.svg.jinja")
    return template.render(figure=exit_chart(record), record=record)


def render_card(report: Mapping[str, Any], *, name: str) -> str:
    """The model card: Hugging Face metadata in YAML, then Markdown; every value is escaped."""
    model = report["model"]
    # Only a model of the hub has a commit for its revision, and only those may stand as base_model.
    is_hub = bool(
        re.fullmatch(r"[\w.-]+/[\w.-]+", model["source"]) and re.fullmatch(r"[0-9a-f]{40}", model["revision"] or "")
    )
    return (
        _environment(autoescape=False, finalize=_markdown)
        .get_template("model_card.md.jinja")
        .render(
            report=report,
            name=name,
            sentence=wording.result_sentence(report),
            strongest=wording.strongest_baseline(report),
            base_model=model["source"] if is_hub else None,
            exit_curve=_exit_curve(report.get("early_exit")),
            answered=wording.answered_sentence(report["calibration"]),
            repeated=wording.repeated_sentences(report),
            worst=wording.worst_classes(report["test"].get("per_class", [])),
            published=[(key, name) for key, name in PUBLISHED.items() if key in report["test"]["metrics"]],
        )
    )


def _exit_curve(record: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if record is None:
        return None
    return {"sentence": wording.early_exit_sentence(record), "chart": exit_chart(record)}


def render_compressed_card(report: Mapping[str, Any], *, name: str) -> str:
    """The model card of a compressed model; every value is escaped."""
    parts = [part.removeprefix("stack.layers.0.") for part in report["ranks"] if part.startswith("stack.layers.0.")]
    layers = sorted({int(name.split(".")[2]) for name in report["ranks"]})
    template = _environment(autoescape=False, finalize=_markdown).get_template("compressed_card.md.jinja")
    return template.render(report=report, name=name, parts=parts, layers=layers)


def render_size_picture(report: Mapping[str, Any]) -> str:
    """Accuracy against size over the ranks that were tried, as an SVG picture."""
    template = _environment(autoescape=True).get_template("compression.svg.jinja")
    return template.render(figure=size_chart(report), report=report)


def page_of(template: str, **values: Any) -> str:
    """A page of its own; every value is escaped."""
    return _environment(autoescape=True).get_template(template).render(**values)


def card_of(template: str, **values: Any) -> str:
    """A model card; every value is escaped."""
    return _environment(autoescape=False, finalize=_markdown).get_template(template).render(**values)


def _environment(*, autoescape: bool, finalize: Any = None) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("huiyan.workflows", "templates"),
        autoescape=autoescape,  # noqa: S701 - on for the page; the card is Markdown, and `finalize` escapes it
        finalize=finalize,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters = [
        wording.score,
        wording.quantity,
        wording.percent,
        wording.count,
        wording.duration,
        wording.size,
        wording.energy,
    ]
    for filter_ in [*filters, wording.metric_name]:
        environment.filters[filter_.__name__] = filter_
    environment.filters |= {"yaml": _yaml, "fenced": _fenced, "verbatim": Verbatim}
    return environment


def _markdown(value: Any) -> str:
    """One line of Markdown that shows the value as it is."""
    if isinstance(value, Verbatim):
        return value
    text = wording.printable(str(value)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", text)


def _yaml(value: Any) -> Verbatim:
    """A YAML flow scalar: JSON is YAML, but for a few characters."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return Verbatim(_NOT_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def _fenced(text: str) -> Verbatim:
    """A fenced code block whose fence is longer than any run of backticks inside."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return Verbatim(f"{fence}\n{text}\n{fence}")


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested values as rows of a name and what to show."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += flat(value, f"{prefix}{key} · ")
        else:
            shown = (
                ", ".join(map(str, value))
                if isinstance(value, list | tuple)
                else wording.NO_VALUE
                if value is None
                else value
            )
            rows.append((f"{prefix}{key}", str(shown)))
    return rows
