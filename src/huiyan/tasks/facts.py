"""What a trained model is, in a few words: what a notebook shows of it."""

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huiyan.tasks.artifact import Artifact

MOST_NAMES = 12
"""Labels and columns that are named; of more, how many they are."""
_ANSWERS = {
    "classify": "one of {n} labels: {names}",
    "multilabel": "any of {n} labels: {names}",
    "ordinal": "one of {n} ordered labels, lowest first: {names}",
    "regression": "a number",
}


def facts_of(artifact: "Artifact") -> dict[str, str]:
    """What the model answers, what it is, what it reads and what it learned from: plain text, not escaped."""
    manifest, profile = artifact.manifest, artifact.profile
    encoder, decision = artifact.model.config.encoder, manifest.decision
    weights = sum(weight.numel() for weight in artifact.model.parameters())
    names = _named([str(label) for label in manifest.labels])
    facts = {
        "answers": _ANSWERS[manifest.task].format(n=len(manifest.classes), names=names),
        "model": (
            f"{manifest.source} ({manifest.family}, {encoder.n_layers} layers of {encoder.width}, "
            f"{weights / 1e6:.1f} million weights)"
        ),
        "reads": f"{'two texts' if manifest.text_pair_columns else 'a text'} of up to {manifest.max_length:,} tokens",
        "answers in": artifact.precision,
    }
    if decision.link == "softmax":
        facts["temperature"] = f"{decision.temperature:.2f}"
    if decision.thresholds:
        said = zip(manifest.classes, decision.thresholds, strict=True)
        facts["said from"] = _named([f"{name} {'never' if at is None else f'{at:.2f}'}" for name, at in said])
    if artifact.exits is not None and manifest.early_exit is not None:
        facts["early exits"] = f"patience {manifest.early_exit.patience} of {encoder.n_layers} layers"
    if profile is not None:
        scripts = ", ".join(f"{script} {share:.0%}" for script, share in profile.scripts.items())
        facts["learned from"] = f"{profile.rows:,} rows" + (f" ({scripts})" if scripts else "")
    return facts


def table_of(facts: Mapping[str, str]) -> str:
    """The facts as an HTML table; every value is escaped."""
    cell = 'style="text-align: left; vertical-align: top"'
    rows = "".join(
        f"<tr><th {cell}>{escape(name)}</th><td {cell}>{escape(fact)}</td></tr>" for name, fact in facts.items()
    )
    return f"<table>{rows}</table>"


def _named(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
