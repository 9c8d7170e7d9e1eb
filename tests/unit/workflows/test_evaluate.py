"""A trained model on another table."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from huiyan.core.errors import DataError
from huiyan.workflows.evaluate import evaluate


def test_figures_come_with_intervals(tiny_run: Path, write_reviews: Callable[..., Path], tmp_path: Path) -> None:
    figures = evaluate(tiny_run, str(write_reviews(tmp_path / "t.csv", 60, seed=3)), say=lambda _: None)
    accuracy = figures["test"]["metrics"]["accuracy"]
    assert figures["test"]["rows"] == 60
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"] and accuracy["value"] > 0.9
    assert figures["seen_in_training"] == 0


def test_unknown_labels_and_training_texts_are_said(
    tiny_run: Path, write_reviews: Callable[..., Path], tmp_path: Path
) -> None:
    file = write_reviews(tmp_path / "t.csv", 240)
    with file.open("a", newline="") as table:
        csv.writer(table).writerow(["x", "good", "s", "ecstatic"])
    said: list[str] = []
    figures = evaluate(tiny_run, str(file), say=said.append)
    assert figures["seen_in_training"] == 192
    assert figures["rejected_reasons"] == {"label not among the training rows": 1}
    assert any("trained on 192 of these 240 texts" in line for line in said)


def test_a_table_without_a_known_label_is_an_error(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("review,sentiment\ngood,great\n")
    with pytest.raises(DataError, match=r"has no usable row. The model knows the labels negative, positive"):
        evaluate(tiny_run, str(tmp_path / "t.csv"), say=lambda _: None)
