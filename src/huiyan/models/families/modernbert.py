"""ModernBERT: rotary positions, gated networks, norms in front, and layers that see near and far in turns.

Source: Warner et al. 2024.
"""

from typing import Any

from huiyan.core.errors import SourceError
from huiyan.models.config import HeadConfig, LayerConfig, TransformerConfig
from huiyan.models.families.family import (
    OWN_PREFIX,
    CheckpointConfig,
    Family,
    KeyTable,
    carry,
    layer_modules,
    read_keys,
    refuse_unless,
    write_keys,
)

_KEYS: KeyTable = (
    ("vocab_size", "vocab_size", None),
    ("width", "hidden_size", None),
    ("n_layers", "num_hidden_layers", None),
    ("n_heads", "num_attention_heads", None),
    ("feed_forward_width", "intermediate_size", None),
    ("n_positions", "max_position_embeddings", 8192),
    ("pad_id", "pad_token_id", 50283),
    ("activation", "hidden_activation", "gelu"),
    ("norm_epsilon", "norm_eps", 1e-5),
    ("embedding_dropout", "embedding_dropout", 0.0),
    ("attention_output_dropout", "attention_dropout", 0.0),
    ("initializer_range", "initializer_range", 0.02),
)
_CARRIED = (
    *("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "initializer_cutoff_factor", "decoder_bias"),
    *("deterministic_flash_attn", "sparse_prediction", "sparse_pred_ignore_index", "tie_word_embeddings"),
)
_POOLINGS = {"cls": "first", "mean": "mean"}
_NAMES = {"full_attention": ("global_rope_theta", 160_000.0), "sliding_attention": ("local_rope_theta", 10_000.0)}
_EMBEDDINGS = {"embeddings.words": "embeddings.tok_embeddings", "embeddings.norm": "embeddings.norm"}
_LAYER = {
    "attention.query": "attn.Wqkv[0]",
    "attention.key": "attn.Wqkv[1]",
    "attention.value": "attn.Wqkv[2]",
    "attention.out": "attn.Wo",
    "attention_norm": "attn_norm",
    "feed_forward.inner": "mlp.Wi[0]",
    "feed_forward.gate": "mlp.Wi[1]",
    "feed_forward.outer": "mlp.Wo",
    "feed_forward_norm": "mlp_norm",
}


def _read_encoder(values: CheckpointConfig) -> TransformerConfig:
    refuse_unless(values, mlp_dropout=0.0)
    found = read_keys(values, _KEYS)
    every = values.get("global_attn_every_n_layers", 3)
    kinds = values.get("layer_types") or [
        "sliding_attention" if layer % every else "full_attention" for layer in range(found["n_layers"])
    ]
    if len(kinds) != found["n_layers"] or not set(kinds) <= set(_NAMES):
        raise SourceError(f"This checkpoint's config.json has layer_types that are not one of each layer's: {kinds!r}.")
    layers = tuple(
        LayerConfig(
            residual="pre",
            attention_norm=layer > 0,  # the embeddings are normed
            norm_bias=values.get("norm_bias", False),
            attention_bias=values.get("attention_bias", False),
            feed_forward_bias=values.get("mlp_bias", False),
            gated=True,
            rotary_base=_rotary_base(values, kind),
            window=values.get("local_attention", 128) // 2 if kind == "sliding_attention" else None,
        )
        for layer, kind in enumerate(kinds)
    )
    return TransformerConfig(
        family=values["model_type"].removeprefix(OWN_PREFIX),
        embedding_width=found["width"],
        n_layer_groups=found["n_layers"],
        positions="none",
        feed_forward_dropout=0.0,
        carried=carry(values, *_CARRIED),
        layers=layers,
        **found,
    )


def _rotary_base(values: CheckpointConfig, kind: str) -> float:
    name, default = _NAMES[kind]
    own = (values.get("rope_parameters") or {}).get(kind) or {}
    refuse_unless(own, rope_type="default")
    return float(own.get("rope_theta", values.get(name, default)))


def _read_head(values: CheckpointConfig) -> HeadConfig:
    pooling = values.get("classifier_pooling", "cls")
    if pooling not in _POOLINGS:
        raise SourceError(
            f"This checkpoint's config.json says classifier_pooling = {pooling!r}; cls and mean are known."
        )
    return HeadConfig(
        pooling="first" if pooling == "cls" else "mean",
        dense=True,
        dense_bias=values.get("classifier_bias", False),
        norm="layer" if values.get("norm_bias", False) else "unbiased",
        norm_epsilon=values.get("norm_eps", 1e-5),
        activation=values.get("classifier_activation", "gelu"),
        dropout=values.get("classifier_dropout", 0.0),
    )


def _write(encoder: TransformerConfig, head: HeadConfig) -> dict[str, Any]:
    near = next((layer for layer in encoder.layers if layer.window is not None), None)
    far = next((layer for layer in encoder.layers if layer.window is None), None)
    kinds = {"sliding_attention": near, "full_attention": far}
    first = encoder.layers[0]
    return {
        **encoder.carried,
        **write_keys(encoder, _KEYS),
        "norm_bias": first.norm_bias,
        "attention_bias": first.attention_bias,
        "mlp_bias": first.feed_forward_bias,
        "mlp_dropout": 0.0,
        "layer_types": ["sliding_attention" if layer.window else "full_attention" for layer in encoder.layers],
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": _NAMES[kind][1] if layer is None else layer.rotary_base}
            for kind, layer in kinds.items()
        },
        "local_attention": 128 if near is None or near.window is None else 2 * near.window,
        "classifier_pooling": {ours: theirs for theirs, ours in _POOLINGS.items()}.get(head.pooling, "cls"),
        "classifier_bias": head.dense_bias,
        "classifier_activation": head.activation,
        "classifier_dropout": head.dropout,
    }


def _modules(encoder: TransformerConfig) -> dict[str, str]:
    return (
        _EMBEDDINGS | {"stack.final_norm": "final_norm"} | layer_modules(encoder.n_layers, _LAYER, "layers.{}".format)
    )


FAMILY = Family(
    name="modernbert",
    architecture="ModernBertForSequenceClassification",
    prefix="model.",
    read_encoder=_read_encoder,
    read_head=_read_head,
    write=_write,
    modules=_modules,
    head_modules={"dense": "head.dense", "norm": "head.norm", "output": "classifier"},
    other_heads=("decoder.", "qa_outputs."),
)
