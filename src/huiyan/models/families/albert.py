"""ALBERT: narrow embeddings, and layers that share their weights. Source: Lan et al. 2020."""

from typing import Any

from huiyan.models.config import HeadConfig, TransformerConfig
from huiyan.models.families import bert
from huiyan.models.families.family import (
    CheckpointConfig,
    Family,
    KeyTable,
    carry,
    layer_modules,
    read_keys,
    refuse_unless,
    write_keys,
)

_DEFAULTS = {"activation": "gelu_new", "embedding_dropout": 0.0}  # where its code differs from BERT's
_KEYS: KeyTable = (
    *((ours, theirs, _DEFAULTS.get(ours, default)) for ours, theirs, default in bert.KEYS),
    ("embedding_width", "embedding_size", None),
    ("n_layer_groups", "num_hidden_groups", 1),
    ("layers_per_group", "inner_group_num", 1),
)
_LAYER = {
    "attention.query": "attention.query",
    "attention.key": "attention.key",
    "attention.value": "attention.value",
    "attention.out": "attention.dense",
    "attention_norm": "attention.LayerNorm",
    "feed_forward.inner": "ffn",
    "feed_forward.outer": "ffn_output",
    "feed_forward_norm": "full_layer_layer_norm",
}


def _read_encoder(values: CheckpointConfig) -> TransformerConfig:
    refuse_unless(values, position_embedding_type="absolute")
    found = read_keys(values, _KEYS)
    return TransformerConfig(
        family="albert",
        project_embeddings=True,  # even where the widths agree
        attention_output_dropout=found["embedding_dropout"],
        feed_forward_dropout=0.0,  # its code defines this dropout and does not apply it
        carried=carry(values, "attention_probs_dropout_prob", "bos_token_id", "eos_token_id"),
        **found,
    )


def _read_head(values: CheckpointConfig) -> HeadConfig:
    return HeadConfig(dense=True, activation="tanh", dropout=values.get("classifier_dropout_prob", 0.1))


def _write(encoder: TransformerConfig, head: HeadConfig) -> dict[str, Any]:
    return {**encoder.carried, **write_keys(encoder, _KEYS), "classifier_dropout_prob": head.dropout}


def _modules(encoder: TransformerConfig) -> dict[str, str]:
    def place(layer: int) -> str:
        group, inner = divmod(layer, encoder.layers_per_group)
        return f"encoder.albert_layer_groups.{group}.albert_layers.{inner}"

    projection = {"embeddings.projection": "encoder.embedding_hidden_mapping_in"}
    return bert.EMBEDDINGS | projection | layer_modules(encoder.n_distinct_layers, _LAYER, place)


FAMILY = Family(
    name="albert",
    architecture="AlbertForSequenceClassification",
    prefix="albert.",
    read_encoder=_read_encoder,
    read_head=_read_head,
    write=_write,
    modules=_modules,
    head_modules={"dense": "albert.pooler", "output": "classifier"},
    other_heads=("predictions.", "sop_classifier.", "qa_outputs."),
)
