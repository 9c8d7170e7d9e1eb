"""The main job in scikit-learn's manner."""

from pathlib import Path

import numpy as np
import pytest
import sklearn.base
from sklearn.exceptions import NotFittedError

import huiyan
from huiyan.core.errors import ArtifactError, ConfigError, DataError, OutputError
from huiyan.training.config import TrainingConfig

TEXTS = [f"the {word} dress {number}" for number in range(40) for word in ("good", "bad", "lovely", "poor")]
LABELS = ["up", "down"] * 80


def classifier(model: Path, **options: object) -> huiyan.TextClassifier:
    settings = {"epochs": 8, "learning_rate": 3e-3, "max_length": 32, "batch_tokens": 64, "precision": "fp32"}
    return huiyan.TextClassifier(str(model), **(settings | options))  # pyright: ignore (a mapping of options)


@pytest.fixture(scope="module")
def fitted(tiny_model: Path) -> huiyan.TextClassifier:
    return classifier(tiny_model).fit(TEXTS, LABELS)


def test_it_learns_and_answers_in_the_labels_given(fitted: huiyan.TextClassifier) -> None:
    assert fitted.classes_.tolist() == ["down", "up"]
    assert fitted.predict(["good lovely dress", "bad poor dress"]).tolist() == ["up", "down"]
    probabilities = fitted.predict_proba(["good", "bad", "dress"])
    assert probabilities.shape == (3, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    assert fitted.score(TEXTS, LABELS) > 0.9


def test_save_and_load_give_the_same_answers(fitted: huiyan.TextClassifier, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    loaded = huiyan.TextClassifier.load(tmp_path / "model")
    assert loaded.classes_.tolist() == ["down", "up"]
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS[:5]), fitted.predict_proba(TEXTS[:5]))


def test_integer_labels_come_back_as_integers(tiny_model: Path) -> None:
    labels = np.array([10, 2] * 80)
    model = classifier(tiny_model, epochs=1).fit(TEXTS, labels)
    assert model.classes_.tolist() == [2, 10] and model.classes_.dtype.kind == "i"
    assert set(model.predict(TEXTS[:4]).tolist()) <= {2, 10}


def test_boolean_labels_come_back_as_booleans(tiny_model: Path) -> None:
    model = classifier(tiny_model, epochs=1).fit(TEXTS, [True, False] * 80)
    assert model.classes_.dtype.kind == "b" and model.predict(TEXTS[:2]).dtype.kind == "b"


def test_given_validation_rows_are_used(tiny_model: Path) -> None:
    model = classifier(tiny_model, epochs=1)
    model.fit(TEXTS, LABELS, validation=(["good coat", "bad coat"], ["up", "down"]))
    with pytest.raises(DataError, match="validation label 'sideways' is not among the training labels"):
        model.fit(TEXTS, LABELS, validation=(["good coat"], ["sideways"]))


def test_it_clones_as_scikit_learn_wants(tiny_model: Path) -> None:
    original = classifier(tiny_model, config=TrainingConfig(patience=1))
    copy = sklearn.base.clone(original)
    assert copy is not original and copy.get_params() == original.get_params()


def test_it_must_be_fitted_first(tmp_path: Path) -> None:
    with pytest.raises(NotFittedError, match=r"not fitted yet. Call fit\(texts, labels\)"):
        huiyan.TextClassifier().predict(["x"])
    with pytest.raises(ArtifactError, match=r"no huiyan.json"):
        huiyan.TextClassifier.load(tmp_path)


def test_save_leaves_other_files_alone(fitted: huiyan.TextClassifier, tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("")
    with pytest.raises(OutputError, match="holds other files"):
        fitted.save(tmp_path)
    with pytest.raises(OutputError, match="is a file"):
        fitted.save(tmp_path / "thesis.doc")


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        ("one text", ["a"], "Got one string instead"),
        (TEXTS, LABELS[:-1], "Got 160 texts, 159 labels"),
        ([*TEXTS[:-1], None], LABELS, "Got NoneType at position 159"),
        (TEXTS, [0.5, 1.5] * 80, "Labels must be strings or integers. Got 0.5 of type float"),
        (TEXTS[:10], LABELS[:10], "At least 20 usable rows"),
        (TEXTS, ["a"] * 160, "at least two classes"),
    ],
)
def test_wrong_input_says_what_was_expected(tiny_model: Path, texts: object, labels: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        classifier(tiny_model).fit(texts, labels)  # pyright: ignore[reportArgumentType] (wrong on purpose)


def test_a_wrong_option_is_an_error(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="precision option must be one of"):
        classifier(tiny_model, precision="int8").fit(TEXTS, LABELS)
