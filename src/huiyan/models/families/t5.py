"""T5, its versions 1.1, and FLAN-T5: relative positions as one bias for all layers. Source: Raffel et al. 2020."""

from typing import Any

from huiyan.core.errors import SourceError
from huiyan.models.config import (
    MOST_POSITIONS,
    LanguageModelConfig,
    LayerConfig,
    RelativeBiasConfig,
    TransformerConfig,
)
from huiyan.models.families.family import CheckpointConfig, KeyTable, write_keys
from huiyan.models.families.language import LanguageFamily, first_id, read_stack, stack_modules

_KEYS: KeyTable = (
    ("vocab_size", "vocab_size", 32128),
    ("width", "d_model", 512),
    ("n_heads", "num_heads", 8),
    ("head_width", "d_kv", 64),
    ("feed_forward_width", "d_ff", 2048),
    ("norm_epsilon", "layer_norm_epsilon", 1e-6),
    ("embedding_dropout", "dropout_rate", 0.1),
)
_DROPOUTS = ("attention_output_dropout", "feed_forward_dropout", "activation_dropout", "output_dropout")
_NAMES = {"gelu_new": "gelu"}  # of an activation, in "gated-gelu"
_ATTENTION = {"query": "q", "key": "k", "value": "v", "out": "o"}
_SELF = {
    **{f"attention.{ours}": f"layer.0.SelfAttention.{theirs}" for ours, theirs in _ATTENTION.items()},
    "attention_norm": "layer.0.layer_norm",
}
_CROSS = {
    **{f"cross.attention.{ours}": f"layer.1.EncDecAttention.{theirs}" for ours, theirs in _ATTENTION.items()},
    "cross.norm": "layer.1.layer_norm",
}


def read(values: CheckpointConfig, *, scaled: bool, feed_forward: str) -> LanguageModelConfig:
    """An encoder and a decoder with T5's keys.

    Args:
        values: config.json.
        scaled: whether the decoder's rows are divided by √m before the output layer.
        feed_forward: the network, where config.json does not say it.
    Raises:
        SourceError: a key is missing, or a network that we do not know.
    """
    kind = values.get("feed_forward_proj", feed_forward)
    *gated, name = kind.split("-")
    if gated not in ([], ["gated"]):
        raise SourceError(
            f"This checkpoint's config.json says feed_forward_proj = {kind!r}, which Huiyan does not know."
        )
    layer = LayerConfig(
        residual="pre",
        norm="rms",
        attention_bias=False,
        attention_scale=1.0,
        feed_forward_bias=False,
        gated=bool(gated),
    )

    def stack(n_layers: int, **options: Any) -> TransformerConfig:
        return read_stack(
            values,
            _KEYS,
            layer,
            n_layers=n_layers,
            n_positions=MOST_POSITIONS,
            positions="none",
            activation="gelu_new" if kind == "gated-gelu" else name,
            embedding_norm=False,
            pad_id=None,
            relative_bias=RelativeBiasConfig(
                n_buckets=values.get("relative_attention_num_buckets", 32),
                max_distance=values.get("relative_attention_max_distance", 128),
            ),
            **dict.fromkeys(_DROPOUTS, values.get("dropout_rate", 0.1)),
            **options,
        )

    width, depth = values.get("d_model", 512), values.get("num_layers", 6)
    start = values.get("decoder_start_token_id")
    return LanguageModelConfig(
        encoder=stack(depth),
        decoder=stack(values.get("num_decoder_layers") or depth, causal=True, context_width=width),
        shared_words=True,
        output_scale=width**-0.5 if scaled else 1.0,
        start_id=first_id(values.get("pad_token_id", 0) if start is None else start, "decoder_start_token_id"),
    )


def write(config: LanguageModelConfig) -> dict[str, Any]:
    """A config.json with T5's keys."""
    decoder, encoder = config.decoder, config.encoder
    if encoder is None or decoder.relative_bias is None:
        return {}
    name = decoder.activation
    gated = decoder.layers[0].gated
    return {
        **write_keys(decoder, _KEYS),
        "num_layers": encoder.n_layers,
        "num_decoder_layers": decoder.n_layers,
        "relative_attention_num_buckets": decoder.relative_bias.n_buckets,
        "relative_attention_max_distance": decoder.relative_bias.max_distance,
        "feed_forward_proj": f"gated-{_NAMES.get(name, name)}" if gated else name,
        "decoder_start_token_id": config.start_id,
        "is_encoder_decoder": True,
    }


def modules(config: LanguageModelConfig) -> dict[str, str]:
    """T5's names of a model's modules."""
    found = {"output": "lm_head"}
    for side, stack in (("encoder", config.encoder), ("decoder", config.decoder)):
        if stack is None:
            continue
        last = "layer.1" if side == "encoder" else "layer.2"
        inner = (
            {"inner": "wi_0", "gate": "wi_1", "outer": "wo"}
            if stack.layers[0].gated
            else {"inner": "wi", "outer": "wo"}
        )
        layer = {
            **(_SELF if side == "encoder" else _SELF | _CROSS),
            **{f"feed_forward.{ours}": f"{last}.DenseReluDense.{theirs}" for ours, theirs in inner.items()},
            "feed_forward_norm": f"{last}.layer_norm",
        }
        found |= {
            f"{side}.embeddings.words": "shared",
            f"{side}.relative.table": f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
            f"{side}.stack.final_norm": f"{side}.final_layer_norm",
            **stack_modules(stack, side, layer, f"{side}.block.{{}}".format),
        }
    return found


ALIASES = {f"{side}.embed_tokens.weight": "shared.weight" for side in ("encoder", "decoder")}
CONSTANTS = ("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",)  # never used, in old files


def _read(values: CheckpointConfig) -> LanguageModelConfig:
    # Version 1.1 neither scales nor ties, and its files say the one by the other.
    scaled = values.get("scale_decoder_outputs", values.get("tie_word_embeddings") is not False)
    return read(values, scaled=scaled, feed_forward="relu")


def _write(config: LanguageModelConfig) -> dict[str, Any]:
    scaled = config.output_scale != 1.0
    return {**write(config), "scale_decoder_outputs": scaled, "tie_word_embeddings": scaled}


FAMILY = LanguageFamily(
    name="t5",
    architecture="T5ForConditionalGeneration",
    read=_read,
    write=_write,
    modules=modules,
    aliases=ALIASES,
    constants=CONSTANTS,
)
