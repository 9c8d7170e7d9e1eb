"""From numbers to modules: what an encoder and a decoder are put together from."""

from functools import partial

from torch import nn

from huiyan.attention.masks import Causal, Mask, Window
from huiyan.attention.multihead import MultiHeadAttention
from huiyan.attention.positions.disentangled import Disentangled, RelativeEmbeddings
from huiyan.attention.positions.rotary import Rotary
from huiyan.attention.positions.rotary_scaling import LinearScaling, Llama3Scaling, RotaryScaling, YarnScaling
from huiyan.attention.positions.t5 import T5Bias
from huiyan.models.activations import activation_named
from huiyan.models.config import LayerConfig, RelativeConfig, RotaryScalingConfig, TransformerConfig
from huiyan.models.stack import (
    CrossAttention,
    FeedForward,
    GatedFeedForward,
    Stack,
    TransformerLayer,
    post_norm,
    pre_norm,
)

Relative = RelativeEmbeddings | T5Bias | None


def norm_for(config: TransformerConfig, layer: LayerConfig, width: int) -> nn.Module:
    """A norm as the layer has it."""
    if layer.norm == "rms":
        return nn.RMSNorm(width, eps=config.norm_epsilon)
    return nn.LayerNorm(width, eps=config.norm_epsilon, bias=layer.norm_bias)


def relative_for(config: TransformerConfig) -> Relative:
    """What all layers share of their relative positions."""
    bias, relative = config.relative_bias, config.relative
    if bias is not None:
        return T5Bias(config.n_heads, bias.n_buckets, bias.max_distance, bidirectional=not config.causal)
    if relative is None:
        return None
    span = relative.max_relative_positions if relative.position_buckets is None else relative.position_buckets
    norm = nn.LayerNorm(config.width, eps=config.norm_epsilon) if relative.norm else None
    return RelativeEmbeddings(2 * span, config.width, norm=norm, dropout=config.embedding_dropout)


def stack_for(config: TransformerConfig, relative: Relative) -> Stack:
    """The layers, each with what it shares, and the norm that closes them."""
    layers = [_layer(config, layer) for layer in config.distinct_layers]
    for layer in layers:
        if isinstance(relative, T5Bias):
            layer.attention.position = relative
        elif config.relative is not None and relative is not None:
            layer.attention.position = _disentangled(config.relative, relative, layer.attention)
    closing = config.distinct_layers[-1]
    final_norm = norm_for(config, closing, config.width) if closing.residual == "pre" else None
    return Stack(layers, depth_order=config.depth_order, final_norm=final_norm)


def _layer(config: TransformerConfig, layer: LayerConfig) -> TransformerLayer:
    network = GatedFeedForward if layer.gated else FeedForward
    norm = norm_for(config, layer, config.width)
    cross = None
    if config.context_width is not None:
        looking = _attention(config, layer, context_width=config.context_width)
        cross = CrossAttention(looking, norm_for(config, layer, config.width), config.attention_output_dropout)
    return TransformerLayer(
        _attention(config, layer, position=_rotary(config, layer)),
        network(
            config.width,
            config.feed_forward_width,
            activation_named(config.activation),
            bias=layer.feed_forward_bias,
            dropout=config.activation_dropout,
        ),
        norms=(norm_for(config, layer, config.width) if layer.attention_norm else nn.Identity(), norm),
        residual=pre_norm if layer.residual == "pre" else post_norm,
        dropouts=(config.attention_output_dropout, config.feed_forward_dropout),
        mask=_mask(config, layer),
        cross=cross,
    )


def _attention(
    config: TransformerConfig, layer: LayerConfig, *, position: Rotary | None = None, context_width: int | None = None
) -> MultiHeadAttention:
    attention = MultiHeadAttention(
        config.width,
        config.n_heads,
        n_kv_heads=config.n_kv_heads,
        head_width=config.head_width,
        context_width=context_width,
        bias=layer.attention_bias,
        position=position,
        qk_norm=partial(nn.RMSNorm, eps=config.norm_epsilon) if layer.qk_norm else False,
    )
    attention.scale = layer.attention_scale
    return attention


def _mask(config: TransformerConfig, layer: LayerConfig) -> Mask | None:
    if config.causal:
        return Causal() if layer.window is None else Window(layer.window, 0)
    return None if layer.window is None else Window(layer.window, layer.window)


def _rotary(config: TransformerConfig, layer: LayerConfig) -> Rotary | None:
    if layer.rotary_base is None:
        return None
    scaling = layer.rotary_scaling
    return Rotary(config.width_of_heads, layer.rotary_base, scaling=None if scaling is None else _scaling(scaling))


def _scaling(config: RotaryScalingConfig) -> RotaryScaling:
    if config.kind == "linear":
        return LinearScaling(config.factor)
    if config.kind == "llama3":
        return Llama3Scaling(config.factor, config.original_length, fast=config.fast, slow=config.slow)
    return YarnScaling(
        config.factor,
        config.original_length,
        beta_fast=config.fast,
        beta_slow=config.slow,
        attention_factor=config.attention_factor,
    )


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
