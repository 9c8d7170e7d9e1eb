"""`huiyan evaluate`: a trained model on another table with known labels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from huiyan.core.devices import pick_device
from huiyan.core.errors import DataError
from huiyan.data.examples import read_examples
from huiyan.data.rejected import RejectedRows
from huiyan.data.splits import read_splits, text_sha256
from huiyan.tasks.artifact import Artifact
from huiyan.workflows.assess import figures_with_intervals
from huiyan.workflows.tables import SPLITS, with_known_labels


def evaluate(
    run: Path, file: str, *, encoding: str | None = None, device: str = "auto", say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Measure a trained model on a table.

    Args:
        run: the folder of a trained model; column names are read from it.
        file: the table; ``-`` is standard input.
        encoding: of a text file; None recognises it.
        device: where to compute.
        say: told what was found.
    Returns:
        ``classes`` and the ``test`` part of a report: rows, metrics with intervals, per-class table, confusion matrix;
        ``rejected_reasons``; and ``seen_in_training``, how many of the texts the model was trained on.
    Raises:
        DataError: the table cannot be read, lacks a column the model was trained on, or has no usable row.
    """
    artifact = Artifact.load(run, device=pick_device(device))
    manifest = artifact.manifest
    rejected = RejectedRows()
    examples = read_examples(
        file, text=manifest.text_columns, label=manifest.label_column, encoding=encoding, rejected=rejected
    )
    examples = with_known_labels(examples, set(manifest.classes), rejected, file)
    if rejected.count:
        say(f"set aside {rejected.count} rows: " + ", ".join(f"{why} ({n})" for why, n in rejected.reasons.items()))
    if len(examples) == 0:
        raise DataError(f"{file} has no usable row.", hint=f"The model knows the labels {', '.join(manifest.classes)}.")
    seen = _seen_in_training(run, examples.texts)
    if seen:
        say(f"warning: the model was trained on {seen} of these {len(examples)} texts, so the figures flatter it")
    index = {label: number for number, label in enumerate(manifest.classes)}
    labels = np.array([index[label] for label in examples.labels])
    figures = figures_with_intervals(labels, artifact.probabilities(examples.texts), manifest.classes)
    return {
        "file": file,
        "classes": list(manifest.classes),
        "test": figures,
        "rejected_reasons": dict(rejected.reasons),
        "seen_in_training": seen,
    }


def _seen_in_training(run: Path, texts: list[str]) -> int:
    path = run / SPLITS
    if not path.is_file():
        return 0
    trained = {sha256 for _, split, sha256 in read_splits(path) if split == "train"}
    return sum(text_sha256(text) in trained for text in texts)
