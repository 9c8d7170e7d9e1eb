from dataclasses import replace
from typing import Any

import pytest

from huiyan.core.errors import ConfigError, SourceError, UnknownFamilyError
from huiyan.models.config import ClassifierConfig, HeadConfig, LayerConfig, RelativeConfig, TransformerConfig
from huiyan.models.families.registry import FAMILIES, family_named, family_of
from huiyan.models.fresh import without_weights
from huiyan.models.naming import family_names

_NEAR = LayerConfig(
    residual="pre",
    attention_norm=False,
    norm_bias=False,
    attention_bias=False,
    feed_forward_bias=False,
    gated=True,
    rotary_base=500.0,
    window=3,
)
OWN: dict[str, dict[str, Any]] = {
    "distilbert": {"n_types": 0, "attention_output_dropout": 0.0},
    "albert": {"feed_forward_dropout": 0.0},
    "modernbert": {
        "norm_epsilon": 1e-5,
        "positions": "none",
        "n_types": 0,
        "feed_forward_dropout": 0.0,
        "layers": (_NEAR, replace(_NEAR, attention_norm=True, rotary_base=9000.0, window=None)),
    },
    "deberta-v2": {
        "positions": "none",
        "relative": RelativeConfig(max_relative_positions=20, position_buckets=6, norm=True, position_to_content=False),
    },
}


def encoder(name: str) -> TransformerConfig:
    usual: dict[str, Any] = {"n_types": 2, "attention_output_dropout": 0.1, "feed_forward_dropout": 0.1}
    return TransformerConfig(
        family=name,
        vocab_size=50,
        width=8,
        embedding_width=4 if name in ("albert", "electra") else 8,
        project_embeddings=name in ("albert", "electra"),
        n_layers=2,
        n_layer_groups=2,
        n_heads=2,
        feed_forward_width=16,
        n_positions=20,
        position_offset=2 if "roberta" in name else 0,
        pad_id=1 if "roberta" in name else 0,
        **usual | OWN.get(name, {}),
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_family_writes_it_reads(name: str) -> None:
    family, written = family_named(name), encoder(name)
    head = replace(family.read_head({}), dropout=0.25)
    if head.dropout_before_dense:
        head = replace(head, dropout_before_dense=0.25)
    values = {"model_type": name, **family.write(written, head)}
    assert replace(family.read_encoder(values), carried={}) == written
    assert family.read_head(values) == head


@pytest.mark.parametrize("name", FAMILIES)
def test_every_weight_has_a_name_of_the_family_and_no_two_the_same(name: str) -> None:
    family = family_named(name)
    model = without_weights(ClassifierConfig(encoder=encoder(name), head=family.read_head({}), n_classes=2))
    names = family_names([name for name, _ in model.named_parameters()], model.config.encoder, family)
    assert len(set(names.values())) == len(names)
    assert not any(theirs.startswith("huiyan.") for theirs in names.values())
    heads = [theirs for ours, theirs in names.items() if ours.startswith("encoder.")]
    assert all(theirs.startswith(family.prefix) for theirs in heads)


def test_a_pooling_of_ours_has_a_name_of_ours() -> None:
    head = HeadConfig(pooling="attention")
    model = without_weights(ClassifierConfig(encoder=encoder("bert"), head=head, n_classes=2))
    names = family_names([name for name, _ in model.named_parameters()], model.config.encoder, FAMILIES["bert"])
    assert names["head.pooling.query"] == "huiyan.head.pooling.query"
    assert names["head.output.weight"] == "classifier.weight"


def test_unknown_families_are_told_which_are_known() -> None:
    with pytest.raises(
        UnknownFamilyError,
        match="family 'gpt9'. It reads: albert, bert, deberta-v2, distilbert, electra, modernbert, roberta",
    ):
        family_of({"model_type": "gpt9"})
    with pytest.raises(UnknownFamilyError, match="Did you mean 'distilbert'"):
        family_of({"model_type": "distillbert"})
    with pytest.raises(UnknownFamilyError, match="names no model_type"):
        family_of({"hidden_size": 8})


def test_our_own_prefix_is_no_other_family() -> None:
    assert family_of({"model_type": "huiyan-bert"}) is FAMILIES["bert"]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "bert",
            {"position_embedding_type": "relative_key"},
            "position_embedding_type = 'relative_key'.*'absolute' only",
        ),
        ("roberta", {"is_decoder": True}, "is_decoder = True"),
        ("electra", {"add_cross_attention": True}, "add_cross_attention = True"),
        ("albert", {"position_embedding_type": "relative_key_query"}, "reads 'absolute' only"),
        ("modernbert", {"mlp_dropout": 0.1}, "mlp_dropout = 0.1"),
        ("modernbert", {"layer_types": ["sliding_attention"]}, "layer_types that are not one of each layer's"),
        ("modernbert", {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "rope_type = 'yarn'"),
        ("deberta-v2", {"relative_attention": False}, "relative_attention = False"),
        ("deberta-v2", {"conv_kernel_size": 3}, "conv_kernel_size = 3"),
        ("deberta-v2", {"pos_att_type": "p2p"}, "c2p and p2c are known"),
        ("bert", {"hidden_size": None}, "config.json has no 'hidden_size'"),
        ("distilbert", {"dim": None}, "config.json has no 'dim'"),
        ("albert", {"embedding_size": None}, "config.json has no 'embedding_size'"),
    ],
)
def test_variants_that_compute_something_else_are_refused(name: str, change: dict[str, object], message: str) -> None:
    family = family_named(name)
    values = {"model_type": name, **family.write(encoder(name), family.read_head({})), **change}
    with pytest.raises(SourceError, match=message):
        family.read_encoder(values)


def test_values_of_the_wrong_kind_are_refused() -> None:
    family = family_named("bert")
    values = {"model_type": "bert", **family.write(encoder("bert"), family.read_head({})), "hidden_size": "8"}
    with pytest.raises(ConfigError, match="width option must be a whole number"):
        family.read_encoder(values)
