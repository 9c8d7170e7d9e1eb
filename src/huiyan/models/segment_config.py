"""The numbers of language models that read streams, and those that the paper of Transformer-XL trained. No torch."""

from dataclasses import dataclass, replace
from typing import Literal, cast

from huiyan.core.config import Config, require
from huiyan.models.config import (
    LARGEST_VOCABULARY,
    LARGEST_WIDTH,
    MOST_HEADS,
    MOST_LAYERS,
    MOST_POSITIONS,
    is_count,
)

_LARGEST = {
    "vocab_size": LARGEST_VOCABULARY,
    "n_layers": MOST_LAYERS,
    "width": LARGEST_WIDTH,
    "n_heads": MOST_HEADS,
    "head_width": LARGEST_WIDTH,
    "feed_forward_width": LARGEST_WIDTH,
    "div_value": LARGEST_WIDTH,
}
_LARGEST_OR_NONE = {"embedding_width": LARGEST_WIDTH, "clamp_length": MOST_POSITIONS}
_SWITCHES = ("tied_words", "same_length", "untied_biases")
_SHARES = ("dropout", "attention_dropout")


def _check_values(config: Config) -> None:
    """That each number is one, of its kind and range: what a file says need not be."""
    values: dict[str, object] = vars(config)
    for name, most in _LARGEST.items():
        value = values.get(name, 1)
        require(is_count(value, most), name, f"a whole number from 1 to {most:,}", value)
    for name, most in _LARGEST_OR_NONE.items():
        value = values.get(name)
        require(value is None or is_count(value, most), name, f"a whole number from 1 to {most:,}, or None", value)
    for name in _SWITCHES:
        require(isinstance(values.get(name, False), bool), name, "True or False", values.get(name))
    for name in _SHARES:
        value = values.get(name, 0.0)
        fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1
        require(fits, name, "a number of at least 0 and below 1", value)
    ends = values["cutoffs"]
    whole = isinstance(ends, tuple) and all(
        is_count(end, LARGEST_VOCABULARY) for end in cast("tuple[object, ...]", ends)
    )
    require(whole, "cutoffs", f"whole numbers from 1 to {LARGEST_VOCABULARY:,}", ends)


@dataclass(frozen=True, kw_only=True)
class LSTMConfig(Config):
    """The numbers of an LSTM.

    Args:
        vocab_size: tokens.
        n_layers: layers.
        width: of every state, even.
        embedding_width: of the most frequent words; None is ``width``.
        cutoffs: where the clusters of rarer words begin.
        div_value: how many times narrower each cluster is than the one before.
        tied_words: whether the output has the rows of the input.
        dropout: probability, on embeddings, between layers and on the last state.
    """

    vocab_size: int
    n_layers: int
    width: int
    embedding_width: int | None = None
    cutoffs: tuple[int, ...] = ()
    div_value: int = 1
    tied_words: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_values(self)


@dataclass(frozen=True, kw_only=True)
class TransformerXLConfig(Config):
    """The numbers of a Transformer-XL.

    Args:
        vocab_size: tokens.
        n_layers: layers.
        width: `m`, of the residual stream, even.
        n_heads: heads of each layer.
        head_width: `d`.
        feed_forward_width: inside each layer.
        memory_length: states that are kept of what was read; 0 keeps none.
        same_length: whether every token sees ``memory_length`` tokens, itself included; else all that are kept.
        clamp_length: distances beyond it count as it; None clamps none.
        embedding_width: of the most frequent words; None is ``width``.
        cutoffs: where the clusters of rarer words begin.
        div_value: how many times narrower each cluster is than the one before.
        tied_words: whether the output has the rows of the input.
        tied_projections: for each cluster, whether the output has the projection of the input; or one answer for all.
        untied_biases: whether each layer has u and v of its own.
        residual: "post" is the paper's; "pre" has the norm inside, and none at the end.
        dropout: probability, on embeddings, positions, sublayers and the last state.
        attention_dropout: on attention weights.
    """

    vocab_size: int
    n_layers: int
    width: int
    n_heads: int
    head_width: int
    feed_forward_width: int
    memory_length: int = 0
    same_length: bool = False
    clamp_length: int | None = None
    embedding_width: int | None = None
    cutoffs: tuple[int, ...] = ()
    div_value: int = 1
    tied_words: bool = True
    tied_projections: bool | tuple[bool, ...] = False
    untied_biases: bool = False
    residual: Literal["post", "pre"] = "post"
    dropout: float = 0.0
    attention_dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_values(self)
        require(self.width % 2 == 0, "width", "even", self.width)
        kept: object = self.memory_length
        # False and 0.0 are equal to 0, and no whole numbers.
        whole = is_count(kept, MOST_POSITIONS) or (type(kept) is int and kept == 0)
        require(whole, "memory_length", f"a whole number from 0 to {MOST_POSITIONS:,}", kept)
        sees = not self.same_length or self.memory_length > 0
        require(sees, "memory_length", "at least 1 with same_length: a token sees itself", self.memory_length)
        require(self.residual in ("post", "pre"), "residual", "post or pre", self.residual)


def _published(numbers: tuple[int, int, int, int, int], **more: object) -> TransformerXLConfig:
    n_layers, width, n_heads, head_width, feed_forward_width = numbers
    return replace(
        TransformerXLConfig(
            vocab_size=1,
            n_layers=n_layers,
            width=width,
            n_heads=n_heads,
            head_width=head_width,
            feed_forward_width=feed_forward_width,
        ),
        **more,
    )


_WT103 = {"vocab_size": 267_735, "cutoffs": (20_000, 40_000, 200_000), "tied_projections": (False, True, True, True)}
_LM1B = {"vocab_size": 793_471, "cutoffs": (60_000, 100_000, 640_000)}
PUBLISHED = {
    "enwik8-base": _published((12, 512, 8, 64, 2048), vocab_size=204, memory_length=512, dropout=0.1),
    "enwik8-large": _published(
        (24, 1024, 8, 128, 3072), vocab_size=204, memory_length=768, dropout=0.15, attention_dropout=0.15
    ),
    "text8-base": _published((12, 512, 8, 64, 2048), vocab_size=27, memory_length=512, dropout=0.1),
    "text8-large": _published(
        (24, 1024, 8, 128, 3072), vocab_size=27, memory_length=768, dropout=0.15, attention_dropout=0.15
    ),
    "wt103-base": _published((16, 410, 10, 41, 2100), memory_length=150, dropout=0.1, **_WT103),
    "wt103-large": _published(
        (18, 1024, 16, 64, 4096), memory_length=384, dropout=0.2, attention_dropout=0.2, div_value=4, **_WT103
    ),
    "lm1b-base": _published((18, 1024, 8, 128, 4096), memory_length=32, div_value=4, **_LM1B),
    "lm1b-large": _published(
        (24, 1280, 16, 80, 8192), memory_length=32, dropout=0.05, attention_dropout=0.05, div_value=4, **_LM1B
    ),
}
"""The models of the paper, as they are trained. Source: the scripts of the published code."""
