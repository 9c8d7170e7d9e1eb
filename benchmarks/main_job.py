"""The main job on the bundled reviews: Huiyan, a plain `transformers` fine-tune and TF-IDF, on the same rows.

Run: python benchmarks/main_job.py [--seeds 0] [--epochs 2] [--json benchmarks/results/main_job.json]

Every engine gets the same weights (all-MiniLM-L6-v2), the same texts (title, line break, review), the same two threads,
the same number of epochs and a process of its own; engines take turns. The peer is what most people write: batches of
32 padded to the longest, AdamW at 5e-5 (the Trainer's default) with linear decay, bf16 autocast where ours uses bf16,
sorted by length within the epoch so that it pays the least for padding. It trains on all 2,900 rows, ours on nine
tenths of them, since ours keeps validation rows to pick its checkpoint by: speed is therefore compared in rows trained
per second of training steps. Ours spends some seconds more on its validations; loading and the test are left out.
"""

import argparse
import csv
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import accuracy_score, f1_score

from huiyan.core.devices import describe_machine, multiplies_bf16, peak_memory_bytes
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
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(seed)
    texts, labels = read("reviews.train.csv")
    test_texts, test_labels = read("reviews.test.csv")
    names = sorted(set(labels))
    folder = find_model("auto").folder
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(names))
    encoded = [tokenizer(text, truncation=True, max_length=256)["input_ids"] for text in texts]
    order = sorted(range(len(texts)), key=lambda row: len(encoded[row]))
    batches = [order[start : start + 32] for start in range(0, len(order), 32)]
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.01)
    total = epochs * len(batches)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / total)
    model.train()
    began = time.monotonic()
    for _ in range(epochs):
        random.Random(seed).shuffle(batches)
        for batch in batches:
            inputs = tokenizer.pad({"input_ids": [encoded[row] for row in batch]}, return_tensors="pt")
            target = torch.tensor([names.index(labels[row]) for row in batch])
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=multiplies_bf16(CPU)):
                loss = model(**inputs, labels=target).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
    seconds = time.monotonic() - began
    model.eval()
    predictions: list[str] = []
    with torch.inference_mode():
        for start in range(0, len(test_texts), 32):
            inputs = tokenizer(
                test_texts[start : start + 32], truncation=True, max_length=256, padding=True, return_tensors="pt"
            )
            predictions += [names[choice] for choice in model(**inputs).logits.argmax(-1).tolist()]
    return {
        "accuracy": float(accuracy_score(test_labels, predictions)),
        "macro_f1": float(f1_score(test_labels, predictions, average="macro")),
        "train_s": seconds,
        "rows_per_s": len(texts) * epochs / seconds,
        "peak_mb": peak_memory_bytes(CPU) / 1e6,
    }


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
