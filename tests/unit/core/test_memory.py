"""The memory of a device is what it has in all."""

from pathlib import Path

import pytest
import torch

from huiyan.core.errors import ConfigError
from huiyan.core.memory import least_limit, total_memory_bytes


def test_the_least_limit_counts(tmp_path: Path) -> None:
    for name, text in {"none": "max\n", "wide": "9000\n", "narrow": "500\n"}.items():
        (tmp_path / name).write_text(text, encoding="ascii")
    places = tuple(tmp_path / name for name in ("none", "missing", "wide"))
    assert least_limit(1000, places) == 1000
    assert least_limit(1000, (*places, tmp_path / "narrow")) == 500


def test_the_cpu_has_the_same_memory_whatever_is_taken() -> None:
    before = total_memory_bytes("cpu")
    held = torch.ones(50_000_000)
    assert total_memory_bytes("cpu") == before > held.nbytes


def test_a_device_that_is_not_here_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="'meta' is not known.*--memory GB"):
        total_memory_bytes("meta")
    with pytest.raises(ConfigError, match="There is no device 'gpu'. Choose cpu, cuda, cuda:N or mps"):
        total_memory_bytes("gpu")
