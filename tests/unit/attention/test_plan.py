"""A plan says what attend does, and foresees the memory it takes."""

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from huiyan.attention import Causal, Keys, Plan, Where, Window, attend, functional, plan
from huiyan.attention.footprint import Call, footprint
from huiyan.attention.positions.alibi import Alibi
from huiyan.attention.positions.disentangled import Disentangled, RelativeEmbeddings
from huiyan.attention.positions.rotary import Rotary
from huiyan.attention.positions.t5 import T5Bias
from huiyan.attention.positions.xl import XLBiases, XLRelative
from huiyan.core.errors import ConfigError

MASKS: dict[str, Any] = {
    "none": None,
    "causal": Causal(),
    "window": Window(8, 8),
    "keys": Keys(torch.ones(1, 96, dtype=torch.bool)),
    "where": Where(lambda row, column: column <= row),
}
POSITIONS: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "rotary": lambda: Rotary(8),
    "alibi": lambda: Alibi(2),
    "t5": lambda: T5Bias(2),
    "xl": lambda: XLRelative(16, 2),
}
EXTRA: dict[str, dict[str, Any]] = {"plain": {}, "dropout": {"dropout": 0.1}, "cap": {"soft_cap": 5.0}, "sinks": {"sinks": True}}  # noqa: E501 # fmt: skip


def taken(monkeypatch: pytest.MonkeyPatch, n: int, *, packed: bool, variants: dict[str, Any]) -> str:
    """The name of the kernel that attend takes for one sequence of ``n`` tokens."""
    seen: list[str] = []
    for table in (functional._DENSE, functional._PACKED):
        for name, kernel in table.items():

            def noted(*arguments: Any, _name: str = name, _kernel: Any = kernel, **options: Any) -> Any:
                seen.append(_name)
                return _kernel(*arguments, **options)

            monkeypatch.setitem(table, name, noted)
    given = variants | {"sinks": torch.zeros(2)} if "sinks" in variants else variants
    x = torch.randn((n, 2, 8) if packed else (1, 2, n, 8))
    attend(x, x, x, lengths=torch.tensor([n]) if packed else None, **given)
    monkeypatch.undo()
    return seen[0]


@pytest.mark.parametrize("packed", [False, True], ids=["dense", "packed"])
@pytest.mark.parametrize("extra", EXTRA)
def test_the_kernel_is_the_one_that_attend_takes(monkeypatch: pytest.MonkeyPatch, extra: str, *, packed: bool) -> None:
    kernels: set[str] = set()
    for (name, mask), position in itertools.product(MASKS.items(), POSITIONS.values()):
        if packed and name == "keys":  # a mask of padded batches
            continue
        variants = {"mask": mask, "position": position(), **EXTRA[extra]}
        foreseen = plan(96, 2, 8, packed=packed, **variants)
        assert foreseen.kernel == taken(monkeypatch, 96, packed=packed, variants=variants), variants
        kernels.add(foreseen.kernel)
    assert kernels == ({"packed"} if packed else {"sdpa", "blockwise"} if extra == "plain" else {"blockwise"})


def test_a_mask_over_a_long_sequence_changes_the_kernel_and_the_reason() -> None:
    short, long = (plan(n, 2, 8, mask=Window(8, 8)) for n in (1024, 4096))
    assert (short.kernel, short.block) == ("sdpa", None)
    assert (long.kernel, long.block) == ("blockwise", (64, 64))
    assert "long sequence" in long.reasons[0]


def test_a_plan_repeats_while_memory_is_taken() -> None:
    before = plan([128] * 4, 2, 8, training=True)
    held = torch.ones(50_000_000)
    assert plan([128] * 4, 2, 8, training=True) == before
    assert held.sum() == 50_000_000


def test_arithmetic_of_the_plain_formula() -> None:
    found = plan(100, 2, 8, training=True)
    assert found.flops == (4 * 8 * 2 * 100 * 100, 10 * 8 * 2 * 100 * 100)
    assert plan(100, 2, 8).flops.backward == 0
    assert plan(100, 2, 8, mask=Causal()).flops.forward == 4 * 8 * 2 * 100 * 101 // 2
    assert plan([100, 50], 2, 8).flops.forward == 4 * 8 * 2 * (100**2 + 50**2)


def test_a_window_counts_the_blocks_it_sees() -> None:
    n = 8192
    found = plan(n, 2, 8, mask=Window(64, 64))
    assert 130 * n < found.flops.forward / (4 * 8 * 2) < 4 * 256 * n


def test_bytes_of_inputs_map_and_traffic() -> None:
    found = plan(100, 4, 8, n_kv_heads=2)
    q, kv = 100 * 4 * 8 * 4, 100 * 2 * 8 * 4
    assert (found.inputs_bytes, found.moved_bytes) == (q + 2 * kv, 2 * q + 2 * kv)
    assert found.map_bytes == 4 * 100 * 100 * 4
    assert plan(100, 4, 8, precision="bf16").inputs_bytes == 3 * q // 2


def test_memory_grows_with_the_length_and_not_with_its_square() -> None:
    short, long = (plan(n, 8, 64, training=True, position=T5Bias(8)) for n in (16_384, 65_536))
    assert long.peak_memory_bytes < 4.2 * short.peak_memory_bytes
    assert long.map_bytes == 16 * short.map_bytes


def test_tables_of_a_position_are_not_made_to_be_counted() -> None:
    found = plan(1 << 20, 8, 64, position=XLRelative(512, 8))
    tables = 2 * (1 << 21) * 8 * 64 * 4
    assert found.peak_memory_bytes > tables / 2


@pytest.mark.parametrize(
    ("own", "borrows"),
    [
        (lambda: XLRelative(512, 8), lambda: XLRelative(512, 8, biases=XLBiases(8, 64))),
        (
            lambda: Disentangled(512, 8, max_relative_positions=16),
            lambda: Disentangled(
                512,
                8,
                max_relative_positions=16,
                embeddings=RelativeEmbeddings(32, 512, norm=nn.LayerNorm(512)),
                key=nn.Linear(512, 512),
                query=nn.Linear(512, 512),
            ),
        ),
    ],
    ids=["xl", "disentangled"],
)
def test_parts_of_a_position_may_be_borrowed_and_are_not_copied(
    own: Callable[[], Any], borrows: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    position = borrows()
    before = {name: value.data_ptr() for name, value in position.state_dict(keep_vars=True).items()}
    monkeypatch.setattr(nn.Parameter, "__deepcopy__", lambda *_: pytest.fail("a parameter was copied"))
    assert plan(512, 8, 64, position=position) == plan(512, 8, 64, position=own())
    assert {name: value.data_ptr() for name, value in position.state_dict(keep_vars=True).items()} == before


def test_what_fits_is_judged_by_the_memory_given_and_advice_is_true() -> None:
    need = plan([512] * 8, 8, 64, training=True, memory_bytes=1 << 40)
    assert need.fits and need.advice == ()
    exact = need.inputs_bytes + need.peak_memory_bytes
    assert plan([512] * 8, 8, 64, training=True, memory_bytes=exact).fits
    short = plan([512] * 8, 8, 64, training=True, memory_bytes=exact - 1)
    assert not short.fits
    assert short.advice[0].startswith("Take fewer sequences at a time: 4 of these 8 take ")
    assert plan([512] * 4, 8, 64, training=True, memory_bytes=exact - 1).fits
    long = plan(65_536, 8, 64, memory_bytes=300_000_000)
    assert any("one of 32,768 tokens fits" in said for said in long.advice)
    assert any("not the memory" in said for said in long.advice)


def test_a_device_that_is_not_here_needs_its_memory_and_precision() -> None:
    found = plan(4096, 8, 64, device="cuda", memory_bytes=1 << 36, precision="bf16", position=T5Bias(8))
    assert found.kernel == "flex"
    assert any("CPUs only" in reason for reason in found.reasons)
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="not on this machine.*memory_bytes"):
            plan(4096, 8, 64, device="cuda")
        with pytest.raises(ConfigError, match="auto means hangs on the GPU"):
            plan(4096, 8, 64, device="cuda", memory_bytes=1 << 36, precision="auto")


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((0, 8, 64), {}, "The lengths option must be one or more, each at least 1"),
        (([], 8, 64), {}, "The lengths option must be one or more"),
        ((8, 0, 64), {}, "The n_heads option must be at least 1"),
        ((8, 8, 0), {}, "The head_width option must be at least 1"),
        ((8, 8, 64), {"n_kv_heads": 3}, "The n_kv_heads option must be a divisor of n_heads, 8"),
        ((8, 8, 64), {"memory_bytes": 0}, "The memory_bytes option must be above 0"),
        (([8, 9], 8, 64), {"packed": False}, "equal in a dense batch"),
        ((8, 8, 64), {"maks": Causal()}, "plan has no option 'maks'. Did you mean 'mask'"),
        ((8, 8, 64), {"mask": Causal}, r"mask option must be a mask, or None. Got the class Causal. Call it"),
        ((8, 8, 64), {"position": "t5"}, "The position option must be Rotary"),
        ((8, 8, 64), {"precision": "fp64"}, "The precision option must be auto"),
        ((8, 8, 64), {"dropout": 1.0}, "The dropout option must be"),
    ],
)
def test_what_is_wrong_is_said(arguments: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(*arguments, **options)


def test_a_plan_is_a_value() -> None:
    assert isinstance(plan(8, 2, 8), Plan)
    assert hash(plan(8, 2, 8)) == hash(plan(8, 2, 8))


def test_training_keeps_what_the_backward_pass_needs() -> None:
    from huiyan.attention.scoring import Scoring

    call = Call(
        runs=((4, 128),), n_heads=2, n_kv_heads=2, head_width=8, scoring=Scoring(scale=1.0), kernel="sdpa",
        number_bytes=4, training=True, device="cpu",
    )  # fmt: skip
    q = 4 * 128 * 2 * 8 * 4
    lse = 4 * 128 * 2 * 4
    assert footprint(call) == (q + lse, q + lse, 5 * q + lse)
    assert footprint(replace(call, training=False)).peak == q + lse


MEASURE = """
import json, sys, torch
sys.path.insert(0, "benchmarks")
import plan_memory
plan_memory.CELLS = [tuple(json.loads(sys.argv[1]))]
print(json.dumps(plan_memory.measure(0, "cpu")))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is read from /proc")
@pytest.mark.parametrize(
    "cell",
    [
        ["plain", "dense", "fp32", True, [256] * 128, 8],
        ["dropout", "dense", "fp32", True, [128] * 192, 8],
        ["plain", "packed", "bf16", True, [128] * 144, 8],
    ],
    ids=["sdpa", "blockwise", "packed"],
)
def test_memory_foreseen_is_memory_taken(cell: list[Any]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, json.dumps(cell)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["measured_mb"] > 256
    assert abs(found["ratio"] - 1) < 0.25, found
