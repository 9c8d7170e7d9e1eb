"""BART: an encoder and a decoder with norms behind. Source: Lewis et al. 2020.

Marian calls most things as BART does, and takes its names from here.
"""

from typing import Any

from huiyan.models.config import LanguageModelConfig, LayerConfig, TransformerConfig
from huiyan.models.families.family import CheckpointConfig, KeyTable, refuse_unless, write_keys
from huiyan.models.families.language import LanguageFamily, first_id, read_stack, stack_modules

_BOTH: KeyTable = (
    ("width", "d_model", 1024),
    ("activation", "activation_function", "gelu"),
    ("embedding_dropout", "dropout", 0.1),
    ("activation_dropout", "activation_dropout", 0.0),
    ("initializer_range", "init_std", 0.02),
)
_ATTENTION = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "out_proj"}
_LAYER = {
    **{f"attention.{ours}": f"self_attn.{theirs}" for ours, theirs in _ATTENTION.items()},
    "attention_norm": "self_attn_layer_norm",
    "feed_forward.inner": "fc1",
    "feed_forward.outer": "fc2",
    "feed_forward_norm": "final_layer_norm",
}
_CROSS = {
    **{f"cross.attention.{ours}": f"encoder_attn.{theirs}" for ours, theirs in _ATTENTION.items()},
    "cross.norm": "encoder_attn_layer_norm",
}


def _own(side: str) -> KeyTable:
    return (
        ("n_layers", f"{side}_layers", 12),
        ("n_heads", f"{side}_attention_heads", 16),
        ("feed_forward_width", f"{side}_ffn_dim", 4096),
    )


def read_model(
    values: CheckpointConfig, *, shared: bool = True, sizes: tuple[int, int], **options: Any
) -> LanguageModelConfig:
    """An encoder and a decoder with BART's keys.

    Args:
        values: config.json.
        shared: whether the two have one word table.
        sizes: of the vocabularies, the encoder's first.
        options: further arguments of ``TransformerConfig``, for both.
    Raises:
        SourceError: a key is missing, or the checkpoint is a variant that computes something else.
    """
    refuse_unless(values, normalize_before=False, add_final_layer_norm=False)
    width, dropout = values.get("d_model", 1024), values.get("dropout", 0.1)

    def stack(side: str, size: int, **more: Any) -> TransformerConfig:
        return read_stack(
            values,
            (*_BOTH, *_own(side)),
            LayerConfig(),
            vocab_size=size,
            norm_epsilon=1e-5,
            attention_output_dropout=dropout,
            feed_forward_dropout=dropout,
            embedding_scale=width**0.5 if values.get("scale_embedding") else 1.0,
            **options,
            **more,
        )

    return LanguageModelConfig(
        encoder=stack("encoder", sizes[0]),
        decoder=stack("decoder", sizes[1], causal=True, context_width=width),
        shared_words=shared,
        tied=values.get("tie_word_embeddings", True),
        logits_bias=True,
        start_id=first_id(values.get("decoder_start_token_id", values.get("eos_token_id")), "decoder_start_token_id"),
    )


def write(config: LanguageModelConfig) -> dict[str, Any]:
    """A config.json with BART's keys."""
    encoder, decoder = config.encoder, config.decoder
    if encoder is None:
        return {}
    return {
        **write_keys(decoder, _BOTH),
        **write_keys(encoder, _own("encoder")),
        **write_keys(decoder, _own("decoder")),
        "vocab_size": encoder.vocab_size,
        "max_position_embeddings": decoder.max_length,
        "scale_embedding": decoder.embedding_scale != 1.0,
        "pad_token_id": decoder.pad_id,
        "decoder_start_token_id": config.start_id,
        "is_encoder_decoder": True,
        "tie_word_embeddings": config.tied,
    }


def modules(config: LanguageModelConfig) -> dict[str, str]:
    """BART's names of a model's modules."""
    found = {"output": "lm_head", "logits_bias": "final_logits_bias"}
    for side, stack, layer in (("encoder", config.encoder, _LAYER), ("decoder", config.decoder, _LAYER | _CROSS)):
        if stack is None:
            continue
        words = "model.shared" if config.shared_words else f"model.{side}.embed_tokens"
        found |= {
            f"{side}.embeddings.words": words,
            f"{side}.embeddings.positions": f"model.{side}.embed_positions",
            f"{side}.embeddings.norm": f"model.{side}.layernorm_embedding",
            **stack_modules(stack, side, layer, f"model.{side}.layers.{{}}".format),
        }
    return found


ALIASES = {f"model.{side}.embed_tokens.weight": "model.shared.weight" for side in ("encoder", "decoder")}


def _read(values: CheckpointConfig) -> LanguageModelConfig:
    size = values.get("vocab_size", 50265)
    rows = values.get("max_position_embeddings", 1024) + 2  # the table begins with two that nobody uses
    pad = values.get("pad_token_id", 1)
    return read_model(values, sizes=(size, size), n_positions=rows, position_offset=2, pad_id=pad)


FAMILY = LanguageFamily(
    name="bart",
    architecture="BartForConditionalGeneration",
    read=_read,
    write=write,
    modules=modules,
    prefix="model.",
    aliases=ALIASES,
    constants=("encoder.version", "decoder.version"),
)
