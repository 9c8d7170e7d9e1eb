"""What a trained model is, as a notebook shows it."""

from dataclasses import replace
from pathlib import Path

from huiyan.core.decision import Decision
from huiyan.tasks.artifact import Artifact
from huiyan.tasks.facts import MOST_NAMES, facts_of, table_of


def test_they_name_labels_model_and_rows(tiny_run: Path) -> None:
    artifact = Artifact.load(tiny_run)
    facts = facts_of(artifact)
    assert facts["answers"] == "one of 2 labels: " + ", ".join(artifact.manifest.classes)
    assert f"{artifact.model.config.encoder.n_layers} layers" in facts["model"]
    assert facts["learned from"].startswith("192 rows") and "Han" in facts["learned from"]
    assert "said from" not in facts
    assert f"answers: {facts['answers']}" in repr(artifact) and "Linear" not in repr(artifact)


def test_thresholds_are_told_of_a_few_labels(tiny_run: Path) -> None:
    artifact = Artifact.load(tiny_run)
    decided = replace(artifact.manifest, decision=Decision(thresholds=(0.5, None)))
    one, other = decided.classes
    assert facts_of(replace(artifact, manifest=decided))["said from"] == f"{one} 0.50, {other} never"
    names = tuple(str(number) for number in range(MOST_NAMES + 3))
    many = replace(artifact.manifest, classes=names)
    assert facts_of(replace(artifact, manifest=many))["answers"].endswith(f"{MOST_NAMES - 1} and 3 more")


def test_a_notebook_gets_an_escaped_table(tiny_run: Path) -> None:
    artifact = Artifact.load(tiny_run)
    hostile = replace(artifact.manifest, classes=("<script>alert(1)</script>", "b"))
    page = replace(artifact, manifest=hostile)._repr_html_()
    assert page.startswith("<table>") and "<script>" not in page and "&lt;script&gt;" in page
    assert table_of({"a&b": "<i>"}).count("&") == 3
