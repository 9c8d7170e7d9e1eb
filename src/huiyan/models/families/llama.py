"""Llama, and the many decoders in its layout. Source: Touvron et al. 2023.

Qwen2 and Qwen3 call most things as Llama does, and take their names from here.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from huiyan.core.errors import SourceError
from huiyan.models.config import LanguageModelConfig, LayerConfig, RotaryScalingConfig
from huiyan.models.families.family import CheckpointConfig, KeyTable, refuse_unless, write_keys
from huiyan.models.families.language import LanguageFamily, read_stack, stack_modules

KEYS: KeyTable = (
    ("vocab_size", "vocab_size", 32000),
    ("width", "hidden_size", 4096),
    ("n_layers", "num_hidden_layers", 32),
    ("n_heads", "num_attention_heads", 32),
    ("feed_forward_width", "intermediate_size", 11008),
    ("n_positions", "max_position_embeddings", 2048),
    ("activation", "hidden_act", "silu"),
    ("norm_epsilon", "rms_norm_eps", 1e-6),
    ("initializer_range", "initializer_range", 0.02),
)
LAYER = {
    "attention_norm": "input_layernorm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.out": "self_attn.o_proj",
    "attention.query_norm": "self_attn.q_norm",
    "attention.key_norm": "self_attn.k_norm",
    "feed_forward_norm": "post_attention_layernorm",
    "feed_forward.inner": "mlp.gate_proj",
    "feed_forward.gate": "mlp.up_proj",
    "feed_forward.outer": "mlp.down_proj",
}
BLOCK = LayerConfig(residual="pre", norm="rms", attention_bias=False, feed_forward_bias=False, gated=True)


def read(
    values: CheckpointConfig,
    layer: LayerConfig = BLOCK,
    *,
    windows: Sequence[int | None] | None = None,
    **options: Any,
) -> LanguageModelConfig:
    """A decoder with Llama's keys.

    Args:
        values: config.json.
        layer: what a layer of the family is made of, without its positions and its window.
        windows: how far each layer looks back; None is what config.json says in Qwen's way.
        options: further arguments of ``TransformerConfig``.
    Raises:
        SourceError: a key is missing, or positions are stretched in a way that we do not know.
    """
    base, scaling = _rotary(values)
    layer = replace(layer, rotary_base=base, rotary_scaling=scaling)
    given = {
        "n_kv_heads": values.get("num_key_value_heads"),
        "head_width": values.get("head_dim"),
        "pad_id": values.get("pad_token_id"),
    }
    dropouts = dict.fromkeys(("embedding_dropout", "attention_output_dropout", "feed_forward_dropout"), 0.0)
    more = {"positions": "none", "embedding_norm": False, "causal": True}
    decoder = read_stack(values, KEYS, layer, **given | more | dropouts | options)
    windows = _windows(values, decoder.n_layers) if windows is None else windows
    decoder = replace(decoder, layers=tuple(replace(layer, window=window) for window in windows))
    return LanguageModelConfig(decoder=decoder, tied=values.get("tie_word_embeddings", False))


def write(config: LanguageModelConfig) -> dict[str, Any]:
    """A config.json with Llama's keys."""
    decoder = config.decoder
    windows = [layer.window for layer in decoder.layers]
    near = next((window for window in windows if window is not None), None)
    sliding: dict[str, Any] = {}
    if near is not None:
        kinds = ["full_attention" if window is None else "sliding_attention" for window in windows]
        sliding = {"layer_types": kinds, "sliding_window": near + 1, "use_sliding_window": True}
    return {
        **write_keys(decoder, KEYS),
        "num_key_value_heads": decoder.n_kv_heads or decoder.n_heads,
        "pad_token_id": decoder.pad_id,
        "rope_parameters": _rope_parameters(decoder.layers[0]),
        "tie_word_embeddings": config.tied,
        **({} if decoder.head_width is None else {"head_dim": decoder.head_width}),
        **sliding,
    }


def modules(config: LanguageModelConfig) -> dict[str, str]:
    """Llama's names of a decoder's modules."""
    return {
        "decoder.embeddings.words": "model.embed_tokens",
        "decoder.stack.final_norm": "model.norm",
        "output": "lm_head",
        **stack_modules(config.decoder, "decoder", LAYER, "model.layers.{}".format),
    }


def _windows(values: CheckpointConfig, n_layers: int) -> list[int | None]:
    """How far each layer looks back, besides its own token."""
    width = values.get("sliding_window") if values.get("use_sliding_window", False) else None
    first = values.get("max_window_layers", 0)
    usual = ["full_attention" if width is None or layer < first else "sliding_attention" for layer in range(n_layers)]
    kinds = values.get("layer_types") or usual
    if len(kinds) != n_layers or not set(kinds) <= {"full_attention", "sliding_attention"}:
        raise SourceError(f"This checkpoint's config.json has layer_types that are not one of each layer's: {kinds!r}.")
    if width is None and "sliding_attention" in kinds:
        raise SourceError("This checkpoint's config.json has layers with a window, and no sliding_window.")
    return [None if kind == "full_attention" or width is None else width - 1 for kind in kinds]


def _rotary(values: CheckpointConfig) -> tuple[float, RotaryScalingConfig | None]:
    own = values.get("rope_parameters") or values.get("rope_scaling") or {}
    base = float(own.get("rope_theta", values.get("rope_theta", 10_000.0)))
    kind = own.get("rope_type", own.get("type", "default"))
    refuse_unless(own, partial_rotary_factor=1.0, mscale=None, mscale_all_dim=None, truncate=True)
    if kind == "default":
        return base, None
    if kind not in ("linear", "llama3", "yarn"):
        raise SourceError(
            f"This checkpoint's config.json stretches its positions in the way {kind!r}. Huiyan reads linear, "
            "llama3 and yarn.",
            hint="Choose another checkpoint.",
        )
    trained = own.get("original_max_position_embeddings") or values.get("max_position_embeddings", 2048)
    names = ("high_freq_factor", "low_freq_factor") if kind == "llama3" else ("beta_fast", "beta_slow")
    fast, slow = (own.get(name, usual) for name, usual in zip(names, (32.0, 1.0), strict=True))
    factor = own.get("attention_factor")
    return base, RotaryScalingConfig(
        kind=kind, factor=own["factor"], original_length=trained, fast=fast, slow=slow, attention_factor=factor
    )


def _rope_parameters(layer: LayerConfig) -> dict[str, Any]:
    scaling = layer.rotary_scaling
    if scaling is None:
        return {"rope_type": "default", "rope_theta": layer.rotary_base}
    found: dict[str, Any] = {"rope_type": scaling.kind, "rope_theta": layer.rotary_base, "factor": scaling.factor}
    if scaling.kind == "linear":
        return found
    names = ("high_freq_factor", "low_freq_factor") if scaling.kind == "llama3" else ("beta_fast", "beta_slow")
    turns = dict(zip(names, (scaling.fast, scaling.slow), strict=True))
    found |= turns if scaling.kind == "llama3" or (scaling.fast, scaling.slow) != (32.0, 1.0) else {}
    found["original_max_position_embeddings"] = scaling.original_length
    return found if scaling.attention_factor is None else found | {"attention_factor": scaling.attention_factor}


def _read(values: CheckpointConfig) -> LanguageModelConfig:
    biases = {"attention_bias": values.get("attention_bias", False), "feed_forward_bias": values.get("mlp_bias", False)}
    return read(values, replace(BLOCK, **biases))


def _write(config: LanguageModelConfig) -> dict[str, Any]:
    first = config.decoder.layers[0]
    return {**write(config), "attention_bias": first.attention_bias, "mlp_bias": first.feed_forward_bias}


FAMILY = LanguageFamily(
    name="llama",
    architecture="LlamaForCausalLM",
    read=_read,
    write=_write,
    modules=modules,
    prefix="model.",
    constants=("rotary_emb.inv_freq",),
)
