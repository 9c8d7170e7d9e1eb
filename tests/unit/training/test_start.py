"""The beginning of a run: kept once, and held against whoever wants to go on with it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from huiyan.core.errors import ArtifactError, ConfigError
from huiyan.training.start import FILE, Start

CPU = torch.device("cpu")
IDENTITY = {"data": "abc", "learning_rate": "0.1"}


@pytest.fixture
def start() -> Start:
    return Start.here(CPU, identity=IDENTITY, precision="bf16", total_steps=7)


def test_what_was_kept_is_read(start: Start, tmp_path: Path) -> None:
    assert Start.read(tmp_path) is None
    start.write(tmp_path)
    assert Start.read(tmp_path) == start
    assert start.check(IDENTITY, CPU) == []


def test_other_options_are_an_error(start: Start) -> None:
    with pytest.raises(ConfigError, match=r"started with learning_rate = 0.1, and now has 0.2.*--overwrite"):
        start.check(IDENTITY | {"learning_rate": "0.2"}, CPU)


def test_another_number_of_threads_is_an_error_that_says_which(start: Start) -> None:
    other = replace(start, threads=torch.get_num_threads() + 3)
    with pytest.raises(ConfigError, match=rf"started with {other.threads} threads.*OMP_NUM_THREADS={other.threads}"):
        other.check(IDENTITY, CPU)


def test_another_kind_of_device_is_an_error(start: Start) -> None:
    with pytest.raises(ConfigError, match="started on the device cuda, and now has cpu"):
        replace(start, device="cuda").check(IDENTITY, CPU)


@pytest.mark.parametrize(
    ("field", "what"), [("processor", "processor"), ("torch_version", "torch"), ("huiyan_version", "Huiyan")]
)
def test_another_processor_or_version_is_a_remark(start: Start, field: str, what: str) -> None:
    (remark,) = replace(start, **{field: "an older one"}).check(IDENTITY, CPU)
    assert f"the {what} an older one" in remark and ("last bits" in remark) == (what != "Huiyan")


def test_a_run_begun_before_our_version_was_kept_goes_on(start: Start, tmp_path: Path) -> None:
    start.write(tmp_path)
    kept = json.loads((tmp_path / FILE).read_text())
    del kept["huiyan_version"]
    (tmp_path / FILE).write_text(json.dumps(kept))
    again = Start.read(tmp_path)
    assert again is not None and again.check(IDENTITY, CPU) == []


@pytest.mark.parametrize("damage", ["", "[]", '{"threads": 2}', '{"later": 1}'])
def test_a_damaged_file_is_an_error(start: Start, tmp_path: Path, damage: str) -> None:
    start.write(tmp_path)
    if damage == '{"later": 1}':
        damage = json.dumps(json.loads((tmp_path / FILE).read_text()) | {"later": 1})
    (tmp_path / FILE).write_text(damage)
    with pytest.raises(ArtifactError, match=r"start\.json.*--overwrite"):
        Start.read(tmp_path)
