"""What an encoder will take, foreseen from its config alone."""

import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from huiyan.core.errors import ConfigError, SourceError
from huiyan.models.checkpoint import build_classifier
from huiyan.workflows.foresight import advice, foresee, plan_summary


@pytest.fixture
def config_only(tiny_model: Path, tmp_path: Path) -> str:
    """The folder of a model whose weights are not there."""
    (tmp_path / "config.json").write_text((tiny_model / "config.json").read_text("utf-8"), encoding="utf-8")
    return str(tmp_path)


def test_weights_and_moments_are_those_of_the_model(config_only: str, tiny_model: Path) -> None:
    found = foresee(config_only, [16], training=True, device="cpu", precision="fp32")
    encoder = build_classifier(tiny_model, n_classes=2, seed=0).encoder
    weights = sum(4 * parameter.numel() for parameter in encoder.parameters())
    assert (found.memory.weights, found.memory.gradients, found.memory.moments) == (weights, weights, 2 * weights)
    assert found.layers == 2 and found.family == "bert"


def test_a_batch_holds_the_lengths_as_often_as_they_fit(config_only: str) -> None:
    assert foresee(config_only, [16, 8], batch_tokens=50, device="cpu").lengths == (8, 8, 16, 16)
    assert foresee(config_only, [60], batch_tokens=50, device="cpu").lengths == (60,)


def test_arithmetic_of_projections_and_feed_forward(config_only: str) -> None:
    once = foresee(config_only, [16], batch_tokens=16, device="cpu", precision="fp32")
    assert once.flops["projections"] == 2 * 2 * 16 * 4 * 32 * 32
    assert once.flops["feed_forward"] == 2 * 2 * 16 * 2 * 32 * 64
    assert once.flops["attention"] == 2 * sum(once.attention.flops)
    step = foresee(config_only, [16], batch_tokens=16, device="cpu", precision="fp32", training=True)
    assert step.flops["projections"] == 3 * once.flops["projections"]


def test_attention_takes_a_growing_share(config_only: str) -> None:
    shares = []
    for n in (64, 1024, 16_384):
        flops = foresee(config_only, [n], batch_tokens=n, device="cpu").flops
        shares.append(flops["attention"] / sum(flops.values()))
    assert shares == sorted(shares) and shares[-1] > 0.9


def test_a_length_beyond_the_positions_is_said(config_only: str) -> None:
    assert foresee(config_only, [64], device="cpu").warnings == ()
    (warning,) = foresee(config_only, [65], device="cpu").warnings
    assert "trained for 64 positions and cannot run at 65 tokens" in warning
    assert "--max-length" in warning


def test_what_autograd_saves_is_what_is_foreseen(config_only: str, tiny_model: Path) -> None:
    """The bytes of the tensors that a training pass saves, counted as autograd packs them, within 3 %."""
    model = build_classifier(tiny_model, n_classes=2, seed=0).train()
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved: dict[int, torch.UntypedStorage] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage
        return x

    from huiyan.core.packed import Packed

    lengths = torch.full((32,), 64)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        kept = model.encoder(Packed(torch.randint(5, 20, (int(lengths.sum()),)), lengths))
    assert kept.requires_grad
    measured = sum(storage.nbytes() for storage in saved.values())
    foreseen = foresee(config_only, [64], batch_tokens=2048, training=True, precision="fp32", device="cpu")
    assert foreseen.memory.activations == pytest.approx(measured, rel=0.03)


def test_what_does_not_fit_comes_with_advice(config_only: str) -> None:
    found = foresee(config_only, [64], training=True, device="cpu", precision="fp32", memory_bytes=50_000)
    assert not found.fits
    said = " ".join(advice(found))
    assert "--batch-tokens" in said and "bf16" in said and "do not fit" in said
    assert advice(foresee(config_only, [64], device="cpu")) == ()


def test_the_summary_and_the_dictionary_say_the_same(config_only: str) -> None:
    found = foresee(config_only, [100], device="cpu", precision="fp32")
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(plan_summary(found))
    text = console.export_text()
    assert "kernel packed" in text and "Warning: This model was trained for 64" in text and "fits" in text
    assert json.loads(json.dumps(found.to_dict()))["attention"]["kernel"] == "packed"


def test_errors_say_what_to_do(config_only: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="The length option must be at least 1"):
        foresee(config_only, [0])
    with pytest.raises(ConfigError, match="The batch_tokens option must be at least 1"):
        foresee(config_only, [8], batch_tokens=0)
    with pytest.raises(ConfigError, match="batch_tokens option must be small enough for at most 100,000 texts"):
        foresee(config_only, [1], batch_tokens=10**12)
    with pytest.raises(ConfigError, match="There is no device 'gpu'"):
        foresee(config_only, [8], device="gpu", memory_bytes=10**9)
    with pytest.raises(SourceError, match="no model 'nothing-here'"):
        foresee("nothing-here", [8])
    (tmp_path / "config.json").unlink()
    with pytest.raises(SourceError, match=r"has no config\.json"):
        foresee(config_only, [8])
