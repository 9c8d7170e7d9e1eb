"""The main job in scikit-learn's manner."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.base
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

import huiyan
from huiyan.core.errors import ArtifactError, ConfigError, DataError, OutputError
from huiyan.training.config import TrainingConfig
from huiyan.workflows import estimators
from huiyan.workflows.config import ModelConfig

# The numbers keep them from being nearly the same.
TEXTS = [
    f"{number}{number} {word} {number} dress {number}"
    for number in range(40)
    for word in ("good", "bad", "lovely", "poor")
]
LABELS = ["up", "down"] * 80


def classifier(model: Path, **options: object) -> huiyan.TextClassifier:
    settings = {"epochs": 8, "learning_rate": 3e-3, "max_length": 32, "batch_tokens": 64, "precision": "fp32"}
    return huiyan.TextClassifier(str(model), **(settings | options))  # pyright: ignore (a mapping of options)


class TrainingBeginsError(Exception):
    """Raised in place of training, where a test is about what comes before it."""


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stops ``fit`` where training would begin, and gives the options that training would have had."""
    options: dict[str, Any] = {}

    def begin(*_: object, **given: object) -> None:
        options.update(given)
        raise TrainingBeginsError

    monkeypatch.setattr(estimators, "fit_model", begin)
    return options


@pytest.fixture(scope="module")
def fitted(tiny_model: Path) -> huiyan.TextClassifier:
    return classifier(tiny_model).fit(TEXTS, LABELS)


def test_it_learns_and_answers_in_the_labels_given(fitted: huiyan.TextClassifier) -> None:
    assert fitted.classes_.tolist() == ["down", "up"]
    assert fitted.predict(["good great lovely dress", "bad poor awful dress"]).tolist() == ["up", "down"]
    probabilities = fitted.predict_proba(["good", "bad", "dress"])
    assert probabilities.shape == (3, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    assert fitted.score(TEXTS, LABELS) > 0.9


def test_save_and_load_give_the_same_answers(fitted: huiyan.TextClassifier, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    loaded = huiyan.TextClassifier.load(tmp_path / "model")
    assert loaded.classes_.tolist() == ["down", "up"]
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS[:5]), fitted.predict_proba(TEXTS[:5]))
    rough = huiyan.TextClassifier.load(tmp_path / "model", device="cpu", precision="bf16")
    difference = np.abs(rough.predict_proba(TEXTS[:5]) - fitted.predict_proba(TEXTS[:5])).max()
    assert 0 < difference < 0.05


@pytest.mark.parametrize(
    ("values", "classes", "kind"),
    [
        (np.array([10, 2]), [2, 10], "i"),
        ([-1, 1], [-1, 1], "i"),
        ([True, False], [False, True], "b"),
        (np.array([True, False]), [False, True], "b"),
        (["10", "2"], ["2", "10"], "U"),
        (["True", "False"], ["False", "True"], "U"),
    ],
    ids=["numpy integers", "integers", "booleans", "numpy booleans", "digits as text", "True and False as text"],
)
def test_labels_come_back_as_what_they_were_also_from_the_folder(
    tiny_model: Path, tmp_path: Path, values: Any, classes: list[Any], kind: str
) -> None:
    labels = np.tile(values, 80)
    model = classifier(tiny_model).fit(TEXTS, labels)
    model.save(tmp_path / "model")
    loaded = huiyan.TextClassifier.load(tmp_path / "model", device="cpu")
    for one in (model, loaded):
        assert one.classes_.tolist() == classes and one.classes_.dtype.kind == kind
        assert one.predict(TEXTS[:4]).dtype.kind == kind
        assert one.score(TEXTS, labels) > 0.9


@pytest.mark.parametrize(
    ("labels", "kinds"),
    [([1, "1"] * 80, "integer and text"), ([True, 2] * 80, "boolean and integer"), (["True", True] * 80, "boolean")],
)
def test_labels_of_mixed_kinds_are_an_error(
    tiny_model: Path, no_training: dict[str, Any], labels: list[Any], kinds: str
) -> None:
    with pytest.raises(DataError, match=f"one kind. Got {kinds}.*Convert them"):
        classifier(tiny_model).fit(TEXTS, labels)
    assert not no_training


def test_validation_labels_must_be_of_the_kind_of_the_training_labels(
    tiny_model: Path, no_training: dict[str, Any]
) -> None:
    with pytest.raises(DataError, match="one kind. Got integer and text"):
        classifier(tiny_model).fit(TEXTS, [1, 2] * 80, validation=(["good", "bad"], ["1", "2"]))
    assert not no_training


def test_options_not_given_are_those_of_the_config(tiny_model: Path, no_training: dict[str, Any]) -> None:
    config = TrainingConfig(epochs=10, learning_rate=1e-3, batch_tokens=64, precision="fp32", seed=5, patience=1)
    with pytest.raises(TrainingBeginsError):
        huiyan.TextClassifier(str(tiny_model), config=config).fit(TEXTS, LABELS)
    assert no_training["options"].training == config


def test_options_given_replace_those_of_the_config(tiny_model: Path, no_training: dict[str, Any]) -> None:
    given: dict[str, Any] = {"epochs": 2, "learning_rate": 0.01, "batch_tokens": 32, "precision": "auto", "seed": 0}
    config = TrainingConfig(epochs=10, precision="fp32", seed=5, patience=1)
    with pytest.raises(TrainingBeginsError):
        huiyan.TextClassifier(str(tiny_model), **given, max_length=9, config=config).fit(TEXTS, LABELS)
    assert no_training["options"].training == TrainingConfig(**given, patience=1)
    assert no_training["options"].model == ModelConfig(model=str(tiny_model), max_length=9)


def test_without_options_and_config_the_defaults_hold(tiny_model: Path, no_training: dict[str, Any]) -> None:
    with pytest.raises(TrainingBeginsError):
        huiyan.TextClassifier(str(tiny_model)).fit(TEXTS, LABELS)
    assert no_training["options"].training == TrainingConfig()
    assert no_training["options"].model == ModelConfig(model=str(tiny_model))


def test_the_seed_of_the_config_picks_the_validation_rows(
    tiny_model: Path, no_training: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []
    split_rows = estimators.split_rows

    def recorded(*rows: Any, seed: int, **options: Any) -> Any:
        seeds.append(seed)
        return split_rows(*rows, seed=seed, **options)

    monkeypatch.setattr(estimators, "split_rows", recorded)
    with pytest.raises(TrainingBeginsError):
        huiyan.TextClassifier(str(tiny_model), config=TrainingConfig(seed=5)).fit(TEXTS, LABELS)
    assert seeds == [5]


def test_empty_validation_rows_are_an_error_at_once(tiny_model: Path, no_training: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="validation texts must be one or more. Got none instead. Leave out validation"):
        classifier(tiny_model).fit(TEXTS, LABELS, validation=([], []))
    assert not no_training


def test_given_validation_rows_are_used(tiny_model: Path) -> None:
    model = classifier(tiny_model, epochs=1)
    model.fit(TEXTS, LABELS, validation=(["good coat", "bad coat"], ["up", "down"]))
    with pytest.raises(DataError, match="validation label 'sideways' is not among the training labels"):
        model.fit(TEXTS, LABELS, validation=(["good coat"], ["sideways"]))


def test_it_clones_as_scikit_learn_wants(tiny_model: Path) -> None:
    original = classifier(tiny_model, config=TrainingConfig(patience=1))
    copy = sklearn.base.clone(original)
    assert copy is not original and copy.get_params() == original.get_params()
    bare = sklearn.base.clone(huiyan.TextClassifier())
    assert {name for name, value in bare.get_params().items() if value is not None} == {"model", "verbose"}


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


def test_save_replaces_a_model_it_wrote(fitted: huiyan.TextClassifier, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    fitted.save(tmp_path / "model")
    assert huiyan.TextClassifier.load(tmp_path / "model").classes_.tolist() == ["down", "up"]


def test_save_leaves_a_run_alone(fitted: huiyan.TextClassifier, tiny_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    with pytest.raises(OutputError, match=r"holds a run of `huiyan train`.*Name another folder"):
        fitted.save(run)
    assert huiyan.TextClassifier.load(run).classes_.tolist() == ["negative", "positive"]


def test_load_puts_the_model_on_the_device_named(
    fitted: huiyan.TextClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted.save(tmp_path)
    with pytest.raises(ConfigError, match="There is no device 'abacus'"):
        huiyan.TextClassifier.load(tmp_path, device="abacus")
    asked: list[str] = []
    pick_device = estimators.pick_device

    def recorded(name: str) -> Any:
        asked.append(name)
        return pick_device(name)

    monkeypatch.setattr(estimators, "pick_device", recorded)
    for device in ("cpu", "auto"):
        model = huiyan.TextClassifier.load(tmp_path, device=device).artifact_.model
        assert {parameter.device.type for parameter in model.parameters()} == {pick_device(device).type}
    huiyan.TextClassifier.load(tmp_path)
    assert asked == ["cpu", "auto", "auto"]


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        ("one text", ["a"], "Got one string instead"),
        (TEXTS, LABELS[:-1], "Got 160 texts, 159 labels"),
        ([*TEXTS[:-1], None], LABELS, "Got NoneType at position 159"),
        (TEXTS, [0.5, 1.5] * 80, "Labels must be strings, integers or booleans. Got 0.5 of type float"),
        (TEXTS[:10], LABELS[:10], "At least 20 usable rows"),
        ([], [], "At least 20 usable rows"),
        (TEXTS, ["a"] * 160, "at least two are needed"),
    ],
)
def test_wrong_input_says_what_was_expected(tiny_model: Path, texts: object, labels: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        classifier(tiny_model).fit(texts, labels)  # pyright: ignore[reportArgumentType] (wrong on purpose)


def test_a_wrong_option_is_an_error(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="precision option must be one of"):
        classifier(tiny_model, precision="int8").fit(TEXTS, LABELS)


def strip(texts: list[str]) -> list[str]:
    return [text.strip() for text in texts]


def test_it_works_in_scikit_learns_pipelines_and_searches(tiny_model: Path) -> None:
    texts, labels = np.array([f"  {text} " for text in TEXTS[:80]]), np.array(LABELS[:80])
    pipeline = Pipeline([("strip", FunctionTransformer(strip)), ("model", classifier(tiny_model, epochs=2))])
    scores = cross_val_score(pipeline, texts, labels, cv=2)
    assert scores.shape == (2,) and scores.min() >= 0.4
    search = GridSearchCV(pipeline, {"model__epochs": [1, 8]}, cv=2, error_score="raise").fit(texts, labels)
    assert search.best_params_ == {"model__epochs": 8}
    assert search.best_estimator_.predict(texts[:4]).tolist() == LABELS[:4]
    shown = search.best_estimator_["model"]._repr_mimebundle_()["text/html"]  # what notebooks show
    assert "TextClassifier" in shown and "one of 2 labels: down, up" in shown


def test_numbers_go_through_scikit_learns_pipelines_and_searches(tiny_model: Path) -> None:
    texts, numbers = np.array([f"  {text} " for text in TEXTS[:80]]), np.array([1.0, -1.0] * 40)
    model = huiyan.TextRegressor(
        str(tiny_model), epochs=2, learning_rate=3e-3, max_length=32, batch_tokens=64, precision="fp32"
    )
    assert sklearn.base.clone(model).get_params() == model.get_params()
    pipeline = Pipeline([("strip", FunctionTransformer(strip)), ("model", model)])
    scores = cross_val_score(pipeline, texts, numbers, cv=2)  # R²
    assert scores.shape == (2,) and scores.max() <= 1
    search = GridSearchCV(pipeline, {"model__epochs": [1, 8]}, cv=2, error_score="raise").fit(texts, numbers)
    assert search.best_params_ == {"model__epochs": 8} and search.best_score_ > 0
    assert (np.sign(search.best_estimator_.predict(texts[:4])) == numbers[:4]).all()
