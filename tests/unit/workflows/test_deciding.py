"""How logits become answers: fitted on one half of made-up rows, measured on the other."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from huiyan.core.decision import Decision
from huiyan.core.errors import ConfigError
from huiyan.tasks.manifest import Manifest
from huiyan.workflows.config import AnswersConfig, TrainRun
from huiyan.workflows.deciding import abstention_warnings, fit_decision, measure_decision
from huiyan.workflows.evaluate import evaluate
from huiyan.workflows.predict import predict_file, predict_texts
from huiyan.workflows.train import train

rng = np.random.default_rng(0)


def drawn(n: int, *, temperature: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from the softmax of logits, and those logits times the temperature: too sure by that much."""
    logits = rng.normal(0, 2, (n, 3))
    probabilities = Decision().outputs(logits)
    return (probabilities.cumsum(1) < rng.random((n, 1))).sum(1).clip(max=2), logits * temperature


def measured_on(labels: np.ndarray, logits: np.ndarray, decision: Decision) -> dict[str, Any]:
    probabilities = decision.outputs(logits)
    chosen, is_sure = decision.choose(probabilities), decision.is_sure(probabilities)
    return measure_decision(labels, Decision().outputs(logits), probabilities, chosen, is_sure, decision)


def test_a_model_that_is_too_sure_is_calibrated() -> None:
    decision = fit_decision(*drawn(4000), AnswersConfig())
    assert decision.temperature == pytest.approx(2.0, rel=0.1) and decision.thresholds == ()
    measured = measured_on(*drawn(4000), decision)
    assert measured["after"]["ece"] < 0.03 < measured["before"]["ece"]
    assert measured["coverage"][0]["coverage"] == 1.0 and "answered" not in measured


def test_a_wanted_accuracy_holds_on_other_rows() -> None:
    decision = fit_decision(*drawn(4000), AnswersConfig(abstain_at=0.9))
    assert len(set(decision.thresholds)) == 1
    answered = measured_on(*drawn(4000), decision)["answered"]
    assert answered["low"] < 0.9 < answered["high"] and 0.2 < answered["coverage"] < 0.9


def test_each_label_has_a_threshold_of_its_own() -> None:
    labels, logits = drawn(4000)
    logits[:, 0] += 3.0  # is given far too often
    decision = fit_decision(labels, logits, AnswersConfig(label_precision=0.8))
    first, second, third = decision.thresholds
    assert first is not None and second is not None and third is not None
    assert first > max(second, third)
    probabilities = decision.outputs(logits)
    for one in range(3):
        said = decision.is_sure(probabilities) & (decision.choose(probabilities) == one)
        assert (labels[said] == one).mean() >= 0.8


def test_what_cannot_be_reached_is_never_said_and_warned_of() -> None:
    labels, logits = np.array([0, 1] * 50), np.array([[1.0, 0.0]] * 100)
    wish = AnswersConfig(abstain_at=0.95)
    decision = fit_decision(labels, logits, wish)
    assert decision.thresholds == (None, None)
    (warning,) = abstention_warnings(decision, ["a", "b"], wish)
    assert "answers none" in warning
    answered = measured_on(labels, logits, decision)["answered"]
    assert answered["rows"] == 0 and answered["accuracy"] is None
    wish = AnswersConfig(label_precision=0.95)
    (warning,) = abstention_warnings(fit_decision(labels, logits, wish), ["a", "b"], wish)
    assert warning.endswith("never said: 'a', 'b'.")


def test_the_two_wishes_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="Give one of them"):
        AnswersConfig(abstain_at=0.9, label_precision=0.9)
    with pytest.raises(ConfigError, match="abstain_at option must be above 0 and below 1"):
        AnswersConfig(abstain_at=95)


@pytest.fixture(scope="module")
def unsure_run(
    tiny_model: Path,
    write_reviews: Callable[..., Path],
    tiny_options: Callable[..., TrainRun],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A run of texts whose labels are a third noise, that answers where nine of ten are right."""
    folder = tmp_path_factory.mktemp("unsure")
    with write_reviews(folder / "clean.csv", 600).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        if number % 3 == 0:
            row["review"] = "the dress " + row["id"]
    with (folder / "t.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    run = tiny_options(folder / "t.csv", tiny_model, folder / "run", epochs=12, patience=0)
    report = train(TrainRun(**(vars(run) | {"answers": AnswersConfig(abstain_at=0.9)})))
    assert report is not None
    assert "--abstain-at 0.9" in report["reproduce"]
    answered = report["calibration"]["answered"]
    assert 0.4 < answered["coverage"] < 0.9 and answered["accuracy"] > 0.75
    return folder / "run"


def test_a_text_the_model_is_not_sure_of_gets_no_answer(unsure_run: Path, tmp_path: Path) -> None:
    decision = Manifest.read(unsure_run).decision
    assert len(decision.thresholds) == 2 and decision.thresholds[0] is not None
    file, out = unsure_run.parent / "t.csv", tmp_path / "out.csv"
    predict_file(unsure_run, str(file), str(out))
    with out.open(encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    sure = [row for row in rows if row["prediction"]]
    assert 0.4 < len(sure) / len(rows) < 0.9
    assert all(row["prediction"] == row["likeliest"] for row in sure)
    for row in rows:
        assert (float(row["probability"]) >= decision.thresholds[0]) == bool(row["prediction"])
        assert row["likeliest"] in ("positive", "negative")
    (unsure,) = predict_texts(unsure_run, [next(row["review"] for row in rows if not row["prediction"])])
    assert unsure["prediction"] is None


def test_evaluate_says_how_many_are_answered(
    unsure_run: Path, write_reviews: Callable[..., Path], tmp_path: Path
) -> None:
    figures = evaluate(unsure_run, str(write_reviews(tmp_path / "e.csv", 60, seed=5)), say=lambda _: None)
    assert 0 < figures["test"]["answered"]["coverage"] <= 1
    assert figures["test"]["answered"]["accuracy"] >= figures["test"]["metrics"]["accuracy"]["value"] - 0.05


def test_the_report_says_it(unsure_run: Path) -> None:
    page = (unsure_run / "report.html").read_text(encoding="utf-8")
    assert "Sure enough to be answered are" in page and "How sure it is" in page
    card = (unsure_run / "README.md").read_text(encoding="utf-8")
    assert "Sure enough to be answered are" in card and "It answers only where it is sure" in card
