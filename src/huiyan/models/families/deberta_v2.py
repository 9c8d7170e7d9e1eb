"""DeBERTa-v2 and -v3: content and relative positions look for each other. Source: He et al. 2021."""

from typing import Any

from huiyan.core.errors import SourceError
from huiyan.models.config import HeadConfig, RelativeConfig, TransformerConfig
from huiyan.models.families import bert
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

_DEFAULTS = {"n_types": 0, "norm_epsilon": 1e-7}  # where it differs from BERT's
_KEYS: KeyTable = tuple((ours, theirs, _DEFAULTS.get(ours, default)) for ours, theirs, default in bert.KEYS)
_CARRIED = (
    *("attention_probs_dropout_prob", "bos_token_id", "eos_token_id", "legacy", "tie_word_embeddings"),
    *("pooler_hidden_size", "max_relative_positions"),
)
_POSITION_LAYER = {"attention.position.key": "pos_key_proj", "attention.position.query": "pos_query_proj"}
_LAYER = bert.LAYER | {
    "attention.query": "attention.self.query_proj",
    "attention.key": "attention.self.key_proj",
    "attention.value": "attention.self.value_proj",
}


def _read_encoder(values: CheckpointConfig) -> TransformerConfig:
    # Plain attention under this name, and the convolution of the largest models, are read by nobody here yet.
    refuse_unless(values, relative_attention=True, conv_kernel_size=0)
    found = read_keys(values, _KEYS)
    refuse_unless(values, embedding_size=found["width"], attention_head_size=found["width"] // found["n_heads"])
    kinds = values.get("pos_att_type") or []
    kinds = [kind.strip() for kind in kinds.lower().split("|")] if isinstance(kinds, str) else list(kinds)
    if not kinds or not set(kinds) <= {"c2p", "p2c"}:
        raise SourceError(f"This checkpoint's config.json says pos_att_type = {kinds!r}, and c2p and p2c are known.")
    farthest = values.get("max_relative_positions", -1)
    buckets = values.get("position_buckets", -1)
    return TransformerConfig(
        family=values["model_type"].removeprefix(OWN_PREFIX),
        embedding_width=found["width"],
        n_layer_groups=found["n_layers"],
        positions="learned" if values.get("position_biased_input", True) else "none",
        attention_output_dropout=found["embedding_dropout"],
        feed_forward_dropout=found["embedding_dropout"],
        carried=carry(values, *_CARRIED),
        relative=RelativeConfig(
            max_relative_positions=farthest if farthest >= 1 else found["n_positions"],
            position_buckets=buckets if buckets > 0 else None,
            norm="layer_norm" in str(values.get("norm_rel_ebd", "none")).lower(),
            shared_projections=values.get("share_att_key", False),
            content_to_position="c2p" in kinds,
            position_to_content="p2c" in kinds,
        ),
        **found,
    )


def _read_head(values: CheckpointConfig) -> HeadConfig:
    own = values.get("cls_dropout")
    return HeadConfig(
        dense=True,
        activation=values.get("pooler_hidden_act", "gelu"),
        dropout_before_dense=values.get("pooler_dropout", 0.0),
        dropout=values.get("hidden_dropout_prob", 0.1) if own is None else own,
    )


def _write(encoder: TransformerConfig, head: HeadConfig) -> dict[str, Any]:
    relative = encoder.relative or RelativeConfig(max_relative_positions=encoder.n_positions)
    kinds = {"p2c": relative.position_to_content, "c2p": relative.content_to_position}
    return {
        "max_relative_positions": relative.max_relative_positions,
        **encoder.carried,
        **write_keys(encoder, _KEYS),
        "relative_attention": True,
        "position_biased_input": encoder.positions == "learned",
        "position_buckets": -1 if relative.position_buckets is None else relative.position_buckets,
        "norm_rel_ebd": "layer_norm" if relative.norm else "none",
        "share_att_key": relative.shared_projections,
        "pos_att_type": [kind for kind, is_there in kinds.items() if is_there],
        "pooler_hidden_act": head.activation,
        "pooler_dropout": head.dropout_before_dense,
        "cls_dropout": head.dropout,
    }


def _modules(encoder: TransformerConfig) -> dict[str, str]:
    relative = {"relative": "encoder.rel_embeddings", "relative.norm": "encoder.LayerNorm"}
    own = {ours: f"attention.self.{theirs}" for ours, theirs in _POSITION_LAYER.items()}
    return bert.EMBEDDINGS | relative | layer_modules(encoder.n_layers, _LAYER | own, "encoder.layer.{}".format)


FAMILY = Family(
    name="deberta-v2",
    architecture="DebertaV2ForSequenceClassification",
    prefix="deberta.",
    read_encoder=_read_encoder,
    read_head=_read_head,
    write=_write,
    modules=_modules,
    head_modules={"dense": "pooler.dense", "output": "classifier"},
    other_heads=("lm_predictions.", "mask_predictions.", "cls.", "qa_outputs."),
)
