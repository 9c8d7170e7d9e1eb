"""Peak memory of `huiyan predict --file` on a small and a ten times larger file: it must not grow with the file.

Run: python benchmarks/predict_memory.py RUN [--megabytes 20 200] [--json benchmarks/results/predict_memory.json]
RUN is the folder of a trained model; a tiny one will do, since memory is what is measured. Without RUN a random BERT
of one layer is made and trained for a moment.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import torch
import transformers

from huiyan.core.devices import describe_machine
from huiyan.training.config import TrainingConfig
from huiyan.workflows.config import DataConfig, ModelConfig, TrainRun
from huiyan.workflows.train import train

WORDS = [f"word{number}" for number in range(200)]


def write_table(path: Path, megabytes: float) -> int:
    """A table of made-up texts of about this size; gives its rows."""
    random, rows = Random(0), 0
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "text", "label", "notes"])
        while file.tell() < megabytes * 1e6:
            for _ in range(1000):
                # Few words and a long column beside them: the file is large, the model's work is small.
                words = " ".join(random.choices(WORDS, k=8))
                table.writerow([rows, words, ("a", "b")[rows % 2], "x" * 400])
                rows += 1
    return rows


def tiny_run(folder: Path) -> Path:
    """A trained model of one layer and eight dimensions."""
    base = folder / "base"
    base.mkdir()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (base / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    config = transformers.BertConfig(
        vocab_size=len(vocabulary), hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16
    )
    transformers.BertModel(config).save_pretrained(base)
    write_table(folder / "train.csv", 0.1)
    train(
        TrainRun(
            file=str(folder / "train.csv"),
            out=str(folder / "run"),
            data=DataConfig(text=("text",), label="label"),
            model=ModelConfig(model=str(base), max_length=32),
            training=TrainingConfig(epochs=1, device="cpu", precision="fp32"),
        )
    )
    return folder / "run"


def peak_of(run: Path, table: Path, out: Path) -> tuple[float, float]:
    """Peak resident memory in MB, and seconds, of one `huiyan predict` process."""
    program = (
        "import resource, sys; from huiyan.cli.main import run; status = run(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(status)"
    )
    words = ["predict", str(run), "--file", str(table), "--out", str(out), "--overwrite", "--device", "cpu"]
    began = time.perf_counter()
    ended = subprocess.run([sys.executable, "-c", program, *words], check=True, capture_output=True, text=True)
    return int(ended.stdout.split()[-1]) / 1024, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--megabytes", type=float, nargs="+", default=[20.0, 200.0])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = arguments.run or tiny_run(folder)
        results = []
        for megabytes in arguments.megabytes:
            rows = write_table(folder / "in.csv", megabytes)
            peak, seconds = peak_of(run, folder / "in.csv", folder / "out.csv")
            results.append(
                {"file_mb": megabytes, "rows": rows, "peak_mb": round(peak, 1), "seconds": round(seconds, 1)}
            )
            print(f"{megabytes:6.0f} MB, {rows:9,} rows: peak {peak:7.1f} MB, {seconds:6.1f} s")
    print(f"largest / smallest peak: {results[-1]['peak_mb'] / results[0]['peak_mb']:.3f}")
    if arguments.json:
        described = {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": describe_machine(torch.device("cpu")),
            "results": results,
        }
        arguments.json.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
