from dataclasses import replace

import pytest

from huiyan.core.errors import ConfigError, SourceError, UnknownFamilyError
from huiyan.models.config import ClassifierConfig, EncoderConfig, HeadConfig
from huiyan.models.families.registry import FAMILIES, family_named, family_of
from huiyan.models.fresh import without_weights
from huiyan.models.naming import family_names


def encoder(name: str) -> EncoderConfig:
    return EncoderConfig(
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
        n_types=0 if name == "distilbert" else 2,
        position_offset=2 if "roberta" in name else 0,
        pad_id=1 if "roberta" in name else 0,
        attention_output_dropout=0.0 if name == "distilbert" else 0.1,
        feed_forward_dropout=0.0 if name == "albert" else 0.1,
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_family_writes_it_reads(name: str) -> None:
    family, written = family_named(name), encoder(name)
    head = replace(family.read_head({}), dropout=0.25)
    if head.dropout_before_dense:
        head = replace(head, dropout_before_dense=0.25)
    values = {"model_type": name, **family.write(written, head)}
    assert family.read_encoder(values) == written
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
        UnknownFamilyError, match="family 'gpt2'. It reads: albert, bert, distilbert, electra, roberta, xlm-roberta"
    ):
        family_of({"model_type": "gpt2"})
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
