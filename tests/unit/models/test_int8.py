"""What is noted for int8 is what enters the products."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from huiyan.core.errors import ConfigError, ShapeError, WeightsError
from huiyan.core.packed import Packed
from huiyan.models.classifier import SequenceClassifier
from huiyan.models.config import ClassifierConfig, HeadConfig, Pooling, TransformerConfig
from huiyan.models.fresh import fresh_classifier
from huiyan.models.inference import for_inference
from huiyan.models.inference_layer import InferenceLayer
from huiyan.models.int8 import Calibration, calibrate
from huiyan.models.prepacked import Int8Linear

ENCODER = TransformerConfig(
    family="bert", vocab_size=20, width=16, embedding_width=16, n_layers=3, n_layer_groups=3, n_heads=2,
    feed_forward_width=32, n_positions=12, n_types=2, initializer_range=0.3,
)  # fmt: skip
TEXTS = [[2, 5, 6, 3], [2], [2, 7, 8, 9, 9, 3], [2, 3, 4, 5]]
ALL = Packed.from_lists(TEXTS)


def classifier(encoder: TransformerConfig = ENCODER, pooling: Pooling = "mean") -> SequenceClassifier:
    config = ClassifierConfig(encoder=encoder, head=HeadConfig(pooling=pooling, dense=True), n_classes=3)
    return fresh_classifier(config, seed=0).eval()


def test_ranges_and_means_are_those_of_all_batches_together() -> None:
    model = classifier()
    with torch.inference_mode():
        entering = model.encoder.embeddings(ALL)
    whole, parts = calibrate(model, [ALL]), calibrate(model, [Packed.from_lists([text]) for text in TEXTS])
    assert set(whole.ranges) == {
        f"stack.layers.{layer}.{name}"
        for layer in range(3)
        for name in ("attention.key", "attention.out", "feed_forward.inner")
    }
    first = whole.ranges["stack.layers.0.attention.key"]
    torch.testing.assert_close(first.lowest, entering.amin(0))
    torch.testing.assert_close(first.highest, entering.amax(0))
    torch.testing.assert_close(first.mean, entering.mean(0))
    for name, columns in whole.ranges.items():
        for ours, theirs in zip(vars(columns).values(), vars(parts.ranges[name]).values(), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert not model.encoder.stack.layers[0].attention.key._forward_pre_hooks


@pytest.mark.parametrize("first_layer", [0, 2, 3])
def test_layers_from_the_first_on_multiply_in_int8(first_layer: int) -> None:
    model = classifier()
    fast = for_inference(model, "int8", replace(calibrate(model, [ALL]), first_layer=first_layer))
    layers = [layer for layer in fast.encoder.stack.layers if isinstance(layer, InferenceLayer)]
    assert [isinstance(layer.network.inner, Int8Linear) for layer in layers] == [n >= first_layer for n in range(3)]
    assert [isinstance(layer.out, Int8Linear) for layer in layers] == [n >= first_layer for n in range(3)]
    assert not any(isinstance(layer.network.outer, Int8Linear) for layer in layers)
    with torch.inference_mode():
        torch.testing.assert_close(fast(ALL), model(ALL), atol=0.1, rtol=0.1)


def test_products_of_low_rank_stay_as_they_are() -> None:
    model = classifier(
        replace(ENCODER, ranks={"stack.layers.0.attention.key": 4, "stack.layers.1.feed_forward.inner": 4})
    )
    calibration = calibrate(model, [ALL])
    assert len(calibration.ranges) == 7
    with torch.inference_mode():
        torch.testing.assert_close(for_inference(model, "int8", calibration)(ALL), model(ALL), atol=0.1, rtol=0.1)


@pytest.mark.parametrize("pooling", ["first", "mean"])
@pytest.mark.parametrize("groups", [1, 3])
def test_every_pooling_and_shared_layers(pooling: Pooling, groups: int) -> None:
    model = classifier(replace(ENCODER, n_layer_groups=groups), pooling)
    with torch.inference_mode():
        found = for_inference(model, "int8", calibrate(model, [ALL]))(ALL)
        torch.testing.assert_close(found, model(ALL), atol=0.1, rtol=0.1)


def test_calibrating_needs_a_row() -> None:
    with pytest.raises(ShapeError, match="at least one token"):
        calibrate(classifier(), [])


def test_int8_needs_a_calibration() -> None:
    with pytest.raises(ConfigError, match="needs a calibration"):
        for_inference(classifier(), "int8")


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    model = classifier()
    calibration, path = calibrate(model, [ALL]), tmp_path / "int8.safetensors"
    calibration.save(path)
    again = Calibration.load(path, model, first_layer=2)
    assert again.first_layer == 2
    for name, columns in calibration.ranges.items():
        assert all(
            torch.equal(x, y) for x, y in zip(vars(columns).values(), vars(again.ranges[name]).values(), strict=True)
        )
    with pytest.raises(WeightsError, match="not of the model beside it"):
        Calibration.load(path, classifier(replace(ENCODER, n_layers=2, n_layer_groups=2)), first_layer=0)
