"""The main job on the bundled reviews: Huiyan, a plain `transformers` fine-tune and TF-IDF, on the same rows.

Run: python benchmarks/main_job.py [--seeds 0] [--epochs 2] [--json benchmarks/results/main_job.json]

Every engine gets the same weights (all-MiniLM-L6-v2), the same texts (title, line break, review), the same two threads,
the same number of epochs and a process of its own; engines take turns. The peer is what most people write
(`plain_finetune.py`). It trains on all 2,900 rows, ours on nine tenths of them, since ours keeps validation rows to
pick its checkpoint by: speed is therefore compared in rows trained per second of training steps. Ours spends some
seconds more on its validations; loading and the test are left out.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from plain_finetune import plain_finetune

from huiyan.core.devices import describe_machine, peak_memory_bytes
from huiyan.models.sources import find_model
from huiyan.training.config import TrainingConfig
from huiyan.workflows.config import DataConfig, ModelConfig, TrainRun
from huiyan.workflows.train import train

DATA = Path(__file__).parent.parent / "examples" / "data"
CPU = torch.device("cpu")


def read(name: str) -> tuple[list[str], list[str]]:
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [f"{row['title']}\n{row['review']}".strip() for row in rows], [row["sentiment"] for row in rows]


def ours(seed: int, epochs: int) -> dict[str, Any]:
    """`huiyan train` with its defaults."""
    with tempfile.TemporaryDirectory() as folder:
        report = train(
            TrainRun(
                file=str(DATA / "reviews.train.csv"),
                out=f"{folder}/run",
                data=DataConfig(text=("title", "review"), label="sentiment", test=str(DATA / "reviews.test.csv")),
                model=ModelConfig(),
                training=TrainingConfig(seed=seed, epochs=epochs, device="cpu"),
            )
        )
    if report is None:
        raise SystemExit("interrupted")
    baseline = next(one for one in report["baselines"] if "TF-IDF" in one["name"])
    return {
        "accuracy": report["test"]["metrics"]["accuracy"]["value"],
        "macro_f1": report["test"]["metrics"]["macro_f1"]["value"],
        "train_s": report["training"]["seconds"],
        "rows_per_s": report["data"]["splits"]["train"] * report["training"]["epochs"] / report["training"]["seconds"],
        "peak_mb": peak_memory_bytes(CPU) / 1e6,
        "tfidf_accuracy": baseline["metrics"]["accuracy"]["value"],
        "tfidf_macro_f1": baseline["metrics"]["macro_f1"]["value"],
        "versus_tfidf": baseline["comparison"]["words"],
    }


def peer(seed: int, epochs: int) -> dict[str, Any]:
    """A plain fine-tune with `transformers`."""
    known, test = (list(zip(*read(f"reviews.{part}.csv"), strict=True)) for part in ("train", "test"))
    return plain_finetune(find_model("auto").folder, known, test, seed=seed, epochs=epochs)


ENGINES = {"huiyan": ours, "transformers": peer}


def in_a_process(engine: str, seed: int, epochs: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--engine", engine, "--seeds", str(seed), "--epochs", str(epochs)]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(ended.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=ENGINES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.engine:
        print(json.dumps(ENGINES[arguments.engine](arguments.seeds[0], arguments.epochs)))
        return
    runs: dict[str, list[dict[str, Any]]] = {engine: [] for engine in ENGINES}
    for seed in arguments.seeds:
        for engine in ENGINES:
            result = in_a_process(engine, seed, arguments.epochs)
            runs[engine].append(result)
            print(seed, engine, result, flush=True)
    ratio = statistics.median(
        own["rows_per_s"] / theirs["rows_per_s"]
        for own, theirs in zip(runs["huiyan"], runs["transformers"], strict=True)
    )
    for engine, results in runs.items():
        means = {
            key: float(np.mean([result[key] for result in results])) for key in ("accuracy", "macro_f1", "rows_per_s")
        }
        print(engine, {key: round(value, 3) for key, value in means.items()})
    print(f"training speed, huiyan / transformers: {ratio:.2f}")
    if arguments.json:
        described = {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": describe_machine(CPU),
            "torch": torch.__version__,
            "epochs": arguments.epochs,
            "seeds": arguments.seeds,
            "runs": runs,
            "speed_ratio": round(ratio, 3),
        }
        arguments.json.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
