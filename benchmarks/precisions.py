"""What answering in fewer bits changes on a labelled table, beside float32: labels, probabilities, accuracy, time.

Run: python benchmarks/precisions.py RUN TABLE [--json benchmarks/results/precisions.json]

RUN is a folder of `huiyan train` on a processor that multiplies bfloat16 and int8, such as that of `make quickstart`;
TABLE has rows it was not trained on, such as `examples/data/reviews.test.csv`. Times are the median of five, turn by
turn.
"""

import argparse
import json
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from huiyan.core.devices import describe_machine
from huiyan.core.errors import ConfigError
from huiyan.data.examples import read_examples
from huiyan.data.rejected import RejectedRows
from huiyan.tasks.artifact import Artifact
from huiyan.tasks.classify import class_indices

ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("run", type=Path)
    parser.add_argument("table")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    models: dict[str, Artifact] = {}
    refused: dict[str, str] = {}
    for precision in ("fp32", "bf16", "int8"):
        try:
            models[precision] = Artifact.load(arguments.run, precision=precision)
        except ConfigError as error:
            refused[precision] = str(error)
    manifest = models["fp32"].manifest
    with RejectedRows() as aside:
        rows = read_examples(
            arguments.table, text=manifest.text_columns, label=manifest.label_column, encoding=None, rejected=aside
        )
    labels = class_indices(rows.labels, manifest.classes)
    probabilities = {name: model.outputs(rows.texts) for name, model in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(ROUNDS):
        for name, model in models.items():
            began = time.perf_counter()
            model.outputs(rows.texts)
            seconds[name].append(time.perf_counter() - began)
    chosen = {name: manifest.decision.choose(own) for name, own in probabilities.items()}
    found = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": describe_machine(torch.device("cpu")),
        "rows": len(rows),
        "validation": {name: own and own.to_dict() for name, own in (("bf16", manifest.bf16), ("int8", manifest.int8))},
        "refused": refused,
        "precisions": {
            name: {
                "flips": float((chosen[name] != chosen["fp32"]).mean()),
                "largest_change": float(np.abs(own - probabilities["fp32"]).max()),
                "mean_change": float(np.abs(own - probabilities["fp32"]).mean()),
                "accuracy": float((chosen[name] == labels).mean()),
                "texts_per_s": len(rows) / statistics.median(seconds[name]),
            }
            for name, own in probabilities.items()
        },
    }
    print(json.dumps(found, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
