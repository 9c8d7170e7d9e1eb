"""The cells of `attention.py`: what the table has, how much arithmetic each is, and how one process measures one."""

import argparse
import contextlib
import ctypes
import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from attention_engines import (
    FLASH,
    HEAD_WIDTH,
    HEADS,
    MODULES,
    SIDE,
    Problem,
    build,
    is_quadratic,
    takes,
)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
MODES = ("forward", "both")
SIZES = (512, 1024, 4096, 8192, 16384, 32768)
REPEAT_S = 1.0  # how long a cell repeats itself
GUESSED_FLOPS = 50e9  # to foretell a cell before anything has run


@dataclass(frozen=True)
class Cell:
    """What one process measures."""

    engine: str
    variant: str
    dtype: str
    mode: str
    n: int
    device: str = "cpu"
    kernel: str = "blockwise"
    threads: int = 2

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """What no two cells of a table share."""
        return self.engine, self.variant, self.dtype, self.mode, self.n

    @property
    def group(self) -> tuple[str, str, str, int]:
        """Cells of one group are held against each other, so they are measured together."""
        return self.key[1:]


@dataclass(frozen=True)
class Planned:
    """A cell, how many rounds it runs, and whether it is measured at all or only extrapolated."""

    cell: Cell
    rounds: int = 1
    measured: bool = True


def plan(arguments: argparse.Namespace) -> Iterator[list[Planned]]:
    """The groups of the table, short ones first, so that longer ones can be foretold."""
    sizes = arguments.n or [n for n in SIZES if not arguments.quick or n <= 2048]
    for n in sizes:
        for dtype in arguments.dtype:
            for variant in arguments.only:
                for mode in MODES:
                    group = [
                        Planned(
                            Cell(
                                engine, variant, dtype, mode, n, arguments.device, arguments.kernel, arguments.threads
                            ),
                            rounds=arguments.rounds if _decides_a_claim(engine, variant, dtype, n) else 1,
                            measured=bool(arguments.n)
                            or n <= longest_measured(engine, variant, mode, arguments.device),
                        )
                        for engine in arguments.engines
                        if takes(engine, variant) and _belongs(engine, variant, dtype, mode, n, bool(arguments.n))
                    ]
                    if group:
                        yield group


def _decides_a_claim(engine: str, variant: str, dtype: str, n: int) -> bool:
    against = ("huiyan", "sdpa", "flex")
    return engine in against and variant in (*FLASH, "dropout", "t5") and n in (1024, 4096) and dtype == "fp32"


def _belongs(engine: str, variant: str, dtype: str, mode: str, n: int, asked: bool) -> bool:
    """Whether the default table has the cell; `--n` asks for a length in full."""
    if asked:
        return True
    if engine in MODULES and (n not in (1024, 4096) or variant == "causal"):
        return False
    if engine == "oracle" and n > 1024:
        return False
    if engine == "x-transformers" and n not in (1024, 4096):
        return False
    if n > 8192 and mode == "forward" and variant not in ("plain", "t5", "window"):
        return False
    if n > 16384 and (mode == "forward" or variant not in ("plain", "t5", "window")):
        return False
    if dtype == "bf16":
        chosen = n in (1024, 4096) or (n == 16384 and mode == "both" and variant == "plain")
        return chosen and variant in (*FLASH, "t5", "dropout") and engine in ("huiyan", "sdpa", "flex")
    return True


def longest_measured(engine: str, variant: str, mode: str, device: str) -> int:
    if not is_quadratic(engine, variant) or device != "cpu":
        return 1 << 20
    return 8192 if engine == "sdpa" and variant in ("t5", "dropout") and mode == "both" else 4096


def flops(cell: Cell) -> float:
    """Arithmetic that the formula needs: 4 · pairs · d a head forward, and 2.5 times that more backward.

    Source: Dao 2023 (FlashAttention-2), section 4.1. XL's second product with the keys counts half as much again.
    """
    pairs = {"causal": cell.n * (cell.n + 1) / 2, "window": cell.n * min(cell.n, 2 * SIDE + 1)}
    forward = 4 * pairs.get(cell.variant, cell.n**2) * HEAD_WIDTH * HEADS * (1.5 if cell.variant == "xl" else 1)
    projections = 8 * cell.n * (HEADS * HEAD_WIDTH) ** 2 if cell.engine in MODULES else 0
    return forward * (3.5 if cell.mode == "both" else 1) + projections * (3 if cell.mode == "both" else 1)


def traffic(cell: Cell) -> float:
    """Bytes that must pass through memory at least: inputs, outputs and gradients once, n² tensors four times."""
    size = DTYPES[cell.dtype].itemsize
    linear = (12 if cell.mode == "both" else 4) * cell.n * HEADS * HEAD_WIDTH * size
    scores = (8 if cell.mode == "both" else 4) * HEADS * cell.n**2 * size
    return linear + (scores if is_quadratic(cell.engine, cell.variant) else 0)


def foretell(cell: Cell, results: Mapping[tuple[Any, ...], dict[str, Any]]) -> dict[str, Any]:
    """Seconds and bytes of a cell from the longest shorter one that ran, or from the arithmetic where none did."""
    shorter = [
        one
        for key, one in results.items()
        if key[:4] == cell.key[:4] and one["how"] == "measured" and one["n"] < cell.n
    ]
    quadratic = is_quadratic(cell.engine, cell.variant)
    if not shorter:
        scores = 4 * HEADS * cell.n**2 * DTYPES[cell.dtype].itemsize
        return {"seconds": flops(cell) / GUESSED_FLOPS, "extra_bytes": scores if quadratic else 0, "from_n": None}
    last = max(shorter, key=lambda one: one["n"])
    times = cell.n / last["n"]
    windowed = cell.variant == "window" and not quadratic
    return {
        "seconds": last["seconds"] * (times if windowed else times**2),
        "extra_bytes": last["extra_bytes"] * (times**2 if quadratic else times),
        "from_n": last["n"],
    }


def measure(cell: Cell) -> dict[str, Any]:
    """Seconds and bytes of a cell, in the process that calls this."""
    torch.set_num_threads(cell.threads)
    _step(cell, 64)()
    run = _step(cell, cell.n)
    before = _start_of_peak(cell.device)
    seconds = [_timed(run, cell.device)]
    if cell.device != "cpu" or seconds[0] < REPEAT_S:  # a GPU compiles in its first run
        seconds = [_timed(run, cell.device)]
        for _ in range(min(99, int(REPEAT_S / max(seconds[0], 1e-6)))):
            seconds.append(_timed(run, cell.device))
    peak = torch.cuda.max_memory_allocated() if cell.device != "cpu" else _status("VmHWM")
    return {
        "seconds": statistics.median(seconds),
        "repetitions": len(seconds),
        "extra_bytes": max(peak - before, 0),
        "peak_bytes": peak,
    }


def _step(cell: Cell, n: int) -> Callable[[], None]:
    """One run of a cell: a forward without gradients, or a forward and a backward from gradients at hand."""
    both = cell.mode == "both"
    problem = Problem(cell.variant, n, DTYPES[cell.dtype], cell.device, gradients=both, kernel=cell.kernel)
    run, leaves = build(cell.engine, problem)
    shape = (1, n, HEADS * HEAD_WIDTH) if cell.engine in MODULES else (1, HEADS, n, HEAD_WIDTH)
    above = torch.randn(shape).to(cell.device, DTYPES[cell.dtype]) if both else None

    def step() -> None:
        for leaf in leaves:
            leaf.grad = None
        with torch.set_grad_enabled(both):
            out = run()
            if above is not None:
                out.backward(above)

    return step


def _timed(run: Callable[[], object], device: str) -> float:
    began = time.perf_counter()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _start_of_peak(device: str) -> int:
    """Forget the peak so far; gives what is held now."""
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc alone has it
        # What set-up has freed would be used again without the peak showing it.
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        if _status("VmHWM") > 1.01 * _status("VmRSS"):
            print("The peak of this process cannot be reset: small cells read too low.", file=sys.stderr)
    return _status("VmRSS")


def _status(name: str) -> int:
    """A line of /proc/self/status in bytes; Linux only, as the CPU's figures are."""
    with Path("/proc/self/status").open(encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))


def ceilings(device: str, threads: int) -> dict[str, float]:
    """What the machine can do: GFLOP/s of a 2,048³ product, and GB/s of a copy. The best of eight."""
    torch.set_num_threads(threads)
    side = 2048 if device == "cpu" else 8192
    found = {}
    for name, dtype in DTYPES.items():
        left, right = (torch.randn(side, side).to(device, dtype) for _ in range(2))
        run = lambda left=left, right=right: torch.mm(left, right)  # noqa: E731
        found[f"gemm_{name}_gflops"] = 2e-9 * side**3 / min(_timed(run, device) for _ in range(9))
    source = torch.ones(64 << 20, device=device)
    target = torch.empty_like(source)
    copied = 2e-9 * source.nbytes
    found["copy_gb_s"] = copied / min(_timed(lambda: target.copy_(source), device) for _ in range(9))
    return {name: round(value, 1) for name, value in found.items()}
