"""What an encoder and its head are made of, as plain numbers and names. This file imports no torch."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from huiyan.core.config import Config, require

Pooling = Literal["first", "mean", "attention"]

# Above every model there is: a number beyond them is a mistake, or meant to exhaust who reads the file.
MOST_LAYERS = 1_000
MOST_HEADS = 10_000
LARGEST_WIDTH = 1_000_000
LARGEST_VOCABULARY = 10_000_000
MOST_POSITIONS = 10_000_000
MOST_CLASSES = 1_000_000

_LIMITS = {
    "vocab_size": LARGEST_VOCABULARY,
    "width": LARGEST_WIDTH,
    "embedding_width": LARGEST_WIDTH,
    "n_layers": MOST_LAYERS,
    "layers_per_group": MOST_LAYERS,
    "n_heads": MOST_HEADS,
    "n_layer_groups": MOST_LAYERS,
    "feed_forward_width": LARGEST_WIDTH,
    "n_positions": MOST_POSITIONS,
}


@dataclass(frozen=True, kw_only=True)
class LayerConfig(Config):
    """What a layer is made of, besides its widths.

    Args:
        residual: "post" norms what a sublayer and its residual add up to (BERT), "pre" what goes into a sublayer.
        attention_norm: whether the attention sublayer has a norm.
        norm_bias: whether norms have a bias.
        attention_bias: whether the four projections have one.
        feed_forward_bias: whether the feed-forward network's have one.
        gated: whether the network is activation(x W₁) ∘ (x W₂) W₃ instead of activation(x W₁) W₂.
        rotary_base: of rotary positions; None is none.
        window: how far a token sees to either side; None is everywhere.
    """

    residual: Literal["post", "pre"] = "post"
    attention_norm: bool = True
    norm_bias: bool = True
    attention_bias: bool = True
    feed_forward_bias: bool = True
    gated: bool = False
    rotary_base: float | None = None
    window: int | None = None

    def __post_init__(self) -> None:
        require(self.residual in ("post", "pre"), "residual", "post or pre", self.residual)
        base = self.rotary_base
        require(base is None or base > 1, "rotary_base", "above 1", base)
        require(self.window is None or is_count(self.window, MOST_POSITIONS), "window", "1 or more", self.window)


BERT_LAYER = LayerConfig()


@dataclass(frozen=True, kw_only=True)
class RelativeConfig(Config):
    """Embeddings of relative positions that all layers share: disentangled attention (DeBERTa).

    Args:
        max_relative_positions: distances up to which they are told apart, or where the last bucket begins.
        position_buckets: how many buckets of distances there are to either side; None is one a distance.
        norm: whether the embeddings are normed.
        shared_projections: whether a layer's own query and key projections project them, too.
        content_to_position: whether content looks for positions.
        position_to_content: whether positions look for content.
    """

    max_relative_positions: int
    position_buckets: int | None = None
    norm: bool = False
    shared_projections: bool = False
    content_to_position: bool = True
    position_to_content: bool = True

    def __post_init__(self) -> None:
        for name in ("max_relative_positions", "position_buckets"):
            value = getattr(self, name)
            fits = is_count(value, MOST_POSITIONS) or (value is None and name == "position_buckets")
            require(fits, name, f"a whole number from 1 to {MOST_POSITIONS:,}", value)
        either = self.content_to_position or self.position_to_content
        require(either, "content_to_position", "True where position_to_content is False", self.content_to_position)


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(Config):
    """An encoder of any family.

    Args:
        family: the ``model_type`` of the checkpoint family, such as "bert".
        vocab_size: `v`, rows of the word table.
        width: `m`.
        embedding_width: width of the three embedding tables.
        project_embeddings: whether a linear layer stands between the embeddings and the stack.
        n_layers: how many times a token passes through a group of layers.
        n_layer_groups: groups of layers that have weights of their own; fewer than ``n_layers`` shares them (ALBERT).
        layers_per_group: layers in a group.
        n_heads: `h`.
        feed_forward_width: `f`.
        n_positions: rows of the position table; without one, the longest sequence.
        learned_positions: whether there is a position table.
        position_offset: the row of a sequence's first token (RoBERTa: 2).
        n_types: rows of the token type table, 0 for none (DistilBERT).
        pad_id: the padding token, never seen in packed input; its word vector is not trained.
        activation: of the feed-forward network; a name that ``models.activations`` knows.
        norm_epsilon: what LayerNorm adds to the variance.
        embedding_dropout: probability, on the embeddings.
        attention_output_dropout: probability, on what attention adds to the residual stream.
        feed_forward_dropout: probability, on what the feed-forward network adds to it.
        initializer_range: standard deviation of fresh weights.
        carried: keys of the checkpoint's config.json that do not change what we compute (attention dropout, ids of
            special tokens) and are written back as they were.
        layers: what each distinct layer is made of; none is BERT's in all of them.
        relative: embeddings of relative positions; None is none.
        ranks: projections that are two thin matrices instead of one, by their names in the encoder, such as
            "stack.layers.0.attention.query", with the width between the two (see ``models.low_rank``).
    """

    family: str
    vocab_size: int
    width: int
    embedding_width: int
    project_embeddings: bool = False
    n_layers: int
    n_layer_groups: int
    layers_per_group: int = 1
    n_heads: int
    feed_forward_width: int
    n_positions: int
    learned_positions: bool = True
    position_offset: int = 0
    n_types: int = 0
    pad_id: int = 0
    activation: str = "gelu"
    norm_epsilon: float = 1e-12
    embedding_dropout: float = 0.1
    attention_output_dropout: float = 0.1
    feed_forward_dropout: float = 0.1
    initializer_range: float = 0.02
    carried: dict[str, Any] = field(default_factory=dict[str, Any])
    layers: tuple[LayerConfig, ...] = ()
    relative: RelativeConfig | None = None
    ranks: dict[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        for name, most in _LIMITS.items():
            value = getattr(self, name)
            require(is_count(value, most), name, f"a whole number from 1 to {most:,}", value)
        for name, most in (("n_types", LARGEST_VOCABULARY), ("position_offset", MOST_POSITIONS)):
            value = getattr(self, name)
            require(_is_index(value, most), name, f"a whole number from 0 to {most:,}", value)
        for name in ("embedding_dropout", "attention_output_dropout", "feed_forward_dropout"):
            require(_is_dropout(getattr(self, name)), name, "at least 0 and below 1", getattr(self, name))
        require(self.width % self.n_heads == 0, "n_heads", f"a divisor of the width, {self.width}", self.n_heads)
        groups = self.n_layer_groups
        require(groups <= self.n_layers, "n_layer_groups", f"at most n_layers, {self.n_layers}", groups)
        inner = self.layers_per_group
        fits = self.n_layers * inner <= MOST_LAYERS
        require(fits, "layers_per_group", f"small enough for {MOST_LAYERS:,} layers in all", inner)
        each = len(self.layers) in (0, self.n_distinct_layers)
        require(each, "layers", f"one for each of the {self.n_distinct_layers} distinct layers", len(self.layers))
        orders = {layer.residual for layer in self.layers}
        require(len(orders) < 2, "layers", "of one order of norm and residual", sorted(orders))
        fits = self.project_embeddings or self.embedding_width == self.width
        require(fits, "embedding_width", f"the width, {self.width}, without a projection", self.embedding_width)
        require(self.max_length >= 1, "n_positions", f"above the offset, {self.position_offset}", self.n_positions)
        require(
            _is_index(self.pad_id, self.vocab_size - 1), "pad_id", f"a row of the {self.vocab_size} words", self.pad_id
        )
        ranked = isinstance(self.ranks, dict) and all(is_count(rank, LARGEST_WIDTH) for rank in self.ranks.values())
        require(ranked, "ranks", "a rank of at least 1 for each projection named", self.ranks)

    @property
    def max_length(self) -> int:
        """The longest sequence, in tokens, that has a position for each."""
        return self.n_positions - self.position_offset

    @property
    def n_distinct_layers(self) -> int:
        """Layers that have weights of their own."""
        return self.n_layer_groups * self.layers_per_group

    @property
    def distinct_layers(self) -> tuple[LayerConfig, ...]:
        """What each layer is made of that has weights of its own."""
        return self.layers or (BERT_LAYER,) * self.n_distinct_layers

    @property
    def depth_order(self) -> tuple[int, ...]:
        """The distinct layer at every depth: 0, 1, 2 … without sharing.

        Source: Lan et al. 2020 (ALBERT), section 3.1, with the groups of its published code.
        """
        return tuple(
            depth * self.n_layer_groups // self.n_layers * self.layers_per_group + inner
            for depth in range(self.n_layers)
            for inner in range(self.layers_per_group)
        )


@dataclass(frozen=True, kw_only=True)
class HeadConfig(Config):
    """What turns the encoder's rows into one row of logits a sequence.

    Args:
        pooling: "first" takes the first token, "mean" the average, "attention" a learned weighted average.
        dense: whether a square linear layer and ``activation`` come between pooling and output.
        dense_bias: whether that layer has a bias.
        norm: whether a norm follows: "none", "layer", or "unbiased" for one without bias.
        norm_epsilon: of that norm.
        activation: a name that ``models.activations`` knows.
        dropout: probability, right before the output layer.
        dropout_before_dense: probability, right before the dense layer.
    """

    pooling: Pooling = "first"
    dense: bool = False
    dense_bias: bool = True
    norm: Literal["none", "layer", "unbiased"] = "none"
    norm_epsilon: float = 1e-5
    activation: str = "tanh"
    dropout: float = 0.1
    dropout_before_dense: float = 0.0

    def __post_init__(self) -> None:
        choices = ", ".join(map(repr, get_args(Pooling)))
        require(self.pooling in get_args(Pooling), "pooling", f"one of {choices}", self.pooling)
        require(self.norm in ("none", "layer", "unbiased"), "norm", "none, layer or unbiased", self.norm)
        for name in ("dropout", "dropout_before_dense"):
            require(_is_dropout(getattr(self, name)), name, "at least 0 and below 1", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig(Config):
    """An encoder, a head and how many classes it tells apart."""

    encoder: EncoderConfig
    head: HeadConfig
    n_classes: int

    def __post_init__(self) -> None:
        fits = is_count(self.n_classes, MOST_CLASSES)
        require(fits, "n_classes", f"a whole number from 1 to {MOST_CLASSES:,}", self.n_classes)

    @property
    def family(self) -> str:
        """The family of the encoder."""
        return self.encoder.family


def is_count(value: object, most: int) -> bool:
    """Whether a value is a whole number from 1 to ``most``."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _is_index(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def _is_dropout(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value < 1
