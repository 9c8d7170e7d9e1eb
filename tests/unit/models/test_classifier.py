from dataclasses import replace

import pytest
import torch

from huiyan.core.errors import ShapeError
from huiyan.core.packed import Packed
from huiyan.models.classifier import SequenceClassifier
from huiyan.models.config import ClassifierConfig, HeadConfig, Pooling, TransformerConfig
from huiyan.models.fresh import fresh_classifier

ENCODER = TransformerConfig(
    family="bert", vocab_size=20, width=8, embedding_width=8, n_layers=3, n_layer_groups=3, n_heads=2,
    feed_forward_width=16, n_positions=12, n_types=2,
)  # fmt: skip
TEXTS = [[2, 5, 6, 3], [2, 3], [2, 7, 8, 9, 9, 3]]


def model(
    head: HeadConfig | None = None, encoder: TransformerConfig = ENCODER, deviation: float = 0.5
) -> SequenceClassifier:
    config = ClassifierConfig(
        encoder=replace(encoder, initializer_range=deviation), head=head or HeadConfig(), n_classes=3
    )
    return fresh_classifier(config, seed=0)


@pytest.mark.parametrize("pooling", ["first", "mean", "attention"])
@pytest.mark.parametrize("dense", [False, True])
def test_a_batch_gives_what_each_text_gives(pooling: Pooling, dense: bool) -> None:
    classifier = model(HeadConfig(pooling=pooling, dense=dense)).eval()
    alone = torch.cat([classifier(Packed.from_lists([text])) for text in TEXTS])
    torch.testing.assert_close(classifier(Packed.from_lists(TEXTS)), alone)
    assert (alone[0] - alone[2]).abs().max() > 1e-3


@pytest.mark.parametrize("pooling", ["first", "mean", "attention"])
def test_bfloat16_is_close_and_its_gradients_are_float32(pooling: Pooling) -> None:
    classifier = model(HeadConfig(pooling=pooling, dense=True), deviation=0.2).eval()
    packed = Packed.from_lists(TEXTS)
    exact = classifier(packed)
    with torch.autocast("cpu", torch.bfloat16):
        rough = classifier(packed)
    torch.testing.assert_close(rough.float(), exact, atol=0.02, rtol=0.02)
    rough.float().sum().backward()
    assert {parameter.grad.dtype for parameter in classifier.parameters() if parameter.grad is not None} == {
        torch.float32
    }


def test_dropout_acts_in_training_alone() -> None:
    classifier, packed = model(), Packed.from_lists(TEXTS)
    assert not torch.equal(classifier.train()(packed), classifier(packed))
    assert torch.equal(classifier.eval()(packed), classifier(packed))


def test_groups_hold_every_parameter_once_from_embeddings_to_head() -> None:
    classifier = model()
    groups = classifier.layer_groups()
    assert len(groups) == 5
    assert sorted(id(parameter) for group in groups for parameter in group) == sorted(map(id, classifier.parameters()))
    names = {id(parameter): name for name, parameter in classifier.named_parameters()}
    starts = ["encoder.embeddings.", "encoder.stack.layers.0.", "encoder.stack.layers.1.", "encoder.stack.layers.2."]
    for start, group in zip([*starts, "head."], groups, strict=True):
        assert all(names[id(parameter)].startswith(start) for parameter in group)


def test_layers_that_share_weights_are_one_group() -> None:
    assert len(model(encoder=replace(ENCODER, n_layer_groups=1)).layer_groups()) == 3


def test_an_empty_text_cannot_be_classified() -> None:
    with pytest.raises(ShapeError, match="at least one token. Number 1 has none"):
        model()(Packed.from_lists([[2], []]))


def test_no_text_gives_no_row() -> None:
    assert model()(Packed.from_lists([])).shape == (0, 3)
