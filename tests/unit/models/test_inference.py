"""The classifier made for inference gives the answers of the one it is made from."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from huiyan.attention.approximate import ApproximateSelfAttention, LinearAttention
from huiyan.attention.positions.t5 import T5Bias
from huiyan.core.errors import ShapeError
from huiyan.core.packed import Packed
from huiyan.models.classifier import SequenceClassifier
from huiyan.models.config import ClassifierConfig, HeadConfig, Pooling, TransformerConfig
from huiyan.models.early_exit import ExitingClassifier, fresh_exits
from huiyan.models.fresh import fresh_classifier
from huiyan.models.inference import for_inference
from huiyan.models.inference_layer import InferenceLayer
from huiyan.models.stack import pre_norm

ENCODER = TransformerConfig(
    family="bert", vocab_size=20, width=16, embedding_width=16, n_layers=3, n_layer_groups=3, n_heads=2,
    feed_forward_width=32, n_positions=12, n_types=2, initializer_range=0.3,
)  # fmt: skip
TEXTS = [[2, 5, 6, 3], [2], [2, 7, 8, 9, 9, 3], [2, 3, 4, 5]]


def classifier(encoder: TransformerConfig = ENCODER, pooling: Pooling = "first") -> SequenceClassifier:
    config = ClassifierConfig(encoder=encoder, head=HeadConfig(pooling=pooling, dense=True), n_classes=3)
    return fresh_classifier(config, seed=0).eval()


def assert_same(model: SequenceClassifier, *, atol: float = 1e-5, precision: str = "fp32") -> SequenceClassifier:
    packed = Packed.from_lists(TEXTS)
    with torch.inference_mode():
        wanted, fast = model(packed), for_inference(model, precision)
        found = fast(packed)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, atol=atol, rtol=atol)
    return fast


def layers_of(model: SequenceClassifier) -> list[type]:
    return [type(layer) for layer in model.encoder.stack.layers]


@pytest.mark.parametrize("pooling", ["first", "mean", "attention"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_pooling_and_precision(pooling: Pooling, precision: str) -> None:
    fast = assert_same(classifier(pooling=pooling), precision=precision, atol=1e-5 if precision == "fp32" else 0.1)
    assert layers_of(fast) == [InferenceLayer] * 3


def test_shared_layers() -> None:
    assert_same(classifier(replace(ENCODER, n_layers=4, n_layer_groups=2)))


def test_layers_of_low_rank() -> None:
    ranks = {f"stack.layers.{n}.{name}": 4 for n in (0, 2) for name in ("attention.query", "feed_forward.inner")}
    fast = assert_same(classifier(replace(ENCODER, ranks=ranks)))
    assert layers_of(fast) == [InferenceLayer] * 3


def test_norms_in_front() -> None:
    model = classifier()
    for layer in model.encoder.stack.layers:
        layer.residual = pre_norm
    model.encoder.stack.final_norm = nn.LayerNorm(16)
    assert_same(model)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_position_in_the_scores_and_sinks(precision: str) -> None:
    model = classifier()
    for layer in model.encoder.stack.layers:
        layer.attention.position = T5Bias(2)
        nn.init.normal_(layer.attention.position.table)
        layer.attention.sinks = nn.Parameter(torch.ones(2))
    assert_same(model, precision=precision, atol=1e-5 if precision == "fp32" else 0.1)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("where", [0, 2])
def test_a_layer_of_another_kind_stays_as_it_is(where: int, precision: str) -> None:
    model = classifier()
    layer = model.encoder.stack.layers[where]
    layer.attention = ApproximateSelfAttention(layer.attention, LinearAttention())
    fast = assert_same(model, precision=precision, atol=1e-5 if precision == "fp32" else 0.1)
    assert layers_of(fast).count(InferenceLayer) == 2


def test_texts_leave_early_as_before() -> None:
    model, packed = classifier(), Packed.from_lists(TEXTS)
    exits = fresh_exits(model.config, seed=1).eval()
    with torch.inference_mode():
        wanted, depths = ExitingClassifier(model, exits).leave_early(packed, patience=2)
        found, own_depths = ExitingClassifier(for_inference(model), exits).leave_early(packed, patience=2)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert torch.equal(depths, own_depths)


def test_an_empty_sequence_is_an_error() -> None:
    with pytest.raises(ShapeError, match=r"at least one token.*Number 1"):
        for_inference(classifier())(Packed.from_lists([[2, 3], []]))


@pytest.mark.parametrize("n_texts", [30, 65, 75, 300, 76, 332])
def test_a_batch_that_is_filled_up_gives_what_it_gave(n_texts: int) -> None:
    model = classifier()
    packed = Packed.from_lists([[2, 5 + number % 7, 3 + number % 11] for number in range(n_texts)] + [[2] * 12] * 20)
    seen: list[tuple[int, int, int]] = []
    fast = for_inference(model)
    fast.encoder.stack.layers[0].register_forward_pre_hook(
        lambda _module, inputs: seen.append((*map(len, inputs), int(inputs[1].max())))
    )
    with torch.inference_mode():
        torch.testing.assert_close(fast(packed), model(packed), atol=1e-5, rtol=1e-5)
    (n_tokens, n_lengths, longest), grain = seen[0], 64 if n_texts >= 300 else 16
    assert longest == 12  # a model may have no position for more
    assert n_tokens % grain == 0 and n_tokens - len(packed.tokens) < grain + 16
    assert n_lengths % 16 == 0


def test_no_text_at_all() -> None:
    with torch.inference_mode():
        assert for_inference(classifier())(Packed.from_lists([])).shape == (0, 3)
