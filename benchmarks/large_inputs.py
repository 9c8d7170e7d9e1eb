"""Large tables and long texts: do memory and time grow as they must, and no faster? `docs/performance.md`.

Run: python benchmarks/large_inputs.py [--only table read check long] [--rows 50000] [--json FILE] [--resume]

- table: `huiyan predict --file` with a tiny model (2 × 128, weights from a seed), so that everything beside the model
  shows. Rows a second, the share of both cores' time that is used from the first answer on, and the resident memory at
  a tenth, half and the whole of the way. `--rows 1000000` is the published run; allow seven minutes.
- read: reading and splitting a table of 1,000,000 labelled rows (`--read-rows`), as `huiyan train` does.
- check: `huiyan check --skip-doubts` on the same table.
- long: one text of 8,192 tokens and a hundred short ones (16 to 64 tokens), in one go, by a 6 × 384 encoder with 8,192
  positions: the time of the batch beside the sum of the times of its parts, and beside the FLOPs. What padding all of
  it to the longest would compute is counted, not run: 827,392 tokens.

Each part runs in a process of its own with two threads.
"""

import argparse
import json
import os
import random
import resource
import statistics
import string
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from huiyan import __version__
from huiyan.core.decision import Decision
from huiyan.core.devices import describe_machine
from huiyan.models.config import ClassifierConfig, HeadConfig, TransformerConfig
from huiyan.models.fresh import fresh_classifier
from huiyan.models.inference import for_inference
from huiyan.models.sources import find_model
from huiyan.tasks.artifact import Artifact
from huiyan.tasks.logits import logits_of
from huiyan.tasks.manifest import Manifest
from huiyan.text.tokenise import Tokenizer
from huiyan.workflows import predict as predict_module
from huiyan.workflows.check import check
from huiyan.workflows.config import DataConfig
from huiyan.workflows.tables import read_tables

THREADS = 2
LONG = 8192


def encoder(width: int, n_layers: int, n_positions: int) -> TransformerConfig:
    return TransformerConfig(
        family="bert", vocab_size=30522, width=width, embedding_width=width, n_layers=n_layers, n_layer_groups=n_layers,
        n_heads=width // 32, feed_forward_width=4 * width, n_positions=n_positions, n_types=2,
    )  # fmt: skip


def words(n: int) -> list[str]:
    draw = random.Random(0)
    return ["".join(draw.choices(string.ascii_lowercase, k=draw.randint(2, 9))) for _ in range(n)]


def write_table(path: Path, n_rows: int) -> None:
    """Rows of 8 to 24 words, three labels."""
    draw, known = random.Random(1), words(20_000)
    with path.open("w", encoding="utf-8") as file:
        file.write("id,text,label\n")
        for number in range(n_rows):
            text = " ".join(draw.choices(known, k=draw.randint(8, 24)))
            file.write(f"{number},{text},{draw.choice('abc')}\n")


def resident_mb() -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmRSS:")[1].split()[0]) / 1000


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def table(arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Predict a large table; looked at from outside, as chunks are finished."""
    model = fresh_classifier(
        ClassifierConfig(encoder=encoder(128, 2, 512), head=HeadConfig(dense=True, activation="tanh"), n_classes=3),
        seed=0,
    )
    manifest = Manifest(
        huiyan_version=__version__, classes=("a", "b", "c"), text_columns=("text",), label_column="label",
        max_length=128, pooling="family", family="bert", decision=Decision(), source="", revision=None, licence=None,
        origin="drawn from a seed", data_fingerprint="",
    )  # fmt: skip
    Artifact(model.eval(), Tokenizer.from_folder(find_model("auto").folder), manifest).save(work / "model")
    write_table(work / "in.csv", arguments.rows)
    seen: list[tuple[int, float, float, float]] = []
    finish = predict_module._finish_each  # noqa: SLF001 - where chunks are written

    def watched(under_way: Any, answering: Any, write: Any) -> int:
        def told() -> Any:
            for started in under_way:
                if started.rows and seen_rows:
                    seen.append((seen_rows[0], time.perf_counter(), cpu_s(), resident_mb()))
                seen_rows[:] = [len(started.rows) + (seen_rows[0] if seen_rows else 0)]
                yield started
            seen.append((seen_rows[0], time.perf_counter(), cpu_s(), resident_mb()))

        seen_rows: list[int] = []
        return finish(told(), answering, write)

    predict_module._finish_each = watched  # noqa: SLF001
    predict_module.predict_file(work / "model", str(work / "in.csv"), str(work / "out.csv"))
    (first, began, used, _), (rows, ended, used_at_end, _) = seen[0], seen[-1]
    at = {part: next(one for one in seen if one[0] >= part * rows) for part in (0.1, 0.5, 1.0)}
    return {
        "rows": rows,
        "rows_per_s": (rows - first) / (ended - began),
        "busy": (used_at_end - used) / (ended - began) / THREADS,
        "resident_mb": {str(part): one[3] for part, one in at.items()},
    }


def read(arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Read a table and split it, as training does first."""
    write_table(work / "in.csv", arguments.read_rows)
    began = time.perf_counter()
    tables = read_tables(
        str(work / "in.csv"), DataConfig(text=("text",), label="label"), seed=0, folder=work, say=lambda _: None
    )
    return {
        "rows": len(tables.train) + len(tables.validation) + len(tables.test),
        "seconds": time.perf_counter() - began,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
    }


def look(arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Look at a table before anything learns from it."""
    write_table(work / "in.csv", arguments.read_rows)
    began = time.perf_counter()
    found = check(str(work / "in.csv"), DataConfig(text=("text",), label="label"), doubts=False)
    return {
        "rows": found["rows"]["used"],
        "seconds": time.perf_counter() - began,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
        "findings": found["findings"],
    }


def long(_arguments: argparse.Namespace, _work: Path) -> dict[str, Any]:
    """A long text among short ones costs what its tokens cost."""
    config = encoder(384, 6, LONG)
    model = for_inference(
        fresh_classifier(ClassifierConfig(encoder=config, head=HeadConfig(dense=True), n_classes=3), seed=0)
    )
    draw = random.Random(0)
    short = [[draw.randrange(1000, 30000) for _ in range(draw.randint(16, 64))] for _ in range(100)]
    one = [[draw.randrange(1000, 30000) for _ in range(LONG)]]
    parts = {"short": short, "long": one, "both": one + short}
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for number in range(6):
        for name, sequences in parts.items():
            began = time.perf_counter()
            logits_of(model, sequences)
            if number:
                seconds[name].append(time.perf_counter() - began)
    flops = {name: sum(map(flops_of, sequences)) for name, sequences in parts.items()}
    padded = LONG * (len(short) + 1)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    return {
        "seconds": medians,
        "tokens": {name: sum(map(len, sequences)) for name, sequences in parts.items()},
        "gflops_per_s": {name: flops[name] / taken / 1e9 for name, taken in medians.items()},
        "both_over_parts": medians["both"] / (medians["short"] + medians["long"]),
        "tokens_if_padded": padded,
        "flops_if_padded_over_ours": (len(short) + 1) * flops_of(one[0]) / flops["both"],
    }


def flops_of(sequence: list[int]) -> float:
    """Of an encoder of 6 × 384: products with weights, and with the n² map of each layer."""
    n = len(sequence)
    return 6 * (2 * n * 12 * 384**2 + 4 * n**2 * 384)


PARTS = {"table": table, "read": read, "check": look, "long": long}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--read-rows", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--resume", action="store_true", help="leave out what the file has already")
    parser.add_argument("--part", choices=list(PARTS), help="measure this one in this process")
    arguments = parser.parse_args()
    if arguments.part:
        with tempfile.TemporaryDirectory() as work:
            print(json.dumps(PARTS[arguments.part](arguments, Path(work))))
        return
    known: dict[str, Any] = {}
    if arguments.json and arguments.json.is_file():
        known = json.loads(arguments.json.read_text(encoding="utf-8"))
    for part in arguments.only:
        if arguments.resume and part in known:
            continue
        command = [sys.executable, __file__, "--part", part, "--rows", str(arguments.rows)]
        command += ["--read-rows", str(arguments.read_rows)]
        settings = os.environ | {"OMP_NUM_THREADS": str(THREADS)}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=settings)
        found = json.loads(done.stdout.splitlines()[-1])
        known[part] = {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": describe_machine(torch.device("cpu")),
            "torch": torch.__version__,
            **found,
        }
        print(part, json.dumps(found, indent=1))
        if arguments.json:
            arguments.json.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
