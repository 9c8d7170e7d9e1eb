import pytest
import torch

from huiyan.models.config import ClassifierConfig, HeadConfig, TransformerConfig
from huiyan.models.fresh import draw_missing, fresh_classifier, without_weights

CONFIG = ClassifierConfig(
    encoder=TransformerConfig(
        family="bert", vocab_size=500, width=32, embedding_width=32, n_layers=2, n_layer_groups=2, n_heads=2,
        feed_forward_width=64, n_positions=12, n_types=2, initializer_range=0.03,
    ),
    head=HeadConfig(pooling="attention", dense=True),
    n_classes=3,
)  # fmt: skip


def test_weights_hang_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    one = fresh_classifier(CONFIG, seed=5).state_dict()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    same, other = fresh_classifier(CONFIG, seed=5).state_dict(), fresh_classifier(CONFIG, seed=6).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["head.output.weight"], other["head.output.weight"])


def test_norms_begin_at_one_biases_at_zero_the_rest_about_the_range() -> None:
    for name, parameter in fresh_classifier(CONFIG, seed=0).named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name
        elif parameter.numel() > 300:
            assert parameter.std().item() == pytest.approx(0.03, rel=0.2), name


def test_what_is_there_is_not_drawn() -> None:
    model = without_weights(CONFIG)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    have = {name: torch.zeros(1) for name, _ in model.named_parameters() if not name.startswith("head.output")}
    assert set(draw_missing(model, have, seed=0)) == {"head.output.weight", "head.output.bias"}
