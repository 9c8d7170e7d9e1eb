"""Modules without weights have shapes, and nothing is drawn for them."""

import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from huiyan.core.weightless import weightless


def test_shapes_without_values_or_random_numbers() -> None:
    before = torch.get_rng_state()
    with weightless():
        modules = [nn.Linear(3, 5), nn.Embedding(7, 4, padding_idx=0), nn.LayerNorm(6), nn.MultiheadAttention(8, 2)]
    assert {parameter.device.type for module in modules for parameter in module.parameters()} == {"meta"}
    assert [tuple(parameter.shape) for parameter in modules[0].parameters()] == [(5, 3), (5,)]
    assert torch.equal(torch.get_rng_state(), before)


def test_modules_made_afterwards_are_drawn() -> None:
    with weightless():
        nn.Linear(3, 5)
    assert nn.Linear(30, 50).weight.detach().std() > 0


def test_answering_does_without_torch_s_compiler(tiny_run: Path) -> None:
    program = (
        "import sys; from huiyan.workflows.predict import predict_texts; from pathlib import Path\n"
        f"predict_texts(Path({str(tiny_run)!r}), ['the good dress'])\n"
        "print('torch' in sys.modules, 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
