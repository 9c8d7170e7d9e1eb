"""Time and peak memory of attention, ours and the peers', over sequence length: `docs/attention-benchmarks.md`.

Run: python benchmarks/attention.py [--peers PYTHON] [--json benchmarks/results/attention.json]
     python benchmarks/attention.py --table docs/attention-benchmarks.md --figure docs/images/attention-benchmarks.svg

Allow half an hour on two quiet cores; `--plan` says what it would measure. The table can be made in several
sittings: `--only t5 --append` measures one variant anew and keeps the rest. `--quick` stops at 2,048 tokens.

x-transformers is a peer with an environment of its own (`--peers`, or the variable HUIYAN_PEERS); without it its rows
are left out, and `--append` drops those of what it measures anew. Two commands make one; torch must be of the version
that this environment has:

    python -m venv .venv-peers
    .venv-peers/bin/pip install torch==2.13.0 x-transformers==2.31.10

Method. A cell is an engine, a variant, a dtype, a mode (`forward` without gradients, or `both`: forward and backward)
and a length n, with one sequence and 8 heads × 64. It runs in a fresh process: the engine runs once at 64 tokens, so
that the library's own start is not counted; then the inputs are made and the resident memory is read; then the cell
runs, with a warm-up and repetitions where one run takes under a second, and once where it takes longer. Its time is the
median, its memory the peak above what was resident before (output, gradients and workspace; not the inputs). Engines
take turns, in another order each round, and a ratio is the median over the rounds of ratios within a round.

Cells of engines with n² tensors are run up to 4,096 tokens (SDPA's learned bias and dropout to 8,192), and none above
`--max-gb` or `--max-cell-s`; what is longer is extrapolated by the law of the engine (a factor of 4 in time for twice
the length, and in memory where it holds n² numbers) from the longest that ran, and marked ≈.
"""

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attention_report as report
import torch
from attention_cells import DTYPES, REPEAT_S, Cell, Planned, ceilings, flops, foretell, measure, plan, traffic
from attention_engines import DROPOUT, HEAD_WIDTH, HEADS, MODULES, SIDE, VARIANTS, disagreement, takes

Results = dict[tuple[Any, ...], dict[str, Any]]


def agreement(engines: list[str], device: str, kernel: str) -> list[dict[str, Any]]:
    """How far each engine is from the formula in float64, at 300 tokens: evidence that the rows compute the same."""
    rows = []
    for engine in engines:
        for variant in VARIANTS:
            if variant != "dropout" and takes(engine, variant):
                for name in DTYPES:
                    named = {"engine": engine, "variant": variant, "dtype": name}
                    rows.append({**named, **_error(engine, variant, name, device, kernel)})
    return rows


def _error(engine: str, variant: str, dtype: str, device: str, kernel: str) -> dict[str, Any]:
    try:
        error = disagreement(engine, variant, DTYPES[dtype], device=device, kernel=kernel)
    except Exception as failure:
        return {"error": None, "why": f"{type(failure).__name__}: {failure}"}
    return {"error": float(f"{error:.2e}")}


def in_a_process(work: dict[str, Any], *, python: str, threads: int, limit_s: float | None = None) -> Any:
    """What this script gives for one piece of work in a fresh process; a dict with `failed` where it gives nothing."""
    command = [python, __file__, "--work", json.dumps(work)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"more than {limit_s:.0f} s"}
    if ended.returncode:
        last = ended.stderr.strip().splitlines()[-1:] or ["no message"]
        return {"failed": f"ended with {ended.returncode}: {last[0][:300]}"}
    return json.loads(ended.stdout.splitlines()[-1])


def work(given: dict[str, Any]) -> Any:
    """The pieces of work a process is started for."""
    if "cell" in given:
        return measure(Cell(**given["cell"]))
    if "agreement" in given:
        return agreement(**given["agreement"])
    return ceilings(**given["ceilings"])


def measure_group(group: list[Planned], results: Results, arguments: argparse.Namespace) -> None:
    """Run a group's cells in turns and put them into the results."""
    runs: dict[str, list[dict[str, Any]]] = {one.cell.engine: [] for one in group}
    foretold = {one.cell.engine: foretell(one.cell, results) for one in group}
    fits = {
        one.cell.engine: one.measured
        and foretold[one.cell.engine]["seconds"] <= arguments.max_cell_s
        and foretold[one.cell.engine]["extra_bytes"] <= arguments.max_gb * 1e9
        for one in group
    }
    for turn in range(max(one.rounds for one in group)):
        for one in group[turn % len(group) :] + group[: turn % len(group)]:
            engine = one.cell.engine
            failed = any("failed" in run for run in runs[engine])
            if turn < one.rounds and fits[engine] and not failed:
                python = arguments.peers if engine == "x-transformers" else sys.executable
                limit = 60 + 4 * arguments.max_cell_s
                run = in_a_process({"cell": asdict(one.cell)}, python=python, threads=arguments.threads, limit_s=limit)
                runs[engine].append({"round": turn, **run})
    for one in group:
        record = summarise(one.cell, runs[one.cell.engine], foretold[one.cell.engine])
        results[one.cell.key] = record
        print(report.line(record), flush=True)


def summarise(cell: Cell, runs: list[dict[str, Any]], foretold: dict[str, Any]) -> dict[str, Any]:
    """The record of a cell as the JSON file keeps it."""
    named = {"engine": cell.engine, "variant": cell.variant, "dtype": cell.dtype, "mode": cell.mode, "n": cell.n}
    failure = next((run["failed"] for run in runs if "failed" in run), None)
    if failure is not None:
        return {**named, "how": "failed", "why": failure}
    model = {"gflop": round(flops(cell) / 1e9, 3), "traffic_mb": round(traffic(cell) / 1e6, 1)}
    if not runs:
        if foretold["from_n"] is None:
            return {**named, "how": "left out"}
        return {**named, "how": "extrapolated", **foretold, **model}
    middle = {name: statistics.median(run[name] for run in runs) for name in ("seconds", "extra_bytes", "peak_bytes")}
    speed = {"gflops": round(model["gflop"] / middle["seconds"], 1)}
    return {**named, "how": "measured", **middle, **model, **speed, "runs": runs}


def describe(arguments: argparse.Namespace) -> dict[str, Any]:
    from huiyan.core.devices import describe_machine

    torch.set_num_threads(arguments.threads)
    versions = {"huiyan": importlib.metadata.version("huiyan"), "torch": torch.__version__}
    if "x-transformers" in arguments.engines:
        ask = "from importlib.metadata import version as v; print(v('x-transformers'), v('torch'))"
        said = subprocess.run([arguments.peers, "-c", ask], check=True, capture_output=True, text=True).stdout.split()
        if said[1].partition("+")[0] != torch.__version__.partition("+")[0]:
            raise SystemExit(f"The peers' environment has torch {said[1]}, this one {torch.__version__}.")
        versions["x-transformers"] = said[0]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": describe_machine(torch.device(arguments.device)),
        "versions": versions,
        "settings": {
            "heads": HEADS,
            "head_width": HEAD_WIDTH,
            "sequences": 1,
            "threads": arguments.threads,
            "dropout": DROPOUT,
            "window": [SIDE, SIDE],
            "kernel": arguments.kernel,
        },
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--n", type=int, nargs="+", help="these lengths, with every engine, instead of the table's")
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--quick", action="store_true", help="up to 2,048 tokens")
    parser.add_argument("--rounds", type=int, default=3, help="of the cells that decide a claim; others run once")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--kernel", help="of ours: blockwise on a CPU, auto on a GPU")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--max-gb", type=float, help="extrapolate above: 12, and 64 on a GPU")
    parser.add_argument("--max-cell-s", type=float, default=240.0)
    parser.add_argument("--peers", default=os.environ.get("HUIYAN_PEERS"), help="a python that has x-transformers")
    parser.add_argument("--json", type=Path, help="results/attention.json, and attention.cuda.json")
    parser.add_argument("--append", action="store_true", help="keep the cells that the file has and this run does not")
    parser.add_argument("--plan", action="store_true", help="say what would be measured, and stop")
    parser.add_argument("--table", type=Path, help="write the tables into this page from the file; nothing is measured")
    parser.add_argument("--figure", type=Path, help="draw the file; nothing is measured")
    arguments = parser.parse_args()
    arguments.kernel = arguments.kernel or ("blockwise" if arguments.device == "cpu" else "auto")
    arguments.max_gb = arguments.max_gb or (12.0 if arguments.device == "cpu" else 64.0)
    name = "attention.json" if arguments.device == "cpu" else f"attention.{arguments.device}.json"
    arguments.json = arguments.json or Path(__file__).parent / "results" / name
    arguments.engines = ["huiyan", "sdpa", "oracle", *MODULES]
    if arguments.device == "cuda":
        arguments.engines.insert(2, "flex")
    if arguments.peers:
        arguments.engines.insert(2, "x-transformers")
    return arguments


def main() -> None:
    arguments = parse()
    if arguments.work:
        print(json.dumps(work(arguments.work)))
    elif arguments.table or arguments.figure:
        report.write(json.loads(arguments.json.read_text(encoding="utf-8")), arguments.table, arguments.figure)
    elif arguments.plan:
        say_plan(arguments)
    else:
        run(arguments)


def say_plan(arguments: argparse.Namespace) -> None:
    """Every group with the rounds of its engines, and a guess at what all cost."""
    seconds, processes = 0.0, 0
    for group in plan(arguments):
        print(*group[0].cell.group, *(f"{one.cell.engine}×{one.rounds * one.measured}" for one in group))
        for one in group:
            alone = flops(one.cell) / 100e9
            processes += one.rounds * one.measured
            seconds += one.rounds * one.measured * (2.3 + (alone if alone > REPEAT_S else alone + REPEAT_S))
    print(f"{processes} processes, about {seconds / 60:.0f} minutes at 100 GFLOP/s")


def run(arguments: argparse.Namespace) -> None:
    """Measure what is planned, and write the file after every group."""
    described = describe(arguments)
    own = [engine for engine in arguments.engines if engine != "x-transformers"]
    ask = {"device": arguments.device}
    tell = {"threads": arguments.threads}
    described["ceilings"] = in_a_process({"ceilings": ask | tell}, python=sys.executable, **tell)
    described["agreement"] = []
    for engines, python in ((own, sys.executable), (["x-transformers"], arguments.peers)):
        if python and set(engines) <= set(arguments.engines):
            told = {"agreement": {"engines": engines, "kernel": arguments.kernel} | ask}
            found = in_a_process(told, python=python, **tell)
            if isinstance(found, dict):
                raise SystemExit(f"{', '.join(engines)}: {found['failed']}")
            described["agreement"] += found
    results: Results = {}
    claims: list[dict[str, Any]] = []
    if arguments.append and arguments.json.exists():
        earlier = json.loads(arguments.json.read_text(encoding="utf-8"))
        results = {tuple(one[name] for name in report.KEY): one for one in earlier["cells"]}
        described["versions"] = earlier["versions"] | described["versions"]
        described["agreement"] += [one for one in earlier["agreement"] if one["engine"] not in arguments.engines]
    for group in plan(arguments):
        # A ratio is of one sitting: the old cells of a group go, all of them.
        for key in [key for key in results if key[1:] == group[0].cell.group]:
            del results[key]
        measure_group(group, results, arguments)
        cells = sorted(results.values(), key=report.order)
        claims = report.claims(cells, described["agreement"], arguments.device)
        arguments.json.parent.mkdir(exist_ok=True)
        arguments.json.write_text(
            json.dumps({**described, "claims": claims, "cells": cells}, indent=1) + "\n", encoding="utf-8"
        )
    for claim in claims:
        print(report.claim_line(claim))


if __name__ == "__main__":
    main()
