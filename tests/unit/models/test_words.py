"""The word table: frozen, or cut down to the pieces that are kept."""

import pytest
import torch

from huiyan.core.packed import Packed
from huiyan.models.config import ClassifierConfig, HeadConfig, TransformerConfig
from huiyan.models.fresh import fresh_classifier
from huiyan.models.words import freeze_words, keep_words
from huiyan.training.checkpoints import set_weights, weights_of
from huiyan.training.optimiser import build_optimiser


@pytest.fixture
def config() -> ClassifierConfig:
    encoder = TransformerConfig(
        family="bert", vocab_size=50, width=16, embedding_width=16, n_layers=2, n_layer_groups=2, n_heads=2,
        feed_forward_width=32, n_positions=16, n_types=2, pad_id=7,
    )  # fmt: skip
    return ClassifierConfig(encoder=encoder, head=HeadConfig(dense=True), n_classes=3)


def test_kept_rows_answer_as_before(config: ClassifierConfig) -> None:
    model = fresh_classifier(config, seed=0).eval()
    kept = [0, 3, 7, 9, 20, 44]
    before = model(Packed.from_lists([[3, 20, 44], [9, 0]], torch.device("cpu")))
    keep_words(model, kept)
    after = model(Packed.from_lists([[1, 4, 5], [3, 0]], torch.device("cpu")))
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert model.config.encoder.vocab_size == 6 and model.config.encoder.pad_id == 2
    assert model.encoder.embeddings.words.padding_idx == 2 and model.encoder.embeddings.words.weight.requires_grad


def test_frozen_words_are_not_trained_and_not_in_checkpoints(config: ClassifierConfig) -> None:
    model = fresh_classifier(config, seed=0)
    freeze_words(model)
    words = model.encoder.embeddings.words.weight
    groups = build_optimiser(model.layer_groups(), learning_rate=1e-3, weight_decay=0.0, layer_decay=1.0).param_groups
    assert all(parameter is not words for group in groups for parameter in group["params"])
    weights = weights_of(model)
    assert "encoder.embeddings.words.weight" not in weights and "encoder.embeddings.positions.weight" in weights
    set_weights(model, weights)
    keep_words(model, [1, 7, 8])
    assert not model.encoder.embeddings.words.weight.requires_grad
