"""What `huiyan train` and ``TextClassifier.fit`` share."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from huiyan.data.examples import Examples
from huiyan.models.sources import ModelSource
from huiyan.tasks.classify import Classification, sorted_labels
from huiyan.text.tokenise import Tokenizer
from huiyan.training.config import TrainingConfig
from huiyan.training.loop import TrainingLoop, TrainingState
from huiyan.training.progress import Silent
from huiyan.workflows.config import DataConfig, FitConfig, ModelConfig, TrainRun
from huiyan.workflows.fit import fingerprint_of, fit_model, validation_figures
from huiyan.workflows.judging.kinds import judge_of
from huiyan.workflows.train import train


def rows(n: int) -> Examples:
    words, labels = ("good", "bad"), ("up", "down")
    texts = [f"the {words[row % 2]} dress {row}" for row in range(n)]
    return Examples(texts, [labels[row % 2] for row in range(n)], None, [f"x.csv:{row + 2}" for row in range(n)])


def test_the_commit_and_the_licence_of_the_model_are_kept(tiny_model: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    source = ModelSource(
        folder=tiny_model, name="someone/tiny", kind="hub", revision=commit, licence="mit", origin="From the hub."
    )
    fitted = fit_model(
        rows(20),
        rows(6),
        source,
        data=DataConfig(text=("text",), label="label"),
        options=FitConfig(
            model=ModelConfig(model="someone/tiny", max_length=16),
            training=TrainingConfig(epochs=1, device="cpu", precision="fp32"),
        ),
        reporter=Silent(),
    )
    manifest = fitted.artifact.manifest
    assert (manifest.source, manifest.revision, manifest.licence) == ("someone/tiny", commit, "mit")
    assert manifest.origin == "From the hub." and manifest.classes == ("down", "up")


def test_test_texts_are_first_looked_at_when_training_is_over(
    tiny_model: Path,
    write_reviews: Callable[..., Path],
    tiny_options: Callable[..., TrainRun],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events: list[str] = []
    test = write_reviews(tmp_path / "t.csv", 20, seed=77)
    encode, run = Tokenizer.encode_batch, TrainingLoop.run

    def watched_encode(self: Tokenizer, texts: Sequence[str], *, max_length: int) -> list[list[int]]:
        # The made-up reviews end with their seed and number.
        events.append("test" if any(" 77 " in text for text in texts) else "other")
        return encode(self, texts, max_length=max_length)

    def watched_run(self: TrainingLoop, *, resume: bool = False) -> TrainingState:
        state = run(self, resume=resume)
        events.append("trained")
        return state

    monkeypatch.setattr(Tokenizer, "encode_batch", watched_encode)
    monkeypatch.setattr(TrainingLoop, "run", watched_run)
    file = write_reviews(tmp_path / "r.csv", 40)
    train(tiny_options(file, tiny_model, tmp_path / "out", data={"test": str(test)}, epochs=1))
    # Between the two the validation rows tell whether bfloat16 may answer, where the machine has it.
    assert [event for event in events if event != "other"] == ["trained", "test"]
    assert events[:2] == ["other", "other"] and events[-1] == "test"


def test_numbers_are_sorted_as_numbers() -> None:
    assert sorted_labels(["10", "9", "-1", "9"]) == ["-1", "9", "10"]
    assert sorted_labels(["10", "9", "b"]) == ["10", "9", "b"]
    assert sorted_labels(["nan", "2", "1", "inf"]) == sorted(["nan", "2", "1", "inf"])


def test_fingerprints_tell_rows_and_order() -> None:
    one = rows(6)
    assert fingerprint_of(one) == fingerprint_of(rows(6))
    assert fingerprint_of(one) != fingerprint_of(one.take([1, 0, 2, 3, 4, 5]))
    assert fingerprint_of(one) != fingerprint_of(one.take([0, 1, 2, 3, 4]))


def test_figures_of_the_validation_rows() -> None:
    logits = np.log(np.array([[0.8, 0.2], [0.4, 0.6], [0.9, 0.1]]))
    figures = validation_figures(judge_of(Classification(["a", "b"])), logits, np.array([0, 1, 1]))
    assert figures["loss"] == pytest.approx(-np.log([0.8, 0.6, 0.1]).mean())
    assert figures["accuracy"] == pytest.approx(2 / 3)
    assert set(figures) == {"loss", "accuracy", "macro_f1", "mcc"}


def test_logits_that_are_not_finite_have_a_loss_that_stops_the_run() -> None:
    judge = judge_of(Classification(["a", "b"]))
    assert np.isnan(validation_figures(judge, np.array([[np.nan, 1.0]]), np.array([0]))["loss"])
