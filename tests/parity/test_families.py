"""Every checkpoint family against its `transformers` twin, on tiny random weights.

Ours sees the texts packed, of mixed lengths; `transformers` sees them one at a time.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from huiyan.core.packed import Packed
from huiyan.core.texts import PairTokens
from huiyan.models.checkpoint import build_classifier, load_classifier, save_classifier
from huiyan.models.classifier import SequenceClassifier
from huiyan.models.families.registry import FAMILIES
from huiyan.models.inference import for_inference
from huiyan.models.naming import family_names, together

CLASSES = ["bad", "so-so", "good"]
BERT = {
    "vocab_size": 60,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 32,
}
TINY: dict[str, dict[str, Any]] = {
    "bert": BERT,
    "roberta": {**BERT, "type_vocab_size": 1, "max_position_embeddings": 34, "layer_norm_eps": 1e-5},
    "xlm-roberta": {**BERT, "type_vocab_size": 1, "max_position_embeddings": 34, "layer_norm_eps": 1e-5},
    "distilbert": {
        "vocab_size": 60,
        "dim": 24,
        "n_layers": 3,
        "n_heads": 4,
        "hidden_dim": 40,
        "max_position_embeddings": 32,
        "sinusoidal_pos_embds": True,
    },
    "electra": {**BERT, "embedding_size": 12},
    "modernbert": {
        "vocab_size": 60,
        "hidden_size": 24,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 40,
        "max_position_embeddings": 32,
        "local_attention": 8,
        **{f"{name}_token_id": number for number, name in enumerate(("pad", "bos", "eos", "cls", "sep"))},
    },
    "deberta-v2": {  # as v3
        **BERT,
        "relative_attention": True,
        "position_buckets": 4,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": "p2c|c2p",
        "position_biased_input": False,
        "max_relative_positions": -1,
        "layer_norm_eps": 1e-7,
    },
    # 5 layers in 2 groups do not divide evenly: the rounding of the order of depth shows.
    "albert": {**BERT, "embedding_size": 12, "num_hidden_layers": 5, "num_hidden_groups": 2, "inner_group_num": 2},
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in TINY},
    "electra without projection": ("electra", {"embedding_size": 24}),
    "albert, one shared layer": ("albert", {"num_hidden_groups": 1, "inner_group_num": 1, "embedding_size": 24}),
    "modernbert with biases and the mean": (
        "modernbert",
        {
            **dict.fromkeys(("norm_bias", "attention_bias", "mlp_bias", "classifier_bias"), True),
            "classifier_pooling": "mean",
            "global_attn_every_n_layers": 2,
        },
    ),
    "deberta with projections of its own": (
        "deberta-v2",
        {"share_att_key": False, "position_buckets": -1, "max_relative_positions": 9, "position_biased_input": True},
    ),
    "deberta from content to position": ("deberta-v2", {"pos_att_type": ["c2p"], "norm_rel_ebd": "none"}),
    "bert with relu": ("bert", {"hidden_act": "relu"}),
    "roberta with a pad id of 0": ("roberta", {"pad_token_id": 0, "max_position_embeddings": 33}),
}
NO_DROPOUT = {
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "classifier_dropout": 0.0,
    "classifier_dropout_prob": 0.0,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "seq_classif_dropout": 0.0,
    "cls_dropout": 0.0,
    "pooler_dropout": 0.0,
}
LENGTHS = [7, 1, 12, 12, 3, 30, 2]


@dataclass
class Twins:
    """One model in both libraries, and texts for it."""

    ours: SequenceClassifier
    theirs: Any
    texts: list[Tensor]

    @property
    def packed(self) -> Packed:
        return Packed.from_lists([text.tolist() for text in self.texts])

    @property
    def names(self) -> dict[str, str]:
        """Ours → theirs, of every parameter."""
        encoder = self.ours.config.encoder
        return family_names(dict(self.ours.named_parameters()), encoder, FAMILIES[encoder.family])


def twins_in(folder: Path, variant: str, **options: Any) -> Twins:
    """A `transformers` model with random weights everywhere, saved by it and loaded by us."""
    name, changes = VARIANTS[variant]
    config = transformers.AutoConfig.for_model(name, **{**TINY[name], **changes, **options}, num_labels=len(CLASSES))
    torch.manual_seed(7)
    theirs = transformers.AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for parameter in theirs.parameters():  # biases and norms too: at 0 and 1 they could be mistaken or forgotten
            parameter.add_(torch.randn_like(parameter) * 0.1)
    theirs.save_pretrained(folder)
    texts = [torch.randint(5, 60, (length,)) for length in LENGTHS]
    return Twins(load_classifier(folder), theirs, texts)


@pytest.mark.parametrize("variant", VARIANTS)
def test_hidden_states_and_logits_are_theirs_in_eval(variant: str, tmp_path: Path) -> None:
    twins = twins_in(tmp_path, variant)
    ours, theirs = twins.ours.eval(), twins.theirs.eval()
    with torch.no_grad():
        hidden = torch.cat([theirs.base_model(text[None]).last_hidden_state[0] for text in twins.texts])
        logits = torch.cat([theirs(text[None]).logits for text in twins.texts])
        torch.testing.assert_close(ours.encoder(twins.packed), hidden, atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(ours(twins.packed), logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if "distil" not in name])
def test_token_types_are_theirs(variant: str, tmp_path: Path) -> None:
    twins = twins_in(tmp_path, variant, type_vocab_size=2)
    ours, theirs = twins.ours.eval(), twins.theirs.eval()
    pairs = [PairTokens(text.tolist(), len(text) // 3) for text in twins.texts]
    types = [torch.tensor([[0] * pair.second + [1] * (len(pair) - pair.second)]) for pair in pairs]
    with torch.no_grad():
        logits = torch.cat(
            [theirs(text[None], token_type_ids=kinds).logits for text, kinds in zip(twins.texts, types, strict=True)]
        )
        for model in (ours, for_inference(ours)):
            found = model(Packed.from_lists([*pairs * 9]))[: len(pairs)]
            torch.testing.assert_close(found, logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_gradient_is_theirs_in_train(variant: str, tmp_path: Path) -> None:
    twins = twins_in(tmp_path, variant, **NO_DROPOUT)
    ours, theirs = twins.ours.train(), twins.theirs.train()
    direction = torch.randn(len(LENGTHS), len(CLASSES))
    (ours(twins.packed) * direction).sum().backward()
    (torch.cat([theirs(text[None]).logits for text in twins.texts]) * direction).sum().backward()

    expected = dict(theirs.named_parameters())
    names = twins.names
    found = together({names[name]: parameter.grad for name, parameter in ours.named_parameters()})
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(
            gradient,
            expected[name].grad,
            atol=2e-5,
            rtol=2e-4,
            msg=lambda text, name=name: f"{name}: {text}",
        )


@pytest.mark.parametrize("variant", VARIANTS)
def test_dropout_stands_where_theirs_does(variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout made a plain factor, one site too many, too few or of another probability shows."""
    monkeypatch.setattr(nn.Dropout, "forward", lambda self, x: x * (1 - self.p) if self.training else x)
    attention_alone = {"attention_probs_dropout_prob": 0.0, "attention_dropout": 0.0}
    chosen = {
        "hidden_dropout_prob": 0.3,
        "dropout": 0.3,
        "classifier_dropout": 0.45,
        "classifier_dropout_prob": 0.45,
        "seq_classif_dropout": 0.45,
    }
    twins = twins_in(tmp_path, variant, **attention_alone, **chosen)
    ours, theirs = twins.ours.train(), twins.theirs.train()
    with torch.no_grad():
        logits = torch.cat([theirs(text[None]).logits for text in twins.texts])
        torch.testing.assert_close(ours(twins.packed), logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_they_load_what_we_save(variant: str, tmp_path: Path) -> None:
    twins = twins_in(tmp_path / "theirs", variant)
    save_classifier(twins.ours, tmp_path / "ours", class_names=CLASSES)
    loaded, information = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not any(information.values()), information
    assert loaded.config.id2label == dict(enumerate(CLASSES))
    assert loaded.config.architectures == [type(loaded).__name__]
    back, before = loaded.state_dict(), twins.theirs.state_dict()
    assert back.keys() == before.keys() and all(torch.equal(back[name], before[name]) for name in before)
    with torch.no_grad():
        for ours, text in zip(twins.ours.eval()(twins.packed), twins.texts, strict=True):
            torch.testing.assert_close(ours, loaded.eval()(text[None]).logits[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", TINY)
def test_their_config_survives_the_round_trip(name: str, tmp_path: Path) -> None:
    """Every setting of theirs that is not about class names, the ones we do not use included."""
    unused = "attention_dropout" if name in ("distilbert", "modernbert") else "attention_probs_dropout_prob"
    twins = twins_in(tmp_path / "theirs", name, **{unused: 0.07})
    save_classifier(twins.ours, tmp_path / "ours", class_names=CLASSES)
    before, after = (
        transformers.AutoConfig.from_pretrained(tmp_path / whose).to_dict() for whose in ("theirs", "ours")
    )
    assert before[unused] == 0.07
    ours_to_say = {
        "id2label",
        "label2id",
        "problem_type",
        "_name_or_path",
        "dtype",
        "classifier_dropout",
        "cls_dropout",
    }
    changed = {key for key in before | after if before.get(key) != after.get(key)}
    assert changed <= ours_to_say


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("kind", ["AutoModel", "AutoModelForMaskedLM"])
def test_a_pretrained_checkpoint_gives_its_encoder(name: str, kind: str, tmp_path: Path) -> None:
    """Base models leave the prefix out, masked language models have another head."""
    torch.manual_seed(3)
    theirs = getattr(transformers, kind).from_config(transformers.AutoConfig.for_model(name, **TINY[name]))
    theirs.save_pretrained(tmp_path)
    ours = build_classifier(tmp_path, n_classes=5, seed=0).eval()
    text = torch.randint(5, 60, (9,))
    with torch.no_grad():
        hidden = theirs.eval().base_model(text[None]).last_hidden_state[0]
        torch.testing.assert_close(ours.encoder(Packed.from_lists([text.tolist()])), hidden, atol=2e-5, rtol=1e-5)
    assert ours.head.output.weight.shape == (5, 24)


@pytest.mark.parametrize("name", ["bert", "albert"])
def test_a_pretrained_pooler_is_kept(name: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    theirs = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(name, **TINY[name]))
    theirs.save_pretrained(tmp_path)
    pooler = theirs.pooler.dense if name == "bert" else theirs.pooler
    ours = build_classifier(tmp_path, n_classes=2, seed=0)
    assert ours.head.dense is not None
    torch.testing.assert_close(ours.head.dense.weight, pooler.weight, atol=0, rtol=0)


@pytest.mark.parametrize("pooling", ["first", "mean", "attention"])
def test_they_refuse_a_head_they_do_not_have(pooling: str, tmp_path: Path) -> None:
    twins_in(tmp_path / "theirs", "bert")
    ours = build_classifier(tmp_path / "theirs", n_classes=3, pooling=pooling, seed=0)
    save_classifier(ours, tmp_path / "ours", class_names=CLASSES)
    with pytest.raises(ValueError, match="huiyan-bert"):
        transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "ours")


def test_old_names_of_norms_and_constant_buffers_are_read(tmp_path: Path) -> None:
    twins = twins_in(tmp_path / "new", "bert")
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in twins.theirs.state_dict().items()
    }
    old["bert.embeddings.position_ids"] = torch.arange(32)[None]
    from safetensors.torch import save_file

    save_file({name: tensor.clone() for name, tensor in old.items()}, tmp_path / "new" / "model.safetensors")
    again = load_classifier(tmp_path / "new")
    for name, parameter in twins.ours.named_parameters():
        torch.testing.assert_close(dict(again.named_parameters())[name], parameter, atol=0, rtol=0)
