"""The main job in scikit-learn's manner: ``TextClassifier().fit(texts, labels).predict(texts)``."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from rich.console import Console
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError

from huiyan.core.devices import pick_device
from huiyan.core.errors import DataError, OutputError
from huiyan.data.examples import Examples
from huiyan.data.quality import check_usable
from huiyan.data.splits import split_rows
from huiyan.tasks.artifact import Artifact, Patience
from huiyan.tasks.manifest import MANIFEST
from huiyan.tasks.precision import answering_precision
from huiyan.training.config import TrainingConfig
from huiyan.training.progress import Silent, progress_for
from huiyan.workflows.config import FitConfig, ModelConfig
from huiyan.workflows.fit import fit_classifier
from huiyan.workflows.models import fetch_model, model_for
from huiyan.workflows.run_folder import RUN


class TextClassifier(ClassifierMixin, BaseEstimator):
    """Fine-tunes a pretrained encoder to give each text one of several labels.

    Labels may be strings, integers or booleans, all of one kind, and come back as what they were, from a saved
    folder too. Probabilities follow ``classes_``.

    An option that is None is that of ``config``, and one that is given replaces it.

    Args:
        model: ``auto``, ``package:NAME``, a folder, or ``OWNER/NAME`` on the hub.
        epochs: passes over the training texts.
        learning_rate: peak learning rate, per step.
        max_length: tokens a text is cut to, special tokens included; None is the default of ``ModelConfig``.
        batch_tokens: tokens in a batch.
        precision: to train in: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        seed: of the order, the dropout, the head and the validation rows.
        config: all training options; None is ``TrainingConfig()``.
        early_exit: train a head after every layer, so that ``predict`` can be given a ``patience``; None is the
            default of ``ModelConfig``, which is not to.
        verbose: tell on standard error how the training goes.

    Answers are given in bfloat16 where the machine multiplies it natively and the training found that nothing that
    matters changes, else in float32; ``load`` takes another ``precision``.
    """

    classes_: np.ndarray

    def __init__(
        self,
        model: str = "auto",
        *,
        epochs: int | None = None,
        learning_rate: float | None = None,
        max_length: int | None = None,
        batch_tokens: int | None = None,
        precision: str | None = None,
        seed: int | None = None,
        config: TrainingConfig | None = None,
        early_exit: bool | None = None,
        verbose: bool = False,
    ) -> None:
        self.model = model
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.max_length = max_length
        self.batch_tokens = batch_tokens
        self.precision = precision
        self.seed = seed
        self.config = config
        self.early_exit = early_exit
        self.verbose = verbose

    def fit(
        self, X: Sequence[str], y: Sequence[Any], *, validation: tuple[Sequence[str], Sequence[Any]] | None = None
    ) -> Self:
        """Fine-tune on texts and their labels.

        Args:
            X: texts, `n`.
            y: labels, `n`: strings, integers or booleans.
            validation: texts and labels that pick the best checkpoint; a tenth of the rows when not given.
        Raises:
            DataError: too few texts, one label alone, texts and labels of different number, or of a wrong kind.
            ConfigError: an option is not one we know.
        """
        model_config = dataclasses.replace(ModelConfig(model=self.model), **self._given("max_length", "early_exit"))
        training = dataclasses.replace(
            TrainingConfig() if self.config is None else self.config,
            **self._given("epochs", "learning_rate", "batch_tokens", "precision", "seed"),
        )
        rows = _examples(X, y, "the training texts")
        label_kind = _kind_of([*y, *(validation[1] if validation is not None else ())])
        check_usable(rows, label_column="y")
        if validation is None:
            splits = split_rows(rows.labels, rows.texts, groups=None, seed=training.seed, fractions=(0.9, 0.1, 0.0))
            train, held_out = rows.take(splits.train), rows.take(splits.validation)
        else:
            train, held_out = rows, _validation(*validation, known=rows.labels)
        fitted = fit_classifier(
            train,
            held_out,
            fetch_model(model_for(self.model, train.texts)),
            columns=(("text",), "label"),
            options=FitConfig(model=model_config, training=training),
            reporter=progress_for(Console(stderr=True)) if self.verbose else Silent(),
        )
        manifest = dataclasses.replace(fitted.artifact.manifest, label_kind=label_kind)
        precision = answering_precision("auto", fitted.device, bf16=manifest.bf16, int8=manifest.int8)
        self.artifact_ = dataclasses.replace(fitted.artifact, manifest=manifest, precision=precision)
        self.classes_ = np.array(manifest.labels)
        return self

    def predict_proba(self, X: Sequence[str], *, patience: Patience = None) -> np.ndarray:
        """Probabilities of texts, `n c`, in the order of ``classes_``.

        Args:
            X: texts, `n`.
            patience: how many layers in a row have to agree before a text leaves early, or "auto" for the number
                that was chosen on the validation texts; None is full depth.
        Raises:
            ConfigError: ``patience`` is below 1, or the model was not trained with ``early_exit``.
        """
        return self._fitted().probabilities(_texts(X, "the texts"), patience=patience)

    def predict(self, X: Sequence[str], *, patience: Patience = None) -> np.ndarray:
        """The most probable label of each text, `n`; ``patience`` as for ``predict_proba``."""
        artifact = self._fitted()
        return self.classes_[artifact.manifest.decision.choose(self.predict_proba(X, patience=patience))]

    def save(self, path: str | Path) -> None:
        """Write the model folder that ``load``, `huiyan predict` and ``transformers`` read.

        Raises:
            OutputError: the folder holds something already that ``save`` did not write.
        """
        folder = Path(path)
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder} is a file; a model is saved as a folder.")
        if (folder / RUN).is_file():
            # Its report and its splits would stand beside a model they do not tell of.
            raise OutputError(f"{folder} holds a run of `huiyan train`.", hint="Name another folder.")
        if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
            raise OutputError(f"{folder} holds other files.", hint="Name an empty or a new folder.")
        self._fitted().save(folder)

    @classmethod
    def load(cls, path: str | Path, *, device: str = "auto", precision: str = "auto") -> Self:
        """Read a folder that ``save`` or `huiyan train` wrote. Labels of `huiyan train` are strings.

        Args:
            path: the folder.
            device: where the model is to answer: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
            precision: to answer in, as for `huiyan predict`: "auto" is bf16 where the machine multiplies it natively
                and the training found that nothing that matters changes; else "fp32", "bf16", "fp16" or "int8".
        Raises:
            ArtifactError: the folder is none of ours, damaged, or too new.
            ConfigError: the device is unknown or not on this machine, or the precision is not for it or the model.
        """
        artifact = Artifact.load(Path(path), device=pick_device(device), precision=precision)
        manifest = artifact.manifest
        loaded = cls(
            model=manifest.source, max_length=manifest.max_length, early_exit=artifact.exits is not None or None
        )
        loaded.artifact_ = artifact
        loaded.classes_ = np.array(artifact.manifest.labels)
        return loaded

    def _given(self, *names: str) -> dict[str, Any]:
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

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


def _validation(texts: Sequence[str], labels: Sequence[Any], *, known: Sequence[str]) -> Examples:
    rows = _examples(texts, labels, "the validation texts")
    if not rows.texts:
        raise DataError(
            "The validation texts must be one or more. Got none instead.",
            hint="Leave out validation, and a tenth of the training rows serves.",
        )
    unknown = sorted(set(rows.labels) - set(known))
    if unknown:
        raise DataError(f"The validation label {unknown[0]!r} is not among the training labels.")
    return rows


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
    # The plain value first: a member of an integer enumeration may print as its name.
    plain = {"text": str, "integer": int, "boolean": bool}[_kind(value)]
    return str(plain(value))


def _kind_of(labels: Sequence[Any]) -> str:
    # 1 and "1" would be one class, and only one of them could come back.
    example = {_kind(value): value for value in labels}
    if len(example) > 1:
        kinds, values = " and ".join(sorted(example)), ", ".join(repr(example[kind]) for kind in sorted(example))
        raise DataError(
            f"Labels must all be of one kind. Got {kinds} labels instead: {values}.",
            hint="Convert them first, for example with [str(label) for label in y].",
        )
    return next(iter(example), "text")


def _kind(value: Any) -> str:
    # Booleans first: in Python they are integers too.
    if isinstance(value, (bool, np.bool_)):
        return "boolean"
    if isinstance(value, (int, np.integer)):
        return "integer"
    if isinstance(value, str):
        return "text"
    raise DataError(
        f"Labels must be strings, integers or booleans. Got {value!r} of type {type(value).__name__} instead."
    )
