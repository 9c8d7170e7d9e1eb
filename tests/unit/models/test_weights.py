import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from huiyan.core.errors import WeightsError
from huiyan.models.weights import read_weights

A, B = {"a": torch.arange(3.0)}, {"b": torch.ones(2, 2, dtype=torch.bfloat16)}
INDEX = "model.safetensors.index.json"


def test_one_file(tmp_path: Path) -> None:
    save_file(A | B, tmp_path / "model.safetensors")
    weights = read_weights(tmp_path)
    assert weights.keys() == {"a", "b"}
    assert torch.equal(weights["b"], B["b"])


def test_shards(tmp_path: Path) -> None:
    save_file(A, tmp_path / "model-1.safetensors")
    save_file(B, tmp_path / "model-2.safetensors")
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}))
    assert read_weights(tmp_path).keys() == {"a", "b"}


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5"])
def test_pickled_weights_are_refused_with_the_way_out(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04")
    with pytest.raises(WeightsError, match=f"has its weights in {name} only.*run code.*save_pretrained"):
        read_weights(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"has no model.safetensors and no model.safetensors.index.json"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 100, b"\x09\x00\x00\x00\x00\x00\x00\x00{}"], ids=["empty", "noise", "cut"]
)
def test_a_broken_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match="cannot be read as safetensors"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("[", "is not JSON"),
        ("[]", "must hold an object. Got a list"),
        ('{"weight_map": 3}', "is not an index"),
        ("{}", "is not an index"),
        ('{"weight_map": {"a": "../model.safetensors"}}', "names '../model.safetensors', which is not"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "names '/etc/passwd'"),
        ('{"weight_map": {"a": "model.bin"}}', "names 'model.bin'"),
        ('{"weight_map": {"a": 3}}', "names '3', which is not"),
        ('{"weight_map": {"a": "model-1.safetensors"}}', "names model-1.safetensors, and it is not there"),
    ],
)
def test_an_index_that_does_not_hold(index: str, message: str, tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(index)
    with pytest.raises(WeightsError, match=message):
        read_weights(tmp_path)
