"""RoBERTa: BERT's network with positions that begin after the padding id. Source: Liu et al. 2019."""

from dataclasses import replace

from huiyan.models.config import HeadConfig, TransformerConfig
from huiyan.models.families import bert
from huiyan.models.families.family import CheckpointConfig, Family, KeyTable

_KEYS: KeyTable = tuple((ours, theirs, 1 if ours == "pad_id" else default) for ours, theirs, default in bert.KEYS)


def read_encoder(values: CheckpointConfig) -> TransformerConfig:
    """BERT's keys, and the first token at the position pad_id + 1.

    Source: fairseq's ``make_positions``, which counts from there so that padding has a position of its own.
    """
    encoder = TransformerConfig(**bert.encoder_values(values, _KEYS))
    return replace(encoder, position_offset=(encoder.pad_id or 0) + 1)


def read_head(values: CheckpointConfig) -> HeadConfig:
    """First token, dropout, dense, tanh, dropout, output."""
    dropout = bert.head_dropout(values)
    return HeadConfig(dense=True, activation="tanh", dropout=dropout, dropout_before_dense=dropout)


FAMILY = Family(
    name="roberta",
    architecture="RobertaForSequenceClassification",
    prefix="roberta.",
    read_encoder=read_encoder,
    read_head=read_head,
    write=bert.write,
    modules=bert.modules,
    head_modules={"dense": "classifier.dense", "output": "classifier.out_proj"},
    # The base model's pooler was never trained, and its classifier does not use it.
    other_heads=("roberta.pooler.", "pooler.", "lm_head.", "qa_outputs.", "classifier."),
)
