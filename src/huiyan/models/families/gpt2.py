"""GPT-2. Source: Radford et al. 2019. Its files hold matrices transposed."""

from typing import Any

from huiyan.models.config import LanguageModelConfig, LayerConfig
from huiyan.models.families.family import CheckpointConfig, KeyTable, refuse_unless, write_keys
from huiyan.models.families.language import LanguageFamily, read_stack, stack_modules

_KEYS: KeyTable = (
    ("vocab_size", "vocab_size", 50257),
    ("width", "n_embd", 768),
    ("n_layers", "n_layer", 12),
    ("n_heads", "n_head", 12),
    ("n_positions", "n_positions", 1024),
    ("activation", "activation_function", "gelu_new"),
    ("norm_epsilon", "layer_norm_epsilon", 1e-5),
    ("embedding_dropout", "embd_pdrop", 0.1),
    ("attention_output_dropout", "resid_pdrop", 0.1),
    ("initializer_range", "initializer_range", 0.02),
)
_LAYER = {
    "attention_norm": "ln_1",
    "attention.query": "attn.c_attn^T[0]",
    "attention.key": "attn.c_attn^T[1]",
    "attention.value": "attn.c_attn^T[2]",
    "attention.out": "attn.c_proj^T",
    "feed_forward_norm": "ln_2",
    "feed_forward.inner": "mlp.c_fc^T",
    "feed_forward.outer": "mlp.c_proj^T",
}


def _read(values: CheckpointConfig) -> LanguageModelConfig:
    refuse_unless(values, scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False, add_cross_attention=False)
    decoder = read_stack(
        values,
        _KEYS,
        LayerConfig(residual="pre"),
        feed_forward_width=values.get("n_inner") or 4 * values.get("n_embd", 768),
        feed_forward_dropout=values.get("resid_pdrop", 0.1),
        embedding_norm=False,
        pad_id=None,
        causal=True,
    )
    return LanguageModelConfig(decoder=decoder, tied=values.get("tie_word_embeddings", True))


def _write(config: LanguageModelConfig) -> dict[str, Any]:
    decoder = config.decoder
    return {
        **write_keys(decoder, _KEYS),
        "n_inner": None if decoder.feed_forward_width == 4 * decoder.width else decoder.feed_forward_width,
        "tie_word_embeddings": config.tied,
    }


def _modules(config: LanguageModelConfig) -> dict[str, str]:
    return {
        "decoder.embeddings.words": "transformer.wte",
        "decoder.embeddings.positions": "transformer.wpe",
        "decoder.stack.final_norm": "transformer.ln_f",
        "output": "lm_head",
        **stack_modules(config.decoder, "decoder", _LAYER, "transformer.h.{}".format),
    }


FAMILY = LanguageFamily(
    name="gpt2",
    architecture="GPT2LMHeadModel",
    read=_read,
    write=_write,
    modules=_modules,
    prefix="transformer.",
    constants=(".attn.bias", ".attn.masked_bias"),
)
