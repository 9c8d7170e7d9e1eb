"""The encoder of every family: embeddings and a stack, put together from numbers."""

from jaxtyping import Float
from torch import Tensor, nn

from huiyan.attention.masks import Window
from huiyan.attention.multihead import MultiHeadAttention
from huiyan.attention.positions.disentangled import Disentangled, RelativeEmbeddings
from huiyan.attention.positions.rotary import Rotary
from huiyan.core.packed import Packed
from huiyan.models.activations import activation_named
from huiyan.models.config import EncoderConfig, LayerConfig, RelativeConfig
from huiyan.models.embeddings import Embeddings
from huiyan.models.low_rank import lower_ranks
from huiyan.models.stack import FeedForward, GatedFeedForward, Stack, TransformerLayer, post_norm, pre_norm


class Encoder(nn.Module):
    """A bidirectional Transformer encoder: every token sees its whole sequence.

    Source: Devlin et al. 2019, section 3. Differs: no padding (a batch is one row of tokens), and no dropout on the
    attention weights.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.relative = None if config.relative is None else _relative_embeddings(config, config.relative)
        layers = [_layer(config, layer) for layer in config.distinct_layers]
        if config.relative is not None and self.relative is not None:
            for layer in layers:
                layer.attention.position = _disentangled(config.relative, self.relative, layer.attention)
        closing = config.distinct_layers[-1]
        final_norm = _norm(config, closing) if closing.residual == "pre" else None
        self.stack = Stack(layers, depth_order=config.depth_order, final_norm=final_norm)
        lower_ranks(self, config.ranks)

    def forward(self, packed: Packed) -> Float[Tensor, "t m"]:
        """The last hidden state of every token.

        Raises:
            ShapeError: a sequence is longer than the positions the model has.
        """
        return self.stack(self.embeddings(packed), packed.lengths)

    def first_rows(self, packed: Packed) -> Float[Tensor, "b m"]:
        """The last hidden state of the first token of every sequence, without computing that of the others.

        Raises:
            ShapeError: a sequence is empty, or longer than the positions the model has.
        """
        return self.stack.first_rows(self.embeddings(packed), packed.lengths)


def _layer(config: EncoderConfig, layer: LayerConfig) -> TransformerLayer:
    head_width = config.width // config.n_heads
    network = GatedFeedForward if layer.gated else FeedForward
    attention_norm = _norm(config, layer) if layer.attention_norm else nn.Identity()
    return TransformerLayer(
        MultiHeadAttention(
            config.width,
            config.n_heads,
            bias=layer.attention_bias,
            position=None if layer.rotary_base is None else Rotary(head_width, layer.rotary_base),
        ),
        network(
            config.width,
            config.feed_forward_width,
            activation_named(config.activation),
            bias=layer.feed_forward_bias,
        ),
        norms=(attention_norm, _norm(config, layer)),
        residual=pre_norm if layer.residual == "pre" else post_norm,
        dropouts=(config.attention_output_dropout, config.feed_forward_dropout),
        mask=None if layer.window is None else Window(layer.window, layer.window),
    )


def _relative_embeddings(config: EncoderConfig, relative: RelativeConfig) -> RelativeEmbeddings:
    """One for all layers."""
    span = relative.max_relative_positions if relative.position_buckets is None else relative.position_buckets
    norm = nn.LayerNorm(config.width, eps=config.norm_epsilon) if relative.norm else None
    return RelativeEmbeddings(2 * span, config.width, norm=norm, dropout=config.embedding_dropout)


def _disentangled(
    relative: RelativeConfig, embeddings: RelativeEmbeddings, attention: MultiHeadAttention
) -> Disentangled:
    """How a layer looks for positions."""
    share = relative.shared_projections
    return Disentangled(
        attention.query.in_features,
        attention.query.out_features // attention.head_width,
        max_relative_positions=relative.max_relative_positions,
        position_buckets=relative.position_buckets,
        content_to_position=relative.content_to_position,
        position_to_content=relative.position_to_content,
        embeddings=embeddings,
        key=attention.key if share and relative.content_to_position else None,
        query=attention.query if share and relative.position_to_content else None,
    )


def _norm(config: EncoderConfig, layer: LayerConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.width, eps=config.norm_epsilon, bias=layer.norm_bias)
