"""The main job in scikit-learn's manner: ``TextClassifier().fit(texts, labels).predict(texts)``."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError

from huiyan.core.errors import DataError, OutputError
from huiyan.data.examples import Examples
from huiyan.data.quality import check_usable
from huiyan.data.splits import split_rows
from huiyan.tasks.artifact import MANIFEST, Artifact
from huiyan.training.config import TrainingConfig
from huiyan.training.progress import Silent
from huiyan.workflows.config import ModelConfig
from huiyan.workflows.fit import fit_classifier
from huiyan.workflows.models import fetch_model


class TextClassifier(ClassifierMixin, BaseEstimator):
    """Fine-tunes a pretrained encoder to give each text one of several labels.

    Labels may be strings or integers, and come back as what they were. Probabilities follow ``classes_``.

    Args:
        model: ``auto``, ``package:NAME``, a folder, or ``OWNER/NAME`` on the hub.
        epochs: passes over the training texts.
        learning_rate: peak learning rate, per step.
        max_length: tokens a text is cut to, special tokens included.
        batch_tokens: tokens in a batch.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        seed: of the order, the dropout, the head and the validation rows.
        config: further training options; the arguments above replace those of the same name.
    """

    classes_: np.ndarray

    def __init__(
        self,
        model: str = "auto",
        *,
        epochs: int = 3,
        learning_rate: float = 1e-4,
        max_length: int = 256,
        batch_tokens: int = 2048,
        precision: str = "auto",
        seed: int = 0,
        config: TrainingConfig | None = None,
    ) -> None:
        self.model = model
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.max_length = max_length
        self.batch_tokens = batch_tokens
        self.precision = precision
        self.seed = seed
        self.config = config

    def fit(
        self, X: Sequence[str], y: Sequence[Any], *, validation: tuple[Sequence[str], Sequence[Any]] | None = None
    ) -> Self:
        """Fine-tune on texts and their labels.

        Args:
            X: texts, `n`.
            y: labels, `n`: strings or integers.
            validation: texts and labels that pick the best checkpoint; a tenth of the rows when not given.
        Raises:
            DataError: too few texts, one label alone, texts and labels of different number, or of a wrong kind.
        """
        training = dataclasses.replace(
            self.config or TrainingConfig(),
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            batch_tokens=self.batch_tokens,
            precision=self.precision,  # pyright: ignore[reportArgumentType] (checked by the configuration itself)
            seed=self.seed,
        )
        rows = _examples(X, y, "the training texts")
        check_usable(rows, label_column="y")
        if validation is None:
            splits = split_rows(rows.labels, rows.texts, groups=None, seed=self.seed, fractions=(0.9, 0.1, 0.0))
            train, held_out = rows.take(splits.train), rows.take(splits.validation)
        else:
            train, held_out = rows, _examples(*validation, "the validation texts")
            unknown = sorted(set(held_out.labels) - set(train.labels))
            if unknown:
                raise DataError(f"The validation label {unknown[0]!r} is not among the training labels.")
        fitted = fit_classifier(
            train,
            held_out,
            fetch_model(self.model),
            columns=(("text",), "label"),
            model_config=ModelConfig(model=self.model, max_length=self.max_length),
            training=training,
            reporter=Silent(),
        )
        self.artifact_ = fitted.artifact
        originals = {_label(value): value for value in y}
        self.classes_ = np.array([originals[name] for name in self.artifact_.manifest.classes])
        return self

    def predict_proba(self, X: Sequence[str]) -> np.ndarray:
        """Probabilities of texts, `n c`, in the order of ``classes_``."""
        return self._fitted().probabilities(_texts(X, "the texts"))

    def predict(self, X: Sequence[str]) -> np.ndarray:
        """The most probable label of each text, `n`."""
        artifact = self._fitted()
        return self.classes_[artifact.manifest.decision.choose(self.predict_proba(X))]

    def save(self, path: str | Path) -> None:
        """Write the model folder that ``load``, `huiyan predict` and ``transformers`` read.

        Raises:
            OutputError: the folder holds something already that is not a model of ours.
        """
        folder = Path(path)
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder} is a file; a model is saved as a folder.")
        if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
            raise OutputError(f"{folder} holds other files.", hint="Name an empty or a new folder.")
        self._fitted().save(folder)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a folder that ``save`` or `huiyan train` wrote. Labels are strings then, as in the folder.

        Raises:
            ArtifactError: the folder is none of ours, damaged, or too new.
        """
        artifact = Artifact.load(Path(path))
        loaded = cls(model=artifact.manifest.source, max_length=artifact.manifest.max_length)
        loaded.artifact_ = artifact
        loaded.classes_ = np.array(artifact.manifest.classes)
        return loaded

    def _fitted(self) -> Artifact:
        artifact = getattr(self, "artifact_", None)
        if artifact is None:
            raise NotFittedError("This TextClassifier is not fitted yet. Call fit(texts, labels), or load(folder).")
        return artifact


def _examples(texts: Sequence[str], labels: Sequence[Any], name: str) -> Examples:
    checked, named = _texts(texts, name), [_label(value) for value in labels]
    if len(checked) != len(named):
        raise DataError(f"There must be one label for each of {name}. Got {len(checked)} texts, {len(named)} labels.")
    return Examples(checked, named, None, [f"row {number}" for number in range(len(checked))])


def _texts(texts: Sequence[str], name: str) -> list[str]:
    if isinstance(texts, str):
        raise DataError(
            f"{name.capitalize()} must be a sequence of strings. Got one string instead.", hint="Use [text]."
        )
    listed = list(texts)
    for number, text in enumerate(listed):
        if not isinstance(text, str):
            raise DataError(f"{name.capitalize()} must be strings. Got {type(text).__name__} at position {number}.")
    return listed


def _label(value: Any) -> str:
    if isinstance(value, (str, int, np.integer)) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    raise DataError(f"Labels must be strings or integers. Got {value!r} of type {type(value).__name__} instead.")
