"""Counts a class (hits, actual, predicted), and every score that follows from them alone.

All of it works on one sample or on thousands of resamples at once (a leading axis ``r``). That is what makes the
bootstrap cheap: drawing ``n`` rows with replacement changes only how often each (actual, predicted) cell occurs, and
those numbers are one multinomial draw over the few cells there are, however many rows the test set has.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from huiyan.core.errors import DataError, ShapeError

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

# The largest array of draws held at once; 32 MB of int64.
_MAX_DRAWS = 4_000_000

COUNT_METRICS = (
    "accuracy",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "micro_precision",
    "micro_recall",
    "micro_f1",
    "weighted_precision",
    "weighted_recall",
    "weighted_f1",
    "mcc",
)


@dataclass(frozen=True, slots=True)
class Counts:
    """How often each class was right, was the answer, and was given: each ``… c``."""

    hits: FloatArray
    actual: FloatArray
    predicted: FloatArray


def checked(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> tuple[IntArray, FloatArray]:
    """Labels ``n`` as integers and probabilities ``n c`` as float64, fit to be scored.

    Raises:
        ShapeError: the shapes do not fit together, or the labels are not integers.
        DataError: there is no row, a label is no column of the probabilities, or a probability is not finite.
    """
    true: npt.NDArray[Any] = np.asarray(labels)
    scores: npt.NDArray[Any] = np.asarray(probabilities, dtype=np.float64)
    if true.ndim != 1 or scores.ndim != 2 or len(true) != len(scores):
        raise ShapeError(
            "labels must be of shape (n,) and probabilities of shape (n, c) with the same n. "
            f"Got {true.shape} and {scores.shape} instead."
        )
    if not len(true) or not scores.shape[1]:
        raise DataError("There is nothing to score: the test rows or the classes are none.")
    if true.dtype.kind not in "iu":
        raise ShapeError(f"labels must be integers, the columns of probabilities. Got {true.dtype} instead.")
    if true.min() < 0 or true.max() >= scores.shape[1]:
        wrong = int(true.min() if true.min() < 0 else true.max())
        raise DataError(f"A label must be between 0 and {scores.shape[1] - 1}, a column of probabilities. Got {wrong}.")
    if not np.isfinite(scores).all():
        row = int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0])
        raise DataError(f"Every probability must be a finite number. Row {row} holds NaN or infinity.")
    return true.astype(np.int64), scores


def cells_of(*columns: IntArray, n_classes: int) -> tuple[list[IntArray], IntArray]:
    """The distinct rows of several columns of class numbers, each ``n``, and how often each occurs.

    Returns:
        The columns of the distinct rows, each ``k``, and their counts, ``k``.
    """
    code = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        code = code * n_classes + column
    distinct, counts = np.unique(code, return_counts=True)
    parts: list[IntArray] = []
    for _ in columns:
        parts.append(distinct % n_classes)
        distinct = distinct // n_classes
    return parts[::-1], counts.astype(np.int64)


def tally(draws: npt.NDArray[Any], actual: IntArray, predicted: IntArray, *, n_classes: int) -> Counts:
    """Counts a class from counts a cell.

    Args:
        draws: how often each cell occurs, ``r k``.
        actual: the actual class of each cell, ``k``.
        predicted: the predicted class of each cell, ``k``.
        n_classes: ``c``.
    Returns:
        Counts of shape ``r c``.
    """
    right = actual == predicted
    return Counts(
        hits=_sum_by_class(draws[:, right], actual[right], n_classes),
        actual=_sum_by_class(draws, actual, n_classes),
        predicted=_sum_by_class(draws, predicted, n_classes),
    )


def resampled(counts: IntArray, *, n_resamples: int, rng: np.random.Generator) -> Iterator[IntArray]:
    """Bootstrap resamples of rows, as counts a cell: pieces ``r k`` whose ``r`` add up to ``n_resamples``."""
    total = int(counts.sum())
    for size in pieces(n_resamples, len(counts)):
        yield rng.multinomial(total, counts / total, size=size)


def pieces(n_resamples: int, width: int) -> Iterator[int]:
    """Sizes that add up to ``n_resamples``, such that size × ``width`` stays small in memory."""
    step = max(1, _MAX_DRAWS // max(1, width))
    for start in range(0, n_resamples, step):
        yield min(step, n_resamples - start)


def class_scores(counts: Counts) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Precision, recall and F1 of each class, ``… c``; 0 where a denominator is 0."""
    precision = divided(counts.hits, counts.predicted)
    recall = divided(counts.hits, counts.actual)
    return precision, recall, divided(2 * counts.hits, counts.actual + counts.predicted)


def count_scores(counts: Counts) -> dict[str, FloatArray]:
    """Every metric of ``COUNT_METRICS``, each of shape ``…`` (that of the counts without the class axis).

    Macro averages run over the classes that are actual or predicted at least once. MCC is the multi-class one and 0
    where it is undefined. Both are scikit-learn's rules.

    Source: Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation coefficient".
    """
    by_class = dict(zip(("precision", "recall", "f1"), class_scores(counts), strict=True))
    total = counts.actual.sum(axis=-1)
    seen = (counts.actual + counts.predicted) > 0
    accuracy = divided(counts.hits.sum(axis=-1), total)
    scores = {"accuracy": accuracy}
    for name, values in by_class.items():
        scores[f"macro_{name}"] = divided((values * seen).sum(axis=-1), seen.sum(axis=-1))
        # With one label a row, each mistake is one false positive and one false negative: all three are the accuracy.
        scores[f"micro_{name}"] = accuracy
        scores[f"weighted_{name}"] = divided((values * counts.actual).sum(axis=-1), total)
    chance = (counts.actual * counts.predicted).sum(axis=-1)
    spread = (total**2 - (counts.actual**2).sum(axis=-1)) * (total**2 - (counts.predicted**2).sum(axis=-1))
    scores["mcc"] = divided(counts.hits.sum(axis=-1) * total - chance, np.sqrt(spread))
    return {name: scores[name] for name in COUNT_METRICS}


def divided(numerator: npt.NDArray[Any], denominator: npt.NDArray[Any]) -> FloatArray:
    """The quotient, and 0 where the denominator is 0."""
    top = np.asarray(numerator, dtype=np.float64)
    return np.divide(top, denominator, out=np.zeros_like(top), where=np.asarray(denominator) != 0)


def _sum_by_class(draws: npt.NDArray[Any], classes: IntArray, n_classes: int) -> FloatArray:
    sums = np.zeros((len(draws), n_classes))
    if len(classes):
        order = np.argsort(classes, kind="stable")
        present, starts = np.unique(classes[order], return_index=True)
        sums[:, present] = np.add.reduceat(draws[:, order], starts, axis=1)
    return sums
