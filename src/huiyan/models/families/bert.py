"""BERT, and the many encoders in its layout (MiniLM, E5). Source: Devlin et al. 2019.

RoBERTa, XLM-RoBERTa and ELECTRA call most things as BERT does, and take their names from here.
"""

from typing import Any

from huiyan.models.config import HeadConfig, TransformerConfig
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

KEYS: KeyTable = (
    ("vocab_size", "vocab_size", None),
    ("width", "hidden_size", None),
    ("n_layers", "num_hidden_layers", None),
    ("n_heads", "num_attention_heads", None),
    ("feed_forward_width", "intermediate_size", None),
    ("n_positions", "max_position_embeddings", 512),
    ("n_types", "type_vocab_size", 2),
    ("pad_id", "pad_token_id", 0),
    ("activation", "hidden_act", "gelu"),
    ("norm_epsilon", "layer_norm_eps", 1e-12),
    ("embedding_dropout", "hidden_dropout_prob", 0.1),
    ("initializer_range", "initializer_range", 0.02),
)
EMBEDDINGS = {
    "embeddings.words": "embeddings.word_embeddings",
    "embeddings.positions": "embeddings.position_embeddings",
    "embeddings.types": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
}
LAYER = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feed_forward.inner": "intermediate.dense",
    "feed_forward.outer": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}


def encoder_values(values: CheckpointConfig, keys: KeyTable = KEYS) -> dict[str, Any]:
    """The arguments of ``TransformerConfig`` from a config.json with BERT's keys.

    Raises:
        SourceError: a key is missing, or the checkpoint is a variant that computes something else.
    """
    refuse_unless(values, position_embedding_type="absolute", is_decoder=False, add_cross_attention=False)
    found = read_keys(values, keys)
    return {
        "family": values["model_type"].removeprefix(OWN_PREFIX),
        "embedding_width": found["width"],
        "n_layer_groups": found["n_layers"],
        "attention_output_dropout": found["embedding_dropout"],
        "feed_forward_dropout": found["embedding_dropout"],
        "carried": carry(values, "attention_probs_dropout_prob", "bos_token_id", "eos_token_id"),
        **found,
    }


def head_dropout(values: CheckpointConfig) -> float:
    """The dropout of the classification head: the encoder's, unless config.json says otherwise."""
    own = values.get("classifier_dropout")
    return values.get("hidden_dropout_prob", 0.1) if own is None else own


def write(encoder: TransformerConfig, head: HeadConfig) -> dict[str, Any]:
    """A config.json with BERT's keys."""
    return {**encoder.carried, **write_keys(encoder, KEYS), "classifier_dropout": head.dropout}


def modules(encoder: TransformerConfig) -> dict[str, str]:
    """BERT's names of an encoder's modules."""
    return EMBEDDINGS | layer_modules(encoder.n_layers, LAYER, "encoder.layer.{}".format)


def _read_encoder(values: CheckpointConfig) -> TransformerConfig:
    return TransformerConfig(**encoder_values(values))


def _read_head(values: CheckpointConfig) -> HeadConfig:
    return HeadConfig(dense=True, activation="tanh", dropout=head_dropout(values))


FAMILY = Family(
    name="bert",
    architecture="BertForSequenceClassification",
    prefix="bert.",
    read_encoder=_read_encoder,
    read_head=_read_head,
    write=write,
    modules=modules,
    head_modules={"dense": "bert.pooler.dense", "output": "classifier"},
    other_heads=("cls.", "qa_outputs."),
)
