"""Several trainings in one run: with other seeds, and one for each fold."""

import csv
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from huiyan.core.errors import ConfigError
from huiyan.core.files import sha256_of
from huiyan.tasks.artifact import Artifact
from huiyan.workflows import repeats as module
from huiyan.workflows.config import DataConfig, RepeatConfig, TrainRun
from huiyan.workflows.repeats import OUT_OF_FOLD
from huiyan.workflows.run_folder import PARTS
from huiyan.workflows.train import train

Options = Callable[..., TrainRun]


@pytest.fixture
def run_in(tiny_model: Path, write_reviews: Callable[..., Path], tiny_options: Options, tmp_path: Path) -> Options:
    file = write_reviews(tmp_path / "r.csv", 120)

    def options(name: str, repeats: RepeatConfig, **training: Any) -> TrainRun:
        run = tiny_options(file, tiny_model, tmp_path / name, **({"epochs": 2, "patience": 0} | training))
        return replace(run, repeats=repeats)

    return options


def test_the_best_of_several_seeds_is_kept_and_their_spread_told(run_in: Options, tmp_path: Path) -> None:
    report = train(run_in("out", RepeatConfig(seeds=3), seed=4))
    assert report is not None
    repeated = report["repeated"]
    assert [one["seed"] for one in repeated["trainings"]] == [4, 5, 6]
    best = max(repeated["trainings"], key=lambda one: one["validation"])
    assert repeated["kept"] == best["seed"]
    accuracies = [one["metrics"]["accuracy"] for one in repeated["trainings"]]
    spread = repeated["spread"]["accuracy"]
    assert spread["mean"] == pytest.approx(np.mean(accuracies)) and spread["sd"] == pytest.approx(
        np.std(accuracies, ddof=1)
    )
    assert report["test"]["metrics"]["accuracy"]["value"] == best["metrics"]["accuracy"]
    # The same rows are tested whatever the seed of the training, and each training is what it is by itself.
    alone = train(run_in("alone", RepeatConfig(), seed=4))
    assert alone is not None
    assert alone["test"]["metrics"]["accuracy"]["value"] == accuracies[0]
    assert not (tmp_path / "out" / PARTS).exists() and Artifact.load(tmp_path / "out")
    assert "--seeds 3" in report["reproduce"]
    for name in ("report.html", "README.md"):
        assert "Trained with 3 seeds" in (tmp_path / "out" / name).read_text(encoding="utf-8")


def test_every_row_is_tested_once_in_folds(run_in: Options, tmp_path: Path) -> None:
    report = train(run_in("out", RepeatConfig(folds=3)))
    assert report is not None
    assert report["test"]["rows"] == 120 and report["data"]["splits"] == {"train": 108, "validation": 12}
    with (tmp_path / "out" / OUT_OF_FOLD).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len({row["source"] for row in rows}) == 120
    assert Counter(row["fold"] for row in rows) == {"1": 40, "2": 40, "3": 40}
    right = sum(row["label"] == row["prediction"] for row in rows)
    assert right / 120 == pytest.approx(report["test"]["metrics"]["accuracy"]["value"])
    for row in rows:
        given = {name: float(row[f"probability_{name}"]) for name in ("negative", "positive")}
        assert row["prediction"] == max(given, key=lambda name: given[name])
    assert [one["rows"] for one in report["repeated"]["trainings"]] == [40, 40, 40]
    assert "3 folds" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("repeats", [RepeatConfig(seeds=2), RepeatConfig(folds=2)])
def test_a_run_that_dies_between_trainings_goes_on(
    run_in: Options, repeats: RepeatConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = module.Answers.of, []

    def dies(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(module.Answers, "of", dies)
    with pytest.raises(KeyboardInterrupt):
        train(run_in("out", repeats))
    monkeypatch.setattr(module.Answers, "of", original)
    resumed, whole = train(run_in("out", repeats), resume=True), train(run_in("whole", repeats))
    assert resumed is not None and whole is not None
    assert resumed["test"] == whole["test"]
    assert sha256_of(tmp_path / "out" / "model.safetensors") == sha256_of(tmp_path / "whole" / "model.safetensors")


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ConfigError, match="Give one of them"):
        RepeatConfig(seeds=2, folds=2)
    with pytest.raises(ConfigError, match="folds option must be between 2 and 100"):
        RepeatConfig(folds=1)
    data = DataConfig(text=("a",), label="b", test="t.csv")
    with pytest.raises(ConfigError, match="--test and --validation have no place"):
        TrainRun(file="f.csv", out="o", data=data, repeats=RepeatConfig(folds=3))


def test_the_report_is_json(run_in: Options, tmp_path: Path) -> None:
    report = train(run_in("out", RepeatConfig(seeds=2), epochs=1))
    assert report is not None
    written = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert written["repeated"]["kept"] == report["repeated"]["kept"]
