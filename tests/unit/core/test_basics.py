"""Errors, configuration, seeds, packed batches and devices."""

import subprocess
import sys
from dataclasses import dataclass, field

import pytest
import torch

from huiyan.core.config import Config
from huiyan.core.devices import pick_device, resolve_precision
from huiyan.core.errors import ConfigError, HuiyanError, MissingExtraError, ShapeError, UsageError, closest
from huiyan.core.packed import Packed
from huiyan.core.seeds import derive_seed


def test_an_error_reads_as_message_and_hint() -> None:
    error = ConfigError("That was wrong.", hint="Do this.")
    assert str(error) == "That was wrong. Do this."
    assert isinstance(error, UsageError) and isinstance(error, ValueError) and error.exit_status == 2
    assert HuiyanError("x").exit_status == 1


def test_a_missing_extra_says_how_to_get_it() -> None:
    assert "pip install 'huiyan[excel]'" in str(MissingExtraError("Reading XLSX", extra="excel"))


def test_closest_names_one_or_lists_all() -> None:
    assert closest("Reveiw", ["review", "title"]) == "Did you mean 'review'?"
    assert closest("zzz", ["review", "title"]) == "Choose one of: review, title."
    assert closest("zzz", [f"column {n}" for n in range(14)]).endswith("and 2 more.")
    assert closest("zzz", []) == ""


@dataclass(frozen=True, kw_only=True)
class Inner(Config):
    size: int = 1


@dataclass(frozen=True, kw_only=True)
class Outer(Config):
    name: str
    names: tuple[str, ...] = ()
    inner: Inner = field(default_factory=Inner)


def test_configurations_read_back_what_they_wrote() -> None:
    config = Outer(name="x", names=("a", "b"), inner=Inner(size=3))
    assert Outer.from_dict(config.to_dict() | {"names": ["a", "b"]}) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nmae": "x"}, r"Outer has no key 'nmae'. Did you mean 'name'\?"),
        ({}, "Outer needs the key 'name', and it is not there."),
        ({"name": "x", "inner": {"sise": 2}}, r"Inner has no key 'sise'. Did you mean 'size'\?"),
        ({"name": "x", "inner": 3}, "Outer.inner must be a mapping of keys to values. Got 3 instead."),
    ],
)
def test_configurations_refuse_what_they_do_not_know(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Outer.from_dict(values)


def test_seeds_differ_by_name_and_not_by_process() -> None:
    assert derive_seed(1, "order", 2) != derive_seed(1, "order", 3) != derive_seed(2, "order", 3)
    program = "from huiyan.core.seeds import derive_seed; print(derive_seed(1, 'order', 2))"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert int(shown) == derive_seed(1, "order", 2) < 2**63


def test_packed_knows_where_everything_is() -> None:
    packed = Packed.from_lists([[5, 6, 7], [], [8, 9]])
    assert len(packed) == 3
    assert packed.tokens.tolist() == [5, 6, 7, 8, 9]
    assert packed.positions().tolist() == [0, 1, 2, 0, 1]
    assert packed.sequence_ids().tolist() == [0, 0, 0, 2, 2]
    assert Packed.from_lists([[5, 6, 7], [8, 9]]).first_tokens().tolist() == [0, 3]


def test_packed_refuses_lengths_that_do_not_add_up() -> None:
    with pytest.raises(ShapeError, match="add up to its 3 tokens. Got lengths that add up to 4"):
        Packed(torch.arange(3), torch.tensor([2, 2]))
    with pytest.raises(ShapeError, match=r"Got shapes \(1, 3\) and \(1,\)"):
        Packed(torch.zeros(1, 3), torch.tensor([3]))


@pytest.mark.parametrize(
    ("rank", "name", "wanted"), [(None, "auto", "cuda"), ("1", "auto", "cuda:1"), ("1", "cuda", "cuda:1")]
)
def test_each_process_has_a_gpu_of_its_own(
    rank: str | None, name: str, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert pick_device(name) == torch.device(wanted)


def test_devices_and_precisions_that_cannot_be_are_refused() -> None:
    assert pick_device("cpu").type == "cpu"
    with pytest.raises(ConfigError, match="There is no device 'gpu'. Choose cpu, cuda, cuda:N or mps"):
        pick_device("gpu")
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        resolve_precision("fp16", torch.device("cpu"))
    with pytest.raises(ConfigError, match="Got 'int4' instead"):
        resolve_precision("int4", torch.device("cpu"))
    assert resolve_precision("auto", torch.device("cpu")) in ("bf16", "fp32")
    assert resolve_precision("bf16", torch.device("cpu")) == "bf16"
