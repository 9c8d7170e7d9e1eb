"""The memory that `attention.plan` foresees beside the memory that `attend` takes; they must be within 25 %.

Run: python benchmarks/plan_memory.py [--json benchmarks/results/plan_memory.json] [--device cuda]

Each cell runs in a fresh process: once at 64 tokens, so that the library's own start is not counted; then the inputs
are made, and the peak resident memory is counted from there (VmHWM, reset before; on CUDA torch's own count). With
training a gradient of the output, made before, goes through `torch.autograd.grad`.
"""

import argparse
import gc
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from huiyan.attention import Causal, Where, Window, attend, plan
from huiyan.attention.positions.rotary import Rotary
from huiyan.attention.positions.shaw import ShawRelative
from huiyan.attention.positions.t5 import T5Bias
from huiyan.attention.positions.xl import XLRelative
from huiyan.core.devices import describe_machine

HEADS, HEAD_WIDTH, WITHIN = 8, 64, 0.25
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
MAKE: dict[str, Callable[[], dict[str, Any]]] = {
    "plain": dict,
    "causal": lambda: {"mask": Causal()},
    "window": lambda: {"mask": Window(64, 64)},
    "where": lambda: {"mask": Where(lambda row, column: (row + column) % 2 == 0)},
    "dropout": lambda: {"dropout": 0.1},
    "cap": lambda: {"soft_cap": 20.0},
    "rotary": lambda: {"position": Rotary(HEAD_WIDTH)},
    "t5": lambda: {"position": T5Bias(HEADS)},
    "shaw": lambda: {"position": ShawRelative(HEAD_WIDTH, max_distance=64)},
    "xl": lambda: {"position": XLRelative(HEADS * HEAD_WIDTH, HEADS)},
}
# What, dense or packed, precision, training, sequences, length, key heads.
CELLS: list[tuple[str, str, str, bool, list[int], int]] = [
    ("plain", "dense", "fp32", False, [512] * 320, 8),
    ("plain", "dense", "fp32", True, [512] * 64, 8),
    ("plain", "dense", "bf16", True, [512] * 64, 8),
    ("plain", "dense", "fp32", True, [512] * 96, 2),
    ("window", "dense", "fp32", True, [512] * 64, 8),
    ("rotary", "dense", "fp32", True, [512] * 64, 8),
    ("rotary", "dense", "bf16", False, [512] * 80, 8),
    ("dropout", "dense", "fp32", True, [512] * 64, 8),
    ("dropout", "dense", "bf16", True, [512] * 32, 8),
    ("t5", "dense", "fp32", True, [512] * 64, 8),
    ("cap", "dense", "fp32", True, [512] * 64, 4),
    ("xl", "dense", "fp32", True, [4096] * 4, 8),
    ("shaw", "dense", "fp32", True, [1024] * 32, 8),
    ("window", "dense", "fp32", False, [131072], 8),
    ("window", "dense", "fp32", True, [65536], 8),
    ("plain", "packed", "fp32", True, [512] * 64, 8),
    ("plain", "packed", "bf16", True, [512] * 64, 8),
    ("causal", "packed", "fp32", True, [256] * 40 + [512] * 40, 8),
    ("plain", "packed", "fp32", True, list(range(64, 320)), 8),
    ("t5", "packed", "fp32", False, [512] * 64, 8),
    ("cap", "packed", "fp32", True, [512] * 64, 8),
    ("dropout", "packed", "bf16", True, [512] * 40, 8),
    ("rotary", "packed", "fp32", True, [512] * 64, 8),
    ("where", "packed", "fp32", True, [256] * 96, 8),
]


def resident(key: str) -> int:
    """A line of this process' status, in bytes."""
    with Path("/proc/self/status").open(encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))


def run(what: dict[str, Any], lengths: list[int], *, packed: bool, dtype: torch.dtype, training: bool, n_kv: int, device: str) -> int:  # noqa: E501 # fmt: skip
    """Attend, and with training go back; gives the bytes this took at its peak beyond its inputs."""
    shape = (sum(lengths),) if packed else (len(lengths), lengths[0])
    heads = [torch.randn(*shape, n, HEAD_WIDTH, device=device).to(dtype) for n in (HEADS, n_kv, n_kv)]
    q, k, v = ((x if packed else x.transpose(1, 2).contiguous()).requires_grad_(training) for x in heads)
    del heads
    wanted = [q, k, v, *(what["position"].parameters() if "position" in what and training else ())]
    d_out = torch.randn(q.shape, device=device).to(dtype)
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = resident("VmRSS")
    with torch.set_grad_enabled(training):
        out = attend(q, k, v, lengths=torch.tensor(lengths) if packed else None, seed=0, **what)
        gradients = torch.autograd.grad(out, wanted, d_out) if training else ()
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else resident("VmHWM")
    del out, gradients
    return peak - before


def measure(cell: int, device: str) -> dict[str, Any]:
    """One cell, in this process."""
    name, layout, precision, training, lengths, n_kv = CELLS[cell]
    packed, dtype = layout == "packed", DTYPES[precision]
    torch.set_num_threads(1)
    small = [64, 65] if packed else [64]
    options: dict[str, Any] = {"packed": packed, "dtype": dtype, "training": training, "n_kv": n_kv, "device": device}
    run(_made(name, device), small, **options)
    what = _made(name, device)
    foreseen = plan(
        lengths,
        HEADS,
        HEAD_WIDTH,
        n_kv_heads=n_kv,
        device=device,
        precision=precision,
        training=training,
        packed=packed,
        **what,
    )
    measured = run(what, lengths, **options)
    return {
        "variant": name,
        "layout": layout,
        "kernel": foreseen.kernel,
        "precision": precision,
        "training": training,
        "sequences": len(lengths),
        "longest": max(lengths),
        "n_kv_heads": n_kv,
        "foreseen_mb": round(foreseen.peak_memory_bytes / 1e6, 1),
        "measured_mb": round(measured / 1e6, 1),
        "ratio": round(foreseen.peak_memory_bytes / measured, 3),
    }


def _made(name: str, device: str) -> dict[str, Any]:
    return {key: x.to(device) if isinstance(x, torch.nn.Module) else x for key, x in MAKE[name]().items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cell", type=int, help="measure this one in this process")
    parser.add_argument("--only", type=int, nargs="*", help="measure these alone")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.cell is not None:
        print(json.dumps(measure(arguments.cell, arguments.device)))
        return
    results: list[dict[str, Any]] = []
    for cell in arguments.only or range(len(CELLS)):
        words = [sys.executable, __file__, "--cell", str(cell), "--device", arguments.device]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        results.append(found)
        print(
            f"{cell:2} {found['variant']:9}{found['layout']:7}{found['kernel']:10}{found['precision']:5}"
            f"{'training' if found['training'] else 'forward':9}{found['sequences']:4} × {found['longest']:7,}"
            f"{found['foreseen_mb']:9.1f}{found['measured_mb']:9.1f}{found['ratio']:7.3f}",
            flush=True,
        )
    worst = max(abs(found["ratio"] - 1) for found in results if found["measured_mb"] > 256)
    print(f"largest deviation above 256 MB: {worst:.1%}")
    if arguments.json:
        described = {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": describe_machine(torch.device(arguments.device)),
            "largest_deviation": round(worst, 4),
            "results": results,
        }
        arguments.json.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    if worst > WITHIN:
        sys.exit(f"more than {WITHIN:.0%}")


if __name__ == "__main__":
    main()
