"""DistilBERT: BERT without token types, half as deep, in names of its own. Source: Sanh et al. 2019."""

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
    write_keys,
)

_KEYS: KeyTable = (
    ("vocab_size", "vocab_size", None),
    ("width", "dim", None),
    ("n_layers", "n_layers", None),
    ("n_heads", "n_heads", None),
    ("feed_forward_width", "hidden_dim", None),
    ("n_positions", "max_position_embeddings", 512),
    ("pad_id", "pad_token_id", 0),
    ("activation", "activation", "gelu"),
    ("embedding_dropout", "dropout", 0.1),
    ("initializer_range", "initializer_range", 0.02),
)
_LAYER = {
    "attention.query": "attention.q_lin",
    "attention.key": "attention.k_lin",
    "attention.value": "attention.v_lin",
    "attention.out": "attention.out_lin",
    "attention_norm": "sa_layer_norm",
    "feed_forward.inner": "ffn.lin1",
    "feed_forward.outer": "ffn.lin2",
    "feed_forward_norm": "output_layer_norm",
}


def _read_encoder(values: CheckpointConfig) -> TransformerConfig:
    found = read_keys(values, _KEYS)
    # Sinusoidal positions are how the table was begun, not how it is used: its rows are in the checkpoint.
    carried = carry(values, "attention_dropout", "qa_dropout", "sinusoidal_pos_embds")
    return TransformerConfig(
        family="distilbert",
        embedding_width=found["width"],
        n_layer_groups=found["n_layers"],
        # Its code drops nothing from what attention adds, unlike BERT's.
        attention_output_dropout=0.0,
        feed_forward_dropout=found["embedding_dropout"],
        carried=carried,
        **found,
    )


def _read_head(values: CheckpointConfig) -> HeadConfig:
    return HeadConfig(dense=True, activation="relu", dropout=values.get("seq_classif_dropout", 0.2))


def _write(encoder: TransformerConfig, head: HeadConfig) -> dict[str, Any]:
    return {**encoder.carried, **write_keys(encoder, _KEYS), "seq_classif_dropout": head.dropout}


def _modules(encoder: TransformerConfig) -> dict[str, str]:
    embeddings = {ours: theirs for ours, theirs in bert.EMBEDDINGS.items() if ours != "embeddings.types"}
    return embeddings | layer_modules(encoder.n_layers, _LAYER, "transformer.layer.{}".format)


FAMILY = Family(
    name="distilbert",
    architecture="DistilBertForSequenceClassification",
    prefix="distilbert.",
    read_encoder=_read_encoder,
    read_head=_read_head,
    write=_write,
    modules=_modules,
    head_modules={"dense": "pre_classifier", "output": "classifier"},
    other_heads=("vocab_transform.", "vocab_layer_norm.", "vocab_projector.", "qa_outputs."),
)
