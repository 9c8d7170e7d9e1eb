"""The main job in scikit-learn's manner: ``TextClassifier().fit(texts, labels).predict(texts)``; numbers likewise."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from rich.console import Console
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import NotFittedError

from huiyan.core.devices import pick_device
from huiyan.core.errors import ArtifactError, DataError, OutputError
from huiyan.core.texts import Text
from huiyan.data.examples import Examples
from huiyan.data.labels import Kind, number_label
from huiyan.data.quality import check_usable
from huiyan.data.splits import split_rows
from huiyan.tasks.artifact import Artifact, Patience
from huiyan.tasks.manifest import MANIFEST
from huiyan.tasks.precision import answering_precision
from huiyan.training.config import TrainingConfig
from huiyan.training.progress import Silent, progress_for
from huiyan.workflows.config import DataConfig, FitConfig, ModelConfig
from huiyan.workflows.fit import fit_model
from huiyan.workflows.models import fetch_model, model_for
from huiyan.workflows.run_folder import RUN


class _TextEstimator(BaseEstimator):
    """What fine-tunes a pretrained encoder on texts, or on pairs of texts given as tuples of two."""

    kind: ClassVar[Kind]
    artifact_: Artifact

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

    def _fit(self, rows: Examples, held_out: Examples | None, label_kind: str) -> Artifact:
        model_config = dataclasses.replace(ModelConfig(model=self.model), **self._given("max_length", "early_exit"))
        training = dataclasses.replace(
            TrainingConfig() if self.config is None else self.config,
            **self._given("epochs", "learning_rate", "batch_tokens", "precision", "seed"),
        )
        check_usable(rows, label_column="y")
        train = rows
        if held_out is None:
            splits = split_rows(rows.strata, rows.plain, groups=None, seed=training.seed, fractions=(0.9, 0.1, 0.0))
            train, held_out = rows.take(splits.train), rows.take(splits.validation)
        pairs = not isinstance(rows.texts[0], str)
        fitted = fit_model(
            train,
            held_out,
            fetch_model(model_for(self.model, train.plain)),
            data=DataConfig(text=("text",), text_pair=("text_pair",) if pairs else (), label="label", task=self.kind),
            options=FitConfig(model=model_config, training=training),
            reporter=progress_for(Console(stderr=True)) if self.verbose else Silent(),
        )
        manifest = dataclasses.replace(fitted.artifact.manifest, label_kind=label_kind)
        precision = answering_precision("auto", fitted.device, bf16=manifest.bf16, int8=manifest.int8)
        return dataclasses.replace(fitted.artifact, manifest=manifest, precision=precision)

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
        if manifest.task != cls.kind:
            reader = {"classify": "TextClassifier", "regression": "TextRegressor"}.get(manifest.task)
            raise ArtifactError(
                f"{path} is for the task {manifest.task}, and {cls.__name__} is for {cls.kind}.",
                hint=f"Use {reader}.load." if reader else "Use `huiyan predict`, or Artifact.load.",
            )
        loaded = cls(
            model=manifest.source, max_length=manifest.max_length, early_exit=artifact.exits is not None or None
        )
        loaded.artifact_ = artifact
        loaded._take_up(artifact)
        return loaded

    def _take_up(self, artifact: Artifact) -> None:
        """Set what callers may read of a fitted estimator."""

    def _readable(self, texts: Sequence[Text]) -> list[Text]:
        """Texts as this model reads them, one or two at a time.

        Raises:
            DataError: they are no texts, or two where the model learned from one, or one where it learned from two.
        """
        return _texts(texts, "the texts", paired=bool(self._fitted().manifest.text_pair_columns))

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        """What a notebook shows: scikit-learn's picture, and of a fitted one what the model is."""
        bundle: dict[str, str] = super()._repr_mimebundle_(**kwargs)
        artifact = getattr(self, "artifact_", None)
        if artifact is not None and "text/html" in bundle:
            bundle["text/html"] += artifact._repr_html_()
        return bundle

    def _given(self, *names: str) -> dict[str, Any]:
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def _fitted(self) -> Artifact:
        artifact = getattr(self, "artifact_", None)
        if artifact is None:
            name = type(self).__name__
            raise NotFittedError(f"This {name} is not fitted yet. Call fit(texts, labels), or load(folder).")
        return artifact


class TextClassifier(ClassifierMixin, _TextEstimator):
    """Fine-tunes a pretrained encoder to give each text one of several labels.

    Labels may be strings, integers or booleans, all of one kind, and come back as what they were, from a saved
    folder too. Probabilities follow ``classes_``. A text may be a tuple of two that are read together.

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

    kind = "classify"
    classes_: np.ndarray

    def fit(
        self, X: Sequence[Text], y: Sequence[Any], *, validation: tuple[Sequence[Text], Sequence[Any]] | None = None
    ) -> Self:
        """Fine-tune on texts and their labels.

        Args:
            X: texts, `n`, or tuples of two.
            y: labels, `n`: strings, integers or booleans.
            validation: texts and labels that pick the best checkpoint; a tenth of the rows when not given.
        Raises:
            DataError: too few texts, one label alone, texts and labels of different number, or of a wrong kind.
            ConfigError: an option is not one we know.
        """
        rows = _examples(X, [_label(value) for value in y], "the training texts")
        label_kind = _kind_of([*y, *(validation[1] if validation is not None else ())])
        held_out = None
        if validation is not None:
            held_out = _validation(validation[0], [_label(value) for value in validation[1]], rows)
        self.artifact_ = self._fit(rows, held_out, label_kind)
        self._take_up(self.artifact_)
        return self

    def predict_proba(self, X: Sequence[Text], *, patience: Patience = None) -> np.ndarray:
        """Probabilities of texts, `n c`, in the order of ``classes_``.

        Args:
            X: texts, `n`, or tuples of two.
            patience: how many layers in a row have to agree before a text leaves early, or "auto" for the number
                that was chosen on the validation texts; None is full depth.
        Raises:
            ConfigError: ``patience`` is below 1, or the model was not trained with ``early_exit``.
        """
        return self._fitted().outputs(self._readable(X), patience=patience)

    def predict(self, X: Sequence[Text], *, patience: Patience = None) -> np.ndarray:
        """The most probable label of each text, `n`; ``patience`` as for ``predict_proba``."""
        artifact = self._fitted()
        return self.classes_[artifact.manifest.decision.choose(self.predict_proba(X, patience=patience))]

    def _take_up(self, artifact: Artifact) -> None:
        self.classes_ = np.array(artifact.manifest.labels)


class TextRegressor(RegressorMixin, _TextEstimator):
    """Fine-tunes a pretrained encoder to give each text a number.

    A text may be a tuple of two that are read together, such as two sentences and how alike they are.

    Options are those of ``TextClassifier``; ``early_exit`` has no meaning here.
    """

    kind = "regression"

    def fit(
        self, X: Sequence[Text], y: Sequence[float], *, validation: tuple[Sequence[Text], Sequence[float]] | None = None
    ) -> Self:
        """Fine-tune on texts and their numbers.

        Args:
            X: texts, `n`, or tuples of two.
            y: numbers, `n`; finite.
            validation: texts and numbers that pick the best checkpoint; a tenth of the rows when not given.
        Raises:
            DataError: too few texts, one number alone, texts and numbers of different number, or one that is none.
            ConfigError: an option is not one we know.
        """
        rows = _examples(X, [number_label(str(value)) for value in y], "the training texts", self.kind)
        held_out = None
        if validation is not None:
            held_out = _validation(validation[0], [number_label(str(value)) for value in validation[1]], rows)
        self.artifact_ = self._fit(rows, held_out, "text")
        return self

    def predict(self, X: Sequence[Text]) -> np.ndarray:
        """The number of each text, `n`."""
        return self._fitted().outputs(self._readable(X))[:, 0]


def _examples(
    texts: Sequence[Text], labels: list[str], name: str, kind: Kind = "classify", *, paired: bool | None = None
) -> Examples:
    checked = _texts(texts, name, paired=paired)
    if len(checked) != len(labels):
        raise DataError(f"There must be one label for each of {name}. Got {len(checked)} texts, {len(labels)} labels.")
    return Examples(checked, labels, None, [f"row {number}" for number in range(len(checked))], kind=kind)


def _validation(texts: Sequence[Text], labels: list[str], known: Examples) -> Examples:
    paired = isinstance(known.texts[0], tuple) if known.texts else None
    rows = _examples(texts, labels, "the validation texts", known.kind, paired=paired)
    if not rows.texts:
        raise DataError(
            "The validation texts must be one or more. Got none instead.",
            hint="Leave out validation, and a tenth of the training rows serves.",
        )
    unknown = sorted(set(rows.labels) - set(known.labels)) if known.kind != "regression" else []
    if unknown:
        raise DataError(f"The validation label {unknown[0]!r} is not among the training labels.")
    return rows


def _texts(texts: Sequence[Text], name: str, *, paired: bool | None = None) -> list[Text]:
    """Texts, all single ones or all tuples of two: as ``paired`` says, or else as the first is."""
    if isinstance(texts, str):
        raise DataError(
            f"{name.capitalize()} must be a sequence of strings. Got one string instead.", hint="Use [text]."
        )
    listed = list(texts)
    if paired is None:
        paired = bool(listed) and isinstance(listed[0], tuple)
    for number, text in enumerate(listed):
        fits = len(text) == 2 and all(isinstance(one, str) for one in text) if isinstance(text, tuple) else not paired
        if not fits or not (paired or isinstance(text, str)):
            wanted = "tuples of two strings, as the others are" if paired else "strings"
            raise DataError(f"{name.capitalize()} must be {wanted}. Got {type(text).__name__} at position {number}.")
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
