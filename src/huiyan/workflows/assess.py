"""Judge probabilities on rows with known labels: figures, intervals, baselines, hardest mistakes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from huiyan.data.examples import Examples
from huiyan.evaluation.baselines import run_baselines
from huiyan.evaluation.comparison import compare_paired
from huiyan.evaluation.intervals import bootstrap_intervals
from huiyan.evaluation.metrics import classification_scores
from huiyan.tasks.classify import class_indices
from huiyan.text.scripts import mostly_han

HARDEST = 20
SHOWN_CHARACTERS = 500


def figures_with_intervals(
    labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], *, seed: int = 0
) -> dict[str, Any]:
    """Every headline figure with its 95 % bootstrap interval, the per-class table and the confusion matrix.

    Args:
        labels: class indices, `n`.
        probabilities: `n c`.
        classes: class names, `c`.
        seed: of the bootstrap.
    """
    scores = classification_scores(labels, probabilities, classes)
    intervals = bootstrap_intervals(labels, probabilities, seed=seed)
    metrics: dict[str, Any] = {}
    for name, value in scores.headline().items():
        interval = intervals.get(name)
        metrics[name] = {
            "value": value,
            "low": None if interval is None else interval.low,
            "high": None if interval is None else interval.high,
        }
    described = scores.to_dict()
    return {
        "rows": len(labels),
        "metrics": metrics,
        "per_class": described["per_class"],
        "confusion": described["confusion"],
    }


def compare_with_baselines(
    pairs: Sequence[tuple[Examples, Examples]],
    probabilities: np.ndarray,
    classes: Sequence[str],
    *,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Baselines on the same test rows, each with a paired test against the model.

    Args:
        pairs: the rows the model could see, training and validation (a baseline has no use for the difference, and
            giving it all of them makes it as strong as it can honestly be), and the test rows; one pair a fold.
        probabilities: the model's for the test rows of all pairs, `n c`.
        classes: class names, `c`.
        seed: of the baselines and the resampling.
    """
    labels = np.concatenate([class_indices(test.labels, classes) for _, test in pairs])
    each = [
        run_baselines(
            known.texts,
            class_indices(known.labels, classes),
            test.texts,
            n_classes=len(classes),
            character_ngrams=mostly_han(known.texts),
            seed=seed,
        )
        for known, test in pairs
    ]
    described: list[dict[str, Any]] = []
    for parts in zip(*each, strict=True):
        baseline, answered = parts[0], np.concatenate([part.probabilities for part in parts])
        compared = compare_paired(labels, probabilities, answered, name=baseline.name, seed=seed)
        described.append(
            {
                "name": baseline.name,
                "description": baseline.description,
                "metrics": figures_with_intervals(labels, answered, classes, seed=seed)["metrics"],
                "comparison": {
                    "metric": compared.metric,
                    "difference": compared.difference,
                    "low": compared.interval.low,
                    "high": compared.interval.high,
                    "p_value": compared.p_value,
                    "verdict": compared.verdict,
                    "words": compared.words,
                },
            }
        )
    return described


def hardest_mistakes(test: Examples, probabilities: np.ndarray, classes: Sequence[str]) -> list[dict[str, Any]]:
    """The wrong answers the model was surest of, surest first."""
    chosen = probabilities.argmax(axis=1)
    wrong = [row for row in range(len(test)) if classes[int(chosen[row])] != test.labels[row]]
    wrong.sort(key=lambda row: -float(probabilities[row].max()))
    return [
        {
            "text": test.texts[row][:SHOWN_CHARACTERS],
            "label": test.labels[row],
            "prediction": classes[int(chosen[row])],
            "probability": float(probabilities[row].max()),
            "source": test.sources[row],
        }
        for row in wrong[:HARDEST]
    ]
