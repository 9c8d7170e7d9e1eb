"""Speed against accuracy of a model with early exits: a patience chosen on the validation rows, a curve on the test."""

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from huiyan.core.decision import Decision
from huiyan.core.files import atomic_text, write_json
from huiyan.data.examples import Examples
from huiyan.evaluation.metrics import classification_scores
from huiyan.tasks.artifact import Artifact
from huiyan.tasks.classify import class_indices
from huiyan.tasks.logits import early_logits_of, logits_of_every_head
from huiyan.workflows.rendering import render_exit_picture

TOLERANCE = 0.005
"""How much accuracy, on the validation rows, the chosen patience may cost."""
TIMED_ROWS = 512
TIMED_ROUNDS = 3


def validation_curve(artifact: Artifact, validation: Examples) -> list[dict[str, Any]]:
    """What every patience gives on the validation rows, as ``exit_curve`` describes it."""
    return exit_curve(*_answers(artifact, validation), artifact.manifest.classes)


def choose_patience(curve: Sequence[dict[str, Any]]) -> int:
    """The smallest patience, so the cheapest, whose accuracy is within ``TOLERANCE`` of that of full depth.

    Full depth is the last point of the curve, and the answer when no other one is good enough.
    """
    wanted = curve[-1]["accuracy"] - TOLERANCE
    # Shares of rows are sums of floats: a difference of exactly the tolerance must not fail for the last bit.
    return next(point["patience"] for point in curve if point["accuracy"] >= wanted - 1e-9)


def measure_early_exit(artifact: Artifact, test: Examples, on_validation: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The record that becomes ``early_exit.json``, measured on the test rows.

    Args:
        artifact: a model with exits, its patience chosen.
        test: the test rows.
        on_validation: the curve the patience was chosen from.
    Returns:
        ``layers``, ``patience``; ``validation`` and ``test``, each with a ``curve``: for every patience the mean
        layers used, accuracy, macro F1 and the share of rows leaving at each layer, on the test rows also seconds a
        row; ``test`` has every exit by itself as well.
    """
    classes = artifact.manifest.classes
    logits, labels = _answers(artifact, test)
    sequences = artifact.tokenizer.encode_batch(test.texts, max_length=artifact.manifest.max_length)
    timed = sequences[:: -(-len(sequences) // TIMED_ROWS)]
    n_layers = len(logits)
    seconds = _seconds_a_row(artifact, timed, n_layers)
    curve = [
        point | {"seconds_per_row": row_s, "times_as_fast": seconds[-1] / row_s}
        for point, row_s in zip(exit_curve(logits, labels, classes), seconds, strict=True)
    ]
    return {
        "format": 1,
        "layers": n_layers,
        "patience": artifact.patience_of("auto"),
        "parameters_of_exits": sum(parameter.numel() for parameter in artifact.exiting.exits.parameters()),
        "validation": {"tolerance": TOLERANCE, "curve": list(on_validation)},
        "test": {
            "rows": len(labels),
            "timed_rows": len(timed),
            "device": str(next(artifact.model.parameters()).device),
            "threads": torch.get_num_threads(),
            "curve": curve,
            "heads": [{"layer": layer, **_scores(head, labels, classes)} for layer, head in enumerate(logits, start=1)],
        },
    }


def write_early_exit(folder: Path, record: dict[str, Any]) -> None:
    """Write ``early_exit.json`` and its picture, ``early_exit.svg``.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_json(folder / "early_exit.json", record)
    with atomic_text(folder / "early_exit.svg") as file:
        file.write(render_exit_picture(record))


def exit_curve(
    logits: Float[np.ndarray, "e n c"], labels: Int[np.ndarray, " n"], classes: Sequence[str]
) -> list[dict[str, Any]]:
    """For every patience from 1 to `e`: scores, mean layers used, and the share of rows leaving at each layer.

    Args:
        logits: of every head, the first layer's first.
        labels: class indices.
        classes: names, in the order of the logits.
    """
    n_layers, n_rows = logits.shape[:2]
    curve: list[dict[str, Any]] = []
    for patience in range(1, n_layers + 1):
        depths = depths_left(logits.argmax(axis=2), patience=patience)
        curve.append(
            {
                "patience": patience,
                "mean_layers": float(depths.mean()),
                **_scores(logits[depths - 1, np.arange(n_rows)], labels, classes),
                "leaving": (np.bincount(depths, minlength=n_layers + 1)[1:] / n_rows).tolist(),
            }
        )
    return curve


def depths_left(choices: Int[np.ndarray, "e n"], *, patience: int) -> Int[np.ndarray, " n"]:
    """The layer, from 1, at which each row leaves, told from the choice of every head.

    The rule of ``ExitingClassifier.leave_early``, so one pass at full depth gives the answers of every patience.
    """
    depths = np.full(choices.shape[1], len(choices))
    streak = np.zeros(choices.shape[1], dtype=np.int64)
    for depth, choice in enumerate(choices, start=1):
        agrees = choice == choices[depth - 2] if depth > 1 else np.zeros(len(choice), dtype=bool)
        streak = np.where(agrees, streak + 1, 1)
        depths = np.where(streak >= patience, np.minimum(depths, depth), depths)
    return depths


def _answers(artifact: Artifact, examples: Examples) -> tuple[Float[np.ndarray, "e n c"], Int[np.ndarray, " n"]]:
    sequences = artifact.tokenizer.encode_batch(examples.texts, max_length=artifact.manifest.max_length)
    logits = logits_of_every_head(artifact.exiting, sequences)
    return logits, class_indices(examples.labels, artifact.manifest.classes)


def _scores(
    logits: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"], classes: Sequence[str]
) -> dict[str, float]:
    scores = classification_scores(labels, Decision().outputs(logits), classes)
    return {"accuracy": scores.accuracy, "macro_f1": scores.macro_f1}


def _seconds_a_row(artifact: Artifact, sequences: list[list[int]], n_layers: int) -> list[float]:
    """Of every patience, the last of which is the plain model: the median of some rounds.

    Each round times them all, so that a busy moment of the machine hits them alike.
    """
    exiting = artifact.answering_early

    def answer(patience: int) -> float:
        began = time.perf_counter()
        early_logits_of(exiting, sequences, patience=patience)
        return (time.perf_counter() - began) / len(sequences)

    answer(n_layers)  # the first pass on a device is slower than those that follow
    rounds = [[answer(patience) for patience in range(1, n_layers + 1)] for _ in range(TIMED_ROUNDS)]
    return [median(times) for times in zip(*rounds, strict=True)]
