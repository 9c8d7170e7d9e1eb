"""The dense door against the packed forward, by itself and exported, for every family and every pooling."""

from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.export import Dim, export

from huiyan.core.errors import ShapeError
from huiyan.core.packed import Packed
from huiyan.models.classifier import SequenceClassifier
from huiyan.models.config import ClassifierConfig, HeadConfig, Pooling
from huiyan.models.dense import DenseClassifier
from huiyan.models.families.registry import FAMILIES
from huiyan.models.fresh import fresh_classifier

N_POSITIONS, PAD_OFFSET = 20, 2
BERT: dict[str, Any] = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": N_POSITIONS,
}
ROBERTA = BERT | {"type_vocab_size": 1, "pad_token_id": 1, "max_position_embeddings": N_POSITIONS + PAD_OFFSET}
DISTILBERT: dict[str, Any] = {
    "vocab_size": 30,
    "dim": 16,
    "n_layers": 2,
    "n_heads": 2,
    "hidden_dim": 24,
    "max_position_embeddings": N_POSITIONS,
}
CHECKPOINTS = {
    "bert": BERT,
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "distilbert": DISTILBERT,
    "electra": BERT | {"embedding_size": 8},
    "modernbert": BERT | {"local_attention": 4, "pad_token_id": 0},
    "deberta-v2": BERT
    | {"relative_attention": True, "pos_att_type": "p2c|c2p", "position_buckets": 4, "share_att_key": True},
    "albert": BERT | {"embedding_size": 8, "num_hidden_layers": 3, "num_hidden_groups": 2, "inner_group_num": 2},
}
TEXTS = [[2, 5, 6, 3], [2, 3], [2, 7, 8, 9, 9, 11, 3], [4]]
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def classifier(family: str = "bert", pooling: Pooling | None = None) -> SequenceClassifier:
    """Of a family, with its own head or another pooling, in evaluation mode."""
    values = {"model_type": family, **CHECKPOINTS[family]}
    encoder = FAMILIES[family].read_encoder(values)
    head = HeadConfig(pooling=pooling) if pooling else FAMILIES[family].read_head(values)
    config = ClassifierConfig(encoder=replace(encoder, initializer_range=0.3), head=head, n_classes=3)
    return fresh_classifier(config, seed=0).eval()


def padded(texts: list[list[int]], length: int, *, left: bool = False) -> tuple[Tensor, Tensor]:
    """Tokens, with some other word as padding, and which of them are seen."""
    tokens, visible = torch.full((len(texts), length), 13), torch.zeros(len(texts), length, dtype=torch.bool)
    for row, text in enumerate(texts):
        start = length - len(text) if left else 0
        tokens[row, start : start + len(text)] = torch.tensor(text)
        visible[row, start : start + len(text)] = True
    return tokens, visible


def test_every_family_is_here() -> None:
    assert set(CHECKPOINTS) == set(FAMILIES)


@pytest.mark.parametrize("left", [False, True], ids=["padded right", "padded left"])
@pytest.mark.parametrize("pooling", [None, *get_args(Pooling)])
@pytest.mark.parametrize("family", CHECKPOINTS)
def test_it_gives_what_packed_gives(family: str, pooling: Pooling | None, left: bool) -> None:
    model = classifier(family, pooling)
    expected = model(Packed.from_lists(TEXTS))
    for length in (7, 12):
        torch.testing.assert_close(DenseClassifier(model)(*padded(TEXTS, length, left=left)), expected, **CLOSE)
    assert (expected[0] - expected[2]).abs().max() > 1e-2


def exported(model: SequenceClassifier, max_length: int = N_POSITIONS) -> torch.nn.Module:
    shapes = {0: Dim("batch"), 1: Dim("length", max=max_length)}
    program = export(DenseClassifier(model).eval(), padded(TEXTS, 9), dynamic_shapes=(shapes, shapes))
    return program.module()


@pytest.mark.parametrize(
    ("family", "pooling"),
    # DeBERTa's positions need the blockwise kernel, which decides by numbers what it computes.
    [
        *((family, None) for family in CHECKPOINTS if family != "deberta-v2"),
        *(("bert", each) for each in get_args(Pooling)),
    ],
)
def test_exported_it_takes_batches_of_any_shape(family: str, pooling: Pooling | None) -> None:
    model = classifier(family, pooling)
    program = exported(model)
    for texts, length in ((TEXTS, 7), (TEXTS[:1], 4), (TEXTS * 3, 11), ([[5]], 1), (TEXTS, N_POSITIONS)):
        with torch.no_grad():
            expected = model(Packed.from_lists(texts))
            torch.testing.assert_close(program(*padded(texts, length)), expected, **CLOSE)


def test_a_long_model_is_exported_for_all_its_length() -> None:
    """No kernel is chosen by a length that the graph leaves open."""
    config = classifier().config
    long = replace(config, encoder=replace(config.encoder, n_positions=8192))
    model = fresh_classifier(long, seed=0).eval()
    program, texts = exported(model, 8192), [[5] * 2100, [7]]
    with torch.no_grad():
        torch.testing.assert_close(program(*padded(texts, 2100)), model(Packed.from_lists(texts)), **CLOSE)


def test_no_weight_is_copied() -> None:
    model = classifier()
    dense = DenseClassifier(model)
    assert {id(x) for x in dense.parameters()} == {id(x) for x in model.parameters()}


def test_gradients_are_those_of_packed() -> None:
    model = classifier(pooling="attention")
    losses = (model(Packed.from_lists(TEXTS)).sin().sum(), DenseClassifier(model)(*padded(TEXTS, 9)).sin().sum())
    packed, dense = (torch.autograd.grad(loss, tuple(model.parameters())) for loss in losses)
    for ours, theirs in zip(dense, packed, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


TOKENS, VISIBLE = padded(TEXTS, 7)


@pytest.mark.parametrize(
    ("tokens", "visible", "message"),
    [
        (TOKENS[0], VISIBLE[0], r"takes tokens `b l` and visible `b l`, bool. Got \(7,\)"),
        (TOKENS, VISIBLE[:, :6], r"Got \(4, 7\), and torch.bool \(4, 6\)"),
        (TOKENS, VISIBLE.long(), "Got .*torch.int64"),
        (TOKENS, VISIBLE & (torch.arange(4) != 2)[:, None], "at least one token to be classified. Number 2 has none"),
        (TOKENS.repeat(1, 3), VISIBLE.repeat(1, 3), "A batch of 21 columns is longer than the 20 positions"),
    ],
)
def test_what_it_cannot_take_is_refused(tokens: Tensor, visible: Tensor, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        DenseClassifier(classifier())(tokens, visible)
