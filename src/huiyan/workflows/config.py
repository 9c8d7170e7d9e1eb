"""What a user can choose about a whole run. Imports no torch."""

from dataclasses import dataclass, field
from typing import Any, Literal

from huiyan.core.config import Config, require
from huiyan.core.errors import ConfigError
from huiyan.data.labels import AskedKind, LabelReader
from huiyan.training.config import TrainingConfig

MOST_REPEATS = 100
"""Trainings in one run, at most."""


@dataclass(frozen=True, kw_only=True)
class DataConfig(Config):
    """Which table, which columns, which splits.

    Attributes:
        text: Column with the text; give it several times to join columns.
        label: Column with the label.
        text_pair: Column with a second text that is read together with the first, such as an answer to a question.
        task: What the labels are: classify (one of several), multilabel (any number of several), ordinal (one of
            several that have an order) or regression (a number). auto is multilabel where they are lists or
            --label-separator is given, ordinal where --label-order is given, else classify.
        label_separator: What stands between the labels in a cell, such as "|"; several labels a text.
        label_order: The labels from the lowest to the highest, one after the other; numbers need none.
        drop_label: A label whose rows are set aside, such as "-" for rows that nobody agreed on.
        validation: File with the validation rows; without it they are taken from FILE.
        test: File with the test rows; without it they are taken from FILE.
        group: Column whose rows stay in one split together, such as a customer.
        encoding: Text encoding of the files, such as gb18030; without it, it is recognised.
    """

    text: tuple[str, ...]
    label: str
    text_pair: tuple[str, ...] = ()
    task: AskedKind = "auto"
    label_separator: str | None = None
    label_order: tuple[str, ...] = ()
    drop_label: tuple[str, ...] = ()
    validation: str | None = None
    test: str | None = None
    group: str | None = None
    encoding: str | None = None

    def __post_init__(self) -> None:
        for name in ("text", "text_pair", "label_order", "drop_label"):
            value = getattr(self, name)
            if isinstance(value, str):
                object.__setattr__(self, name, (value,))
        require(len(self.text) > 0, "text", "at least one column", self.text)
        self.label_reader()

    def label_reader(self) -> LabelReader:
        """What reads the label column, of all files of a run.

        Raises:
            ConfigError: the options are not for one kind of label.
        """
        return LabelReader(self.task, self.label_separator, self.label_order, self.drop_label)


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Config):
    """Which pretrained encoder, and what is put on it.

    Attributes:
        model: auto, package:NAME (see `huiyan models`), a folder, or OWNER/NAME on the hub. auto looks at the texts: an
            English model for Latin letters, else one for a hundred languages.
        revision: Commit or tag of a hub model.
        pooling: family (the family's own head), mean or attention.
        max_length: Tokens a text is cut to, special tokens included.
        early_exit: Train a head after every layer, so that `huiyan predict --patience` can answer easy texts early.
        freeze_words: Whether the vectors of the vocabulary stay as they are: yes, no, or auto, which is yes where there
            are over 100,000.
        trim_vocabulary: Leave out the pieces of scripts that the training texts are not written in: a smaller model,
            to which letters of other scripts are unknown.
    """

    model: str = "auto"
    revision: str | None = None
    pooling: Literal["family", "mean", "attention"] = "family"
    max_length: int = 256
    early_exit: bool = False
    freeze_words: Literal["auto", "yes", "no"] = "auto"
    trim_vocabulary: bool = False

    def __post_init__(self) -> None:
        freezing = ("auto", "yes", "no")
        require(self.freeze_words in freezing, "freeze_words", "one of " + ", ".join(freezing), self.freeze_words)
        require(self.max_length >= 3, "max_length", "3 or more", self.max_length)
        choices = ("family", "mean", "attention")
        require(self.pooling in choices, "pooling", "one of " + ", ".join(choices), self.pooling)


@dataclass(frozen=True, kw_only=True)
class AnswersConfig(Config):
    """When a trained model says what it believes, and when that it is not sure.

    Attributes:
        abstain_at: Share of the answers that are to be right, such as 0.95; texts the model is less sure of get none.
        label_precision: The same for each label by itself.
    """

    abstain_at: float | None = None
    label_precision: float | None = None

    def __post_init__(self) -> None:
        for name in ("abstain_at", "label_precision"):
            value = getattr(self, name)
            require(value is None or 0 < value < 1, name, "above 0 and below 1", value)
        if self.abstain_at is not None and self.label_precision is not None:
            raise ConfigError(
                "--abstain-at and --label-precision both say when an answer is sure enough.", hint="Give one of them."
            )


@dataclass(frozen=True, kw_only=True)
class ComputeConfig(Config):
    """How a trained model answers.

    Attributes:
        device: auto, cpu, cuda, cuda:N or mps.
        precision: auto, fp32, bf16, fp16 or int8. auto is bf16 where the machine multiplies it natively and the run
            found that its answers stay the same, else fp32. int8 is for the CPU, and refused for a run that found it
            to change too many labels.
        patience: Let a text leave the model once this many layers in a row agree on its label, for a run trained with
            --early-exit; auto is the number that run chose. Without it every text goes through every layer.
    """

    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "auto"
    patience: int | Literal["auto"] | None = None


DEFAULT_COMPUTE = ComputeConfig()


@dataclass(frozen=True, kw_only=True)
class WritingConfig(Config):
    """How a language model writes. What is left out is as the model's folder says.

    Attributes:
        max_tokens: Tokens to write at most, for each text; without, what the folder says, or 64.
        sample: Draw tokens; without, the likeliest are taken.
        temperature: Of the drawing: below 1 likelier tokens, above 1 rarer ones. Implies --sample, as the next three.
        top_k: Draw from the K likeliest.
        top_p: Draw from the fewest that together have this probability.
        min_p: Draw from those that have this share of the likeliest one's probability.
        seed: Of the drawing.
        beams: Search for the likeliest text among so many candidates.
        best: With --beams, how many texts to give for each.
        repetition_penalty: Above 1, tokens that stand in the text already become less likely.
    """

    max_tokens: int | None = None
    sample: bool = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int = 0
    beams: int | None = None
    best: int | None = None
    repetition_penalty: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_tokens", "beams", "best", "top_k"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, "1 or more", value)
        for name in ("temperature", "repetition_penalty"):
            value = getattr(self, name)
            require(value is None or value > 0, name, "above 0", value)
        drawing = [name for name in ("sample", "temperature", "top_k", "top_p", "min_p") if getattr(self, name)]
        if drawing and (self.beams or 1) > 1:
            raise ConfigError(
                f"--{drawing[0].replace('_', '-')} draws tokens, and --beams searches for the likeliest text.",
                hint="Give one of them.",
            )
        if (self.best or 1) > (self.beams or 1):
            raise ConfigError(
                f"--best {self.best} asks for more texts than --beams keeps.", hint=f"Give --beams {self.best} or more."
            )

    def options(self) -> dict[str, Any]:
        """The same for ``GenerationConfig``, without what is left out."""
        drawing = {name: getattr(self, name) for name in ("temperature", "top_k", "top_p", "min_p")}
        drawing = {name: value for name, value in drawing.items() if value is not None}
        others = {
            "max_tokens": self.max_tokens,
            "n_beams": self.beams,
            "n_best": self.best,
            "repetition_penalty": self.repetition_penalty,
        }
        found: dict[str, Any] = {name: value for name, value in others.items() if value is not None}
        if self.sample or drawing:
            found |= {"sample": True, **drawing}
        elif (self.beams or 1) > 1:
            found["sample"] = False  # whatever the folder says: a search draws nothing
        return found | {"seed": self.seed}


DEFAULT_WRITING = WritingConfig()


@dataclass(frozen=True, kw_only=True)
class FitConfig(Config):
    """All that can be chosen about a model, whatever it learns from.

    Attributes:
        model: Which encoder.
        training: How to train.
        answers: When to answer.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    answers: AnswersConfig = field(default_factory=AnswersConfig)


@dataclass(frozen=True, kw_only=True)
class RepeatConfig(Config):
    """How often to train, to see how far luck goes.

    Attributes:
        seeds: Train so many times on the same rows, with the seeds that follow --seed; the model that is best on the
            validation rows is kept, and the spread over all is reported.
        folds: Test on every row of FILE: train so many times, each time without one fold of the rows, and once more on
            all folds for the model that is kept. 0 is no such thing.
    """

    seeds: int = 1
    folds: int = 0

    def __post_init__(self) -> None:
        require(1 <= self.seeds <= MOST_REPEATS, "seeds", f"between 1 and {MOST_REPEATS}", self.seeds)
        fits = self.folds == 0 or 2 <= self.folds <= MOST_REPEATS
        require(fits, "folds", f"between 2 and {MOST_REPEATS}", self.folds)
        if self.seeds > 1 and self.folds:
            raise ConfigError("--seeds and --folds are two ways to train several times.", hint="Give one of them.")


@dataclass(frozen=True, kw_only=True)
class TrainRun(FitConfig):
    """One ``huiyan train``.

    Attributes:
        file: The table to learn from.
        out: The folder to write.
        data: Which columns and splits.
        repeats: How often.
    """

    file: str
    out: str
    data: DataConfig
    repeats: RepeatConfig = field(default_factory=RepeatConfig)

    def __post_init__(self) -> None:
        if self.repeats.folds and (self.data.test or self.data.validation):
            raise ConfigError(
                "--folds tests on every row of FILE, so --test and --validation have no place.",
                hint="Leave them out, or leave out --folds.",
            )
