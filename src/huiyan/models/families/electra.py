"""ELECTRA's discriminator: BERT with embeddings that may be narrower than the stack. Source: Clark et al. 2020."""

from typing import Any

from huiyan.models.config import HeadConfig, TransformerConfig
from huiyan.models.families import bert
from huiyan.models.families.family import CheckpointConfig, Family, KeyTable, carry

_KEYS: KeyTable = (*bert.KEYS, ("embedding_width", "embedding_size", None))
_SUMMARY = ("summary_type", "summary_use_proj", "summary_activation", "summary_last_dropout")  # of multiple choice


def _read_encoder(values: CheckpointConfig) -> TransformerConfig:
    found = bert.encoder_values(values, _KEYS)
    found["carried"] |= carry(values, *_SUMMARY)
    return TransformerConfig(project_embeddings=found["embedding_width"] != found["width"], **found)


def _read_head(values: CheckpointConfig) -> HeadConfig:
    dropout = bert.head_dropout(values)
    return HeadConfig(dense=True, activation="gelu", dropout=dropout, dropout_before_dense=dropout)


def _write(encoder: TransformerConfig, head: HeadConfig) -> dict[str, Any]:
    return {**bert.write(encoder, head), "embedding_size": encoder.embedding_width}


def _modules(encoder: TransformerConfig) -> dict[str, str]:
    return bert.modules(encoder) | {"embeddings.projection": "embeddings_project"}


FAMILY = Family(
    name="electra",
    architecture="ElectraForSequenceClassification",
    prefix="electra.",
    read_encoder=_read_encoder,
    read_head=_read_head,
    write=_write,
    modules=_modules,
    head_modules={"dense": "classifier.dense", "output": "classifier.out_proj"},
    other_heads=("discriminator_predictions.", "generator_predictions.", "generator_lm_head.", "qa_outputs."),
)
