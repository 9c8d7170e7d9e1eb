"""What models are made of, as plain numbers and names. This file imports no torch."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from huiyan.core.config import Config, require

Pooling = Literal["first", "mean", "attention"]
Positions = Literal["learned", "sinusoidal", "split sinusoidal", "none"]

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
class RotaryScalingConfig(Config):
    """Rotary positions for texts longer than those of pretraining; the classes of ``attention`` say how.

    Args:
        kind: "linear", "llama3" or "yarn".
        factor: how many times longer.
        original_length: tokens in the longest text of pretraining; "linear" has no use for it.
        fast: turns in that length from which on a pair stays as it is.
        slow: turns up to which it is stretched by the whole factor.
        attention_factor: of "yarn"; None is what its paper takes.
    """

    kind: Literal["linear", "llama3", "yarn"]
    factor: float
    original_length: int = 1
    fast: float = 32.0
    slow: float = 1.0
    attention_factor: float | None = None

    def __post_init__(self) -> None:
        require(self.kind in ("linear", "llama3", "yarn"), "kind", "linear, llama3 or yarn", self.kind)
        fits = is_count(self.original_length, MOST_POSITIONS)
        require(fits, "original_length", f"a whole number from 1 to {MOST_POSITIONS:,}", self.original_length)


@dataclass(frozen=True, kw_only=True)
class RelativeBiasConfig(Config):
    """A learnt number for each head and bucket of distances, which all layers share (T5).

    Args:
        n_buckets: in all directions together.
        max_distance: from here on all distances are in the last bucket.
    """

    n_buckets: int = 32
    max_distance: int = 128


@dataclass(frozen=True, kw_only=True)
class LayerConfig(Config):
    """What a layer is made of, besides its widths.

    Args:
        residual: "post" norms what a sublayer and its residual add up to (BERT), "pre" what goes into a sublayer.
        attention_norm: whether the attention sublayer has a norm.
        norm: "layer" is LayerNorm; "rms" RMSNorm, which neither centres nor has a bias.
        norm_bias: whether layer norms have a bias.
        attention_bias: whether the four projections have one; "qkv" is all but the last.
        attention_scale: what scores are multiplied by; None is 1/√d.
        qk_norm: whether the queries and the keys of each head go through an RMSNorm.
        feed_forward_bias: whether the feed-forward network's have one.
        gated: whether the network is activation(x W₁) ∘ (x W₂) W₃ instead of activation(x W₁) W₂.
        rotary_base: of rotary positions; None is none.
        rotary_scaling: how they are stretched for long texts.
        window: how far a token sees, to either side or, in a causal stack, back; None is everywhere.
    """

    residual: Literal["post", "pre"] = "post"
    attention_norm: bool = True
    norm: Literal["layer", "rms"] = "layer"
    norm_bias: bool = True
    attention_bias: bool | Literal["qkv"] = True
    attention_scale: float | None = None
    qk_norm: bool = False
    feed_forward_bias: bool = True
    gated: bool = False
    rotary_base: float | None = None
    rotary_scaling: RotaryScalingConfig | None = None
    window: int | None = None

    def __post_init__(self) -> None:
        require(self.residual in ("post", "pre"), "residual", "post or pre", self.residual)
        require(self.norm in ("layer", "rms"), "norm", "layer or rms", self.norm)
        scale = self.attention_scale
        require(scale is None or scale > 0, "attention_scale", "above 0", scale)
        base = self.rotary_base
        require(base is None or base > 1, "rotary_base", "above 1", base)
        require(self.window is None or is_count(self.window, MOST_POSITIONS), "window", "1 or more", self.window)


BERT_LAYER = LayerConfig()
_DROPOUTS = (
    *("embedding_dropout", "attention_output_dropout", "feed_forward_dropout"),
    *("activation_dropout", "output_dropout"),
)


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
class TransformerConfig(Config):
    """Embeddings and a stack of layers, of any family: an encoder, or a decoder.

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
        n_kv_heads: `g`, key and value heads; None is as many.
        head_width: `d`; None is width / n_heads.
        feed_forward_width: `f`.
        n_positions: rows of the position table; without one, the longest sequence.
        positions: what is added to the word vectors: "learned" is a table; "sinusoidal" has sine and cosine in turns,
            "split sinusoidal" all sines first (Marian); "none" leaves it to attention.
        position_offset: the row of a sequence's first token (RoBERTa: 2).
        n_types: rows of the token type table, 0 for none (DistilBERT).
        pad_id: the padding token, whose word vector is not trained; None is none.
        embedding_scale: what word vectors are multiplied by.
        embedding_norm: whether the sum of the embeddings is normed.
        activation: of the feed-forward network; a name that ``models.activations`` knows.
        norm_epsilon: what LayerNorm adds to the variance.
        embedding_dropout: probability, on the embeddings.
        attention_output_dropout: probability, on what attention adds to the residual stream.
        feed_forward_dropout: probability, on what the feed-forward network adds to it.
        activation_dropout: probability, inside the feed-forward network, behind its activation.
        output_dropout: probability, on what leaves the stack.
        initializer_range: standard deviation of fresh weights.
        carried: keys of the checkpoint's config.json that do not change what we compute (attention dropout, ids of
            special tokens) and are written back as they were.
        layers: what each distinct layer is made of; none is BERT's in all of them.
        relative: embeddings of relative positions; None is none.
        relative_bias: a bias by relative position; None is none.
        causal: whether a token sees those before it only.
        context_width: of what the layers look at in a second attention, beside their own tokens; None is none.
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
    n_kv_heads: int | None = None
    head_width: int | None = None
    feed_forward_width: int
    n_positions: int
    positions: Positions = "learned"
    position_offset: int = 0
    n_types: int = 0
    pad_id: int | None = 0
    embedding_scale: float = 1.0
    embedding_norm: bool = True
    activation: str = "gelu"
    norm_epsilon: float = 1e-12
    embedding_dropout: float = 0.1
    attention_output_dropout: float = 0.1
    feed_forward_dropout: float = 0.1
    activation_dropout: float = 0.0
    output_dropout: float = 0.0
    initializer_range: float = 0.02
    carried: dict[str, Any] = field(default_factory=dict[str, Any])
    layers: tuple[LayerConfig, ...] = ()
    relative: RelativeConfig | None = None
    relative_bias: RelativeBiasConfig | None = None
    causal: bool = False
    context_width: int | None = None
    ranks: dict[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        for name, most in _LIMITS.items():
            value = getattr(self, name)
            require(is_count(value, most), name, f"a whole number from 1 to {most:,}", value)
        for name, most in (("n_types", LARGEST_VOCABULARY), ("position_offset", MOST_POSITIONS)):
            value = getattr(self, name)
            require(_is_index(value, most), name, f"a whole number from 0 to {most:,}", value)
        for name in _DROPOUTS:
            require(_is_dropout(getattr(self, name)), name, "at least 0 and below 1", getattr(self, name))
        self._check_heads()
        require(self.positions in get_args(Positions), "positions", f"one of {get_args(Positions)}", self.positions)
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
        padded = self.pad_id is None or _is_index(self.pad_id, self.vocab_size - 1)
        require(padded, "pad_id", f"a row of the {self.vocab_size} words", self.pad_id)
        ranked = isinstance(self.ranks, dict) and all(is_count(rank, LARGEST_WIDTH) for rank in self.ranks.values())
        require(ranked, "ranks", "a rank of at least 1 for each projection named", self.ranks)

    def _check_heads(self) -> None:
        for name in ("n_kv_heads", "head_width", "context_width"):
            value = getattr(self, name)
            fits = value is None or is_count(value, LARGEST_WIDTH)
            require(fits, name, f"a whole number from 1 to {LARGEST_WIDTH:,}", value)
        fits = self.head_width is not None or self.width % self.n_heads == 0
        require(fits, "n_heads", f"a divisor of the width, {self.width}", self.n_heads)
        require(self.n_heads % (self.n_kv_heads or 1) == 0, "n_kv_heads", "a divisor of n_heads", self.n_kv_heads)

    @property
    def width_of_heads(self) -> int:
        """Width of a head, `d`."""
        return self.width // self.n_heads if self.head_width is None else self.head_width

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

    encoder: TransformerConfig
    head: HeadConfig
    n_classes: int

    def __post_init__(self) -> None:
        fits = is_count(self.n_classes, MOST_CLASSES)
        require(fits, "n_classes", f"a whole number from 1 to {MOST_CLASSES:,}", self.n_classes)

    @property
    def family(self) -> str:
        """The family of the encoder."""
        return self.encoder.family


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig(Config):
    """A decoder that gives the probability of every next token; with an encoder, given a source text.

    Args:
        decoder: a causal stack; with an encoder, one that looks at its output.
        encoder: of the source; None is none.
        shared_words: whether the two have one word table.
        tied: whether the decoder's word table is the output layer, too.
        output_scale: what the decoder's rows are multiplied by before the output layer (T5).
        logits_bias: whether the file has a constant that is added to the logits (BART).
        start_id: the token that a decoder with an encoder begins with.
    """

    decoder: TransformerConfig
    encoder: TransformerConfig | None = None
    shared_words: bool = False
    tied: bool = True
    output_scale: float = 1.0
    logits_bias: bool = False
    start_id: int | None = None

    def __post_init__(self) -> None:
        require(self.decoder.causal, "decoder", "causal", self.decoder.causal)
        looks, encoder = self.decoder.context_width, self.encoder
        require(looks == (encoder and encoder.width), "context_width", "the width of the encoder", looks)
        started = encoder is None or _is_index(self.start_id, self.decoder.vocab_size - 1)
        require(started, "start_id", f"a row of the {self.decoder.vocab_size} words", self.start_id)
        same = not self.shared_words or (encoder is not None and encoder.vocab_size == self.decoder.vocab_size)
        require(same, "shared_words", "False, as the two vocabularies are not one", self.shared_words)

    @property
    def family(self) -> str:
        """The family of the decoder."""
        return self.decoder.family


def is_count(value: object, most: int) -> bool:
    """Whether a value is a whole number from 1 to ``most``."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _is_index(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def _is_dropout(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value < 1
