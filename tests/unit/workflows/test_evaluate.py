"""A trained model on another table."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from huiyan.core.errors import DataError, OutputError
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


def test_rows_set_aside_are_listed_where_asked(
    tiny_run: Path, write_reviews: Callable[..., Path], tmp_path: Path
) -> None:
    file, listing = write_reviews(tmp_path / "t.csv", 20, seed=3), tmp_path / "aside.jsonl"
    with file.open("a", newline="") as table:
        csv.writer(table).writerows([["x", "good", "s", "ecstatic"], ["y", "", "s", "positive"]])
    said: list[str] = []
    evaluate(tiny_run, str(file), say=said.append)
    assert any("set aside 2 rows" in line and "--rejected FILE lists them" in line for line in said)
    evaluate(tiny_run, str(file), rejected=listing, say=said.append)
    assert any("set aside 2 rows" in line and f"listed in {listing}" in line for line in said)
    assert said[-1] == "answering 20 rows in fp32"
    rows = [json.loads(line) for line in listing.read_text(encoding="utf-8").splitlines()]
    assert [(row["file"], row["line"], row["reason"].partition(":")[0]) for row in rows] == [
        (str(file), 23, "no text"),
        (str(file), 22, "label not among the training rows"),
    ]


def test_the_listing_never_replaces_the_table(
    tiny_run: Path, write_reviews: Callable[..., Path], tmp_path: Path
) -> None:
    file = write_reviews(tmp_path / "t.csv", 5)
    before = file.read_bytes()
    with pytest.raises(OutputError, match=r"--rejected .*t.csv is the input file. Name another file"):
        evaluate(tiny_run, str(file), rejected=file, say=lambda _: None)
    assert file.read_bytes() == before


def test_without_the_splits_nobody_knows_what_was_seen(
    tiny_run: Path, write_reviews: Callable[..., Path], tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(tiny_run, bare, ignore=shutil.ignore_patterns("splits.jsonl"))
    figures = evaluate(bare, str(write_reviews(tmp_path / "t.csv", 20)), say=lambda _: None)
    assert figures["seen_in_training"] is None
