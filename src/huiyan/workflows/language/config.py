"""What can be chosen about a language model. Imports no torch."""

from dataclasses import dataclass, field
from typing import Any, Literal

from huiyan.core.config import Config, require
from huiyan.core.errors import ConfigError, closest
from huiyan.models.segment_config import PUBLISHED
from huiyan.text.units import UNITS, Unit
from huiyan.training.config import LoopConfig

ARCHITECTURES = ("transformer-xl", "transformer", "lstm")


@dataclass(frozen=True, kw_only=True)
class TextConfig(Config):
    """What a model reads, and in what units.

    Attributes:
        tokens: What a token is: bytes, chars, words (between spaces), or pieces that are learnt: bpe or unigram. A
            model that goes on from a folder keeps its own.
        vocab_size: Tokens at most; without it all characters or words, or 8,000 pieces.
        validation: File to pick the best weights by; without it, a twentieth of the text before its end.
        test: File to measure the model on, once; without it, the last twentieth of the text.
        encoding: Of the files, such as gb18030; without it, it is recognised.
    """

    tokens: Unit = "bpe"
    vocab_size: int | None = None
    validation: str | None = None
    test: str | None = None
    encoding: str | None = None

    def __post_init__(self) -> None:
        require(self.tokens in UNITS, "tokens", "one of " + ", ".join(UNITS), self.tokens)
        require(self.vocab_size is None or self.vocab_size > 0, "vocab_size", "1 or more", self.vocab_size)


@dataclass(frozen=True, kw_only=True)
class LanguageOptions(Config):
    """Which model.

    Attributes:
        objective: causal (guess the next token) or mlm (guess words that are hidden, as BERT is pretrained; the result
            is an encoder for `huiyan train --model`).
        model: transformer-xl, transformer (causal: a decoder with rotary positions; mlm: BERT), lstm; or a folder with
            a language model to go on from, whose numbers then stand; for mlm also package:NAME. auto is transformer-xl,
            and for mlm transformer.
        layers: Layers.
        width: Of the states between layers.
        heads: Attention heads of a layer.
        head_width: Of a head; without it width / heads.
        feed_forward_width: Inside a layer; without it 4 × width, and 8/3 × width for a transformer, whose layer has
            three matrices there.
        segment_length: Tokens that are read at a time.
        memory_length: Tokens that are kept of what was read before, for transformer-xl.
        norm: Of a transformer-xl: pre (before each sublayer: learns faster and at higher rates) or post (the paper's).
            Without it pre.
        dropout: Probability, between layers.
        attention_dropout: Probability, on attention weights.
        cutoffs: Where clusters of rarer words begin, for large vocabularies; give it several times.
        div_value: Each cluster's vectors are so many times narrower than those of the one before.
        own_projections: Give the output other matrices than the input to bring clusters to the width.
    """

    objective: Literal["causal", "mlm"] = "causal"
    model: str = "auto"
    layers: int = 6
    width: int = 256
    heads: int = 4
    head_width: int | None = None
    feed_forward_width: int | None = None
    segment_length: int = 128
    memory_length: int = 128
    norm: Literal["pre", "post"] | None = None
    dropout: float = 0.1
    attention_dropout: float = 0.0
    cutoffs: tuple[int, ...] = ()
    div_value: int = 1
    own_projections: bool = False

    def __post_init__(self) -> None:
        require(self.objective in ("causal", "mlm"), "objective", "causal or mlm", self.objective)
        if self.is_masked and self.model in ("transformer-xl", "lstm"):
            raise ConfigError(
                f"A {self.model} sees no words to come, and mlm guesses from both sides.", hint="Leave --model away."
            )
        for name in ("layers", "width", "heads", "segment_length", "div_value"):
            require(getattr(self, name) >= 1, name, "1 or more", getattr(self, name))
        require(self.memory_length >= 0, "memory_length", "0 or more", self.memory_length)
        require(self.norm in (None, "pre", "post"), "norm", "pre or post", self.norm)
        for name in ("dropout", "attention_dropout"):
            require(0 <= getattr(self, name) < 1, name, "at least 0 and below 1", getattr(self, name))

    @property
    def is_masked(self) -> bool:
        """Whether hidden words are guessed."""
        return self.objective == "mlm"

    @property
    def architecture(self) -> str:
        """What ``model`` means: one of ``ARCHITECTURES``, or what to go on from."""
        if self.model != "auto":
            return self.model
        return "transformer" if self.is_masked else "transformer-xl"


@dataclass(frozen=True, kw_only=True)
class LanguageTrainingConfig(LoopConfig):
    """How it is trained: the paper's way, at a learning rate for small models.

    Source of the defaults: Dai et al. 2019 (Adam, cosine, gradients clipped at 0.25).
    """

    epochs: int = 3
    learning_rate: float = 1e-3
    batch_tokens: int = 2048
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    warmup: float = 0.02
    weight_decay: float = 0.0
    clip: float = 0.25
    validations_per_epoch: int = 2


@dataclass(frozen=True, kw_only=True)
class LanguageRun(Config):
    """One ``huiyan lm train``.

    Attributes:
        texts: The files to learn from, in order.
        out: The folder to write.
        text: What a token is, and which part is kept for what.
        model: Which model.
        training: How it is trained.
    """

    texts: tuple[str, ...]
    out: str
    text: TextConfig = field(default_factory=TextConfig)
    model: LanguageOptions = field(default_factory=LanguageOptions)
    training: LanguageTrainingConfig = field(default_factory=LanguageTrainingConfig)

    def __post_init__(self) -> None:
        require(len(self.texts) > 0, "texts", "at least one file", self.texts)
        tokens, length = self.training.batch_tokens, self.model.segment_length
        require(tokens >= length, "batch_tokens", f"at least the segment_length, {length}", tokens)


@dataclass(frozen=True, kw_only=True)
class ReadingConfig(Config):
    """How text is read.

    Attributes:
        segment_length: Tokens that are read at a time; without it 128, or all positions of a model that has fewer.
        memory_length: Tokens that a Transformer-XL keeps of what was read; without it, as it was trained.
        same_length: Let every token see memory_length tokens, as the paper evaluates.
        clamp_length: Let greater distances count as this one, as the paper evaluates with a longer memory.
        streams: Read the text in so many streams side by side: faster, and each begins without a memory. Without it 8,
            or fewer where the streams of a short text would have fewer than 16 segments each.
        encoding: Of the files; without it, it is recognised.
        device: auto, cpu, cuda, cuda:N or mps.
    """

    segment_length: int | None = None
    memory_length: int | None = None
    same_length: bool = False
    clamp_length: int | None = None
    streams: int | None = None
    encoding: str | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, least in (("segment_length", 1), ("memory_length", 0), ("clamp_length", 1), ("streams", 1)):
            value = getattr(self, name)
            require(value is None or value >= least, name, f"{least} or more", value)
        if self.same_length and self.memory_length == 0:
            raise ConfigError("With same_length every token sees as many as memory_length, and none would be seen.")


DEFAULT_READING = ReadingConfig()


def _published(name: str, tokens: Unit, n_streams: int, epochs: int, warmup: float = 0.0) -> dict[str, Any]:
    numbers = PUBLISHED[name]
    length = numbers.memory_length
    return {
        "model": "transformer-xl",
        "tokens": tokens,
        "layers": numbers.n_layers,
        "width": numbers.width,
        "heads": numbers.n_heads,
        "head_width": numbers.head_width,
        "feed_forward_width": numbers.feed_forward_width,
        "segment_length": length,
        "memory_length": length,
        "norm": numbers.residual,
        "dropout": numbers.dropout,
        "attention_dropout": numbers.attention_dropout,
        "cutoffs": list(numbers.cutoffs),
        "div_value": numbers.div_value,
        "own_projections": numbers.tied_projections is False and bool(numbers.cutoffs),
        "batch_tokens": n_streams * length,
        "epochs": epochs,
        "learning_rate": 2.5e-4,
        "warmup": warmup,
        "patience": 0,
    }


PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"layers": 2, "width": 128, "heads": 4, "segment_length": 64, "memory_length": 64, "batch_tokens": 1024},
    "small": {"layers": 6, "width": 256, "heads": 4, "segment_length": 128, "memory_length": 128},
    "enwik8-base": _published("enwik8-base", "bytes", 22, 50),
    "enwik8-large": _published("enwik8-large", "bytes", 64, 218, 0.01),
    "text8-base": _published("text8-base", "chars", 22, 50),
    "text8-large": _published("text8-large", "chars", 64, 218, 0.01),
    "wt103-base": _published("wt103-base", "words", 60, 18),
    "wt103-large": _published("wt103-large", "words", 128, 1909, 0.004),
    "lm1b-base": _published("lm1b-base", "words", 224, 4, 0.04),
    "lm1b-large": _published("lm1b-large", "words", 512, 24, 0.017),
}
"""Names for sets of options. Those of the paper have its steps, as epochs of its data.

Source: Dai et al. 2019, and the scripts of its published code."""


def preset(name: str) -> dict[str, Any]:
    """The options of a preset.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in PRESETS:
        raise ConfigError(
            f"There is no preset {name!r}.", hint=closest(name, PRESETS) or f"One of {', '.join(PRESETS)}."
        )
    return PRESETS[name]
