"""What `huiyan train` and ``TextClassifier.fit`` share."""

import inspect
from pathlib import Path

import numpy as np
import pytest

from huiyan.data.examples import Examples
from huiyan.models.sources import ModelSource
from huiyan.training.config import TrainingConfig
from huiyan.training.progress import Silent
from huiyan.workflows.config import ModelConfig
from huiyan.workflows.fit import fingerprint_of, fit_classifier, sorted_labels, validation_figures


def rows(n: int) -> Examples:
    words, labels = ("good", "bad"), ("up", "down")
    texts = [f"the {words[row % 2]} dress {row}" for row in range(n)]
    return Examples(texts, [labels[row % 2] for row in range(n)], None, [f"x.csv:{row + 2}" for row in range(n)])


def test_the_commit_and_the_licence_of_the_model_are_kept(tiny_model: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    source = ModelSource(
        folder=tiny_model, name="someone/tiny", kind="hub", revision=commit, licence="mit", origin="From the hub."
    )
    fitted = fit_classifier(
        rows(20),
        rows(6),
        source,
        columns=(("text",), "label"),
        model_config=ModelConfig(model="someone/tiny", max_length=16),
        training=TrainingConfig(epochs=1, device="cpu", precision="fp32"),
        reporter=Silent(),
    )
    manifest = fitted.artifact.manifest
    assert (manifest.source, manifest.revision, manifest.licence) == ("someone/tiny", commit, "mit")
    assert manifest.origin == "From the hub." and manifest.classes == ("down", "up")


def test_fitting_never_sees_the_test_rows() -> None:
    # The function that trains is given training and validation rows, and nothing it could test on.
    given = [name for name, parameter in inspect.signature(fit_classifier).parameters.items() if parameter]
    assert "train" in given and "validation" in given
    assert not any("test" in name or name in ("tables", "run", "splits") for name in given)


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
    figures = validation_figures(logits, np.array([0, 1, 1]), ["a", "b"])
    assert figures["loss"] == pytest.approx(-np.log([0.8, 0.6, 0.1]).mean())
    assert figures["accuracy"] == pytest.approx(2 / 3)
    assert set(figures) == {"loss", "accuracy", "macro_f1", "mcc"}
