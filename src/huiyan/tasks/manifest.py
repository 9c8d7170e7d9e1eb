"""``huiyan.json``: what a model folder is for, how its logits become answers, and what was measured of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, get_args

from huiyan.core.config import Config, require
from huiyan.core.decision import Decision
from huiyan.core.errors import ArtifactError, ConfigError
from huiyan.core.json_files import read_object
from huiyan.data.labels import Kind
from huiyan.tasks.kinds import task_named
from huiyan.tasks.precision import Int8Check, PrecisionCheck
from huiyan.tasks.task import Task

FORMAT = 1
MANIFEST = "huiyan.json"
# How the name of a class becomes the label again that ``str`` made it from.
_LABEL_OF_NAME: dict[str, Callable[[str], str | int | bool]] = {
    "text": str,
    "integer": int,
    "boolean": lambda name: name == "True",
}


@dataclass(frozen=True, kw_only=True)
class EarlyExit(Config):
    """What ``huiyan.json`` says of a folder with early exits.

    Args:
        patience: the one that was chosen on the validation rows; the number of layers stands for full depth.
        weights_sha256: SHA-256 of ``exits.safetensors``.
    """

    patience: int
    weights_sha256: str = ""

    def __post_init__(self) -> None:
        require(isinstance(self.patience, int) and self.patience >= 1, "patience", "1 or more", self.patience)


@dataclass(frozen=True, kw_only=True)
class Manifest(Config):
    """``huiyan.json``: what the model is for and how its logits become answers.

    Args:
        task: the kind of label.
        classes: names of the labels in the order of the logits; of ordinal ones from the lowest; none for numbers.
        label_kind: what the labels were before they were named: ``text``, ``integer`` or ``boolean``.
        text_columns: columns whose texts are joined to make the input.
        text_pair_columns: likewise of a second text that is read together with the first; none for one text.
        label_column: the column that held the label.
        label_separator: what stood between several labels there; None where they were a list, or one.
        max_length: tokens a text is cut to, special tokens included.
        decision: how logits become probabilities and a class.
        source: the pretrained model, as named; ``revision`` its commit or version.
        data_fingerprint: SHA-256 over the texts and labels trained on.
        weights_sha256: SHA-256 of ``model.safetensors``, which early exits and int8 are held to on loading.
        early_exit: how texts may leave early; None, and no key in the file, for a model without exits.
        bf16: what answering in bfloat16 changes; None, and no key, where that was not measured.
        int8: likewise of 8-bit integers.
    """

    format: int = FORMAT
    huiyan_version: str
    task: Kind = "classify"
    classes: tuple[str, ...]
    text_columns: tuple[str, ...]
    label_column: str
    max_length: int
    pooling: str
    family: str
    decision: Decision
    source: str
    revision: str | None
    licence: str | None
    origin: str
    data_fingerprint: str
    weights_sha256: str = ""
    label_kind: str = "text"
    label_separator: str | None = None
    text_pair_columns: tuple[str, ...] = ()
    early_exit: EarlyExit | None = None
    bf16: PrecisionCheck | None = None
    int8: Int8Check | None = None

    def __post_init__(self) -> None:
        kinds = tuple(_LABEL_OF_NAME)
        require(self.label_kind in kinds, "label_kind", "one of " + ", ".join(kinds), self.label_kind)
        fits = isinstance(self.classes, tuple) and all(_names_a(self.label_kind, name) for name in self.classes)
        require(fits, "classes", f"{self.label_kind} labels", self.classes)
        require(self.task in get_args(Kind), "task", "one of " + ", ".join(get_args(Kind)), self.task)
        link = self.as_task().untrained_decision.link
        require(self.decision.link == link, "link", f"{link} for {self.task}", self.decision.link)
        thresholds = self.decision.thresholds
        fitting = (len(self.classes),) if self.decision.link == "sigmoid" else (0, len(self.classes))
        require(len(thresholds) in fitting, "thresholds", "one for each class", thresholds)

    @property
    def labels(self) -> list[str | int | bool]:
        """The labels as they were in training, in the order of the logits."""
        return [_LABEL_OF_NAME[self.label_kind](name) for name in self.classes]

    def as_task(self) -> Task:
        """The kind of label, with its names."""
        return task_named(self.task, self.classes, label_column=self.label_column)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; what a model does not have is not mentioned."""
        optional = ("early_exit", "bf16", "int8", "label_separator", "text_pair_columns")
        return {key: value for key, value in super().to_dict().items() if value or key not in optional}

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read ``huiyan.json`` of a folder.

        Raises:
            ArtifactError: the folder is none of ours, of a newer format, or its manifest is broken.
        """
        path = folder / MANIFEST
        if not path.is_file():
            hint = "Give the --out folder of a finished `huiyan train`."
            if (folder / "config.json").is_file():
                hint = "It has a config.json: for a language model there are `huiyan lm` and, for its maps, `observe`."
            elif (folder / "run.json").is_file():
                hint = "Its training was not finished: go on with the same `huiyan train` and --resume."
            raise ArtifactError(f"{folder} is not a model folder of Huiyan: it has no {MANIFEST}.", hint=hint)
        values = read_object(path, ArtifactError, hint="Train again, or restore the folder.")
        if not isinstance(values.get("format"), int):
            raise ArtifactError(f"{path} does not say its format.", hint="Train again, or restore the folder.")
        if values["format"] > FORMAT:
            raise ArtifactError(
                f"{folder} has format {values['format']}; this version of Huiyan reads up to {FORMAT}.",
                hint="Install a newer Huiyan: pip install -U huiyan",
            )
        try:
            return cls.from_dict(values)
        except (ConfigError, TypeError) as error:
            raise ArtifactError(f"{path} does not fit: {error}", hint="Train again, or restore the folder.") from error


def _names_a(kind: str, name: Any) -> bool:
    try:
        return str(_LABEL_OF_NAME[kind](name)) == name
    except (TypeError, ValueError):
        return False
