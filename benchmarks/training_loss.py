"""Does our training learn as much as `transformers` from as many samples? The loss on test rows, seed by seed.

Run: python benchmarks/training_loss.py [--seeds 0 1 2] [--samples 1280] [--json benchmarks/results/training_loss.json]

Both start from the same weights (all-MiniLM-L6-v2 and a head drawn from the seed) and see the same rows of the bundled
reviews once, under AdamW at a constant 1e-4, decay 0.01, gradients clipped at 1, dropout 0.1 everywhere, attention
weights included, in bfloat16. The peer takes batches of 32 rows of like length, padded; ours as many tokens a batch,
packed. The loss is the mean negative log-likelihood of the 700 test rows in nats, computed in float32.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from main_job import read
from speed_engines import TRAINING, Recipe

from huiyan.core.decision import Decision
from huiyan.core.devices import describe_machine
from huiyan.models.checkpoint import build_classifier, load_classifier, save_classifier
from huiyan.models.sources import find_model
from huiyan.tasks.classify import class_indices
from huiyan.tasks.logits import logits_of
from huiyan.text.tokenise import Tokenizer

PEER = "transformers, grouped"
ENGINES = ("huiyan", PEER)


def trained(engine: str, seed: int, samples: int) -> float:
    """The loss after training."""
    texts, names = read("reviews.train.csv")
    classes = sorted(set(names))
    source = find_model("auto").folder
    tokenizer = Tokenizer.from_folder(source)
    kept = torch.randperm(len(texts), generator=torch.Generator().manual_seed(seed))[:samples].tolist()
    labels = class_indices([names[row] for row in kept], classes).tolist()
    with tempfile.TemporaryDirectory() as work:
        start, end = Path(work) / "start", Path(work) / "end"
        start.mkdir()
        model = build_classifier(source, n_classes=len(classes), pooling="family", seed=seed)
        save_classifier(model, start, class_names=classes)
        tokenizer.save(start)
        model, steps = TRAINING[engine](
            start, [texts[row] for row in kept], labels, Recipe("bf16", rate=1e-4, seed=seed)
        )
        seen = 0
        while seen < samples:
            seen += next(steps)
        if engine == PEER:  # read by ours, so that both are measured by the same code
            model.save_pretrained(end)
            model = load_classifier(end)
    test_texts, test_names = read("reviews.test.csv")
    probabilities = Decision().outputs(logits_of(model, tokenizer.encode_batch(test_texts, max_length=512)))
    test_labels = class_indices(test_names, classes)
    return float(-np.log(probabilities[np.arange(len(test_labels)), test_labels]).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--engine", choices=ENGINES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--samples", type=int, default=1280)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.engine:
        print(trained(arguments.engine, arguments.seeds[0], arguments.samples))
        return
    losses: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    for seed in arguments.seeds:
        for engine in ENGINES:
            command = [sys.executable, __file__, "--engine", engine, "--seeds", str(seed)]
            command += ["--samples", str(arguments.samples)]
            ended = subprocess.run(command, check=True, capture_output=True, text=True)
            losses[engine].append(float(ended.stdout.splitlines()[-1]))
            print(seed, engine, losses[engine][-1], flush=True)
    differences = [own - theirs for own, theirs in zip(*losses.values(), strict=True)]
    found = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": describe_machine(torch.device("cpu")),
        "samples": arguments.samples,
        "seeds": arguments.seeds,
        "test_loss": losses,
        "mean_difference": statistics.mean(differences),
        "spread_of_seeds": {engine: statistics.stdev(own) for engine, own in losses.items() if len(own) > 1},
    }
    print(json.dumps(found, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
