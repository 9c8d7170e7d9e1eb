"""The scores of answers that are any number of labels."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from huiyan.core.errors import DataError, ShapeError
from huiyan.evaluation.auroc import macro_auroc
from huiyan.evaluation.calibration import BINS, Bin, Calibration
from huiyan.evaluation.counts import Counts, FloatArray, class_scores, divided
from huiyan.evaluation.metrics import ClassScores
from huiyan.evaluation.sums import Addends

_LEAST, _MOST = 1e-12, 1 - 1e-12


def checked_sets(targets: npt.ArrayLike, values: npt.ArrayLike) -> tuple[npt.NDArray[np.bool_], FloatArray]:
    """Targets ``n c`` as booleans and probabilities ``n c`` as float64.

    Raises:
        ShapeError: the shapes are not both ``n c``.
        DataError: there is no row or no label, or a probability is not finite.
    """
    true, scores = np.asarray(targets) > 0.5, np.asarray(values, dtype=np.float64)
    if true.ndim != 2 or true.shape != scores.shape:
        raise ShapeError(f"Targets and probabilities must both be (n, c). Got {true.shape} and {scores.shape} instead.")
    if not true.size:
        raise DataError("There is nothing to score: the test rows or the labels are none.")
    if not np.isfinite(scores).all():
        raise DataError("Every probability must be a finite number.")
    return true, scores


def set_addends(targets: npt.ArrayLike, has: npt.ArrayLike) -> Addends:
    """What rows add to the scores of sets of labels.

    ``exact_match`` is the share of rows whose labels are all right, ``label_accuracy`` the share of all single yes or
    no answers that are. Macro averages run over the labels that are actual or given at least once, as those of
    ``classification_scores``.

    Args:
        targets: which labels each row has, ``n c``.
        has: which it is given, ``n c``.
    """
    true, given = (np.asarray(one) > 0.5 for one in (targets, has))
    n_labels = true.shape[1]
    exact = (true == given).all(axis=1)
    rows = np.column_stack([true & given, true, given, exact, np.ones(len(true), dtype=bool)])

    def scores(sums: FloatArray) -> dict[str, FloatArray]:
        hits, actual, predicted = (sums[:, part * n_labels : (part + 1) * n_labels] for part in range(3))
        total, counts = sums[:, -1], Counts(hits, actual, predicted)
        seen = (actual + predicted) > 0
        by_label = dict(zip(("precision", "recall", "f1"), class_scores(counts), strict=True))
        all_hits, all_actual, all_predicted = (part.sum(axis=1) for part in (hits, actual, predicted))
        wrong = all_actual + all_predicted - 2 * all_hits
        found = {
            "micro_f1": divided(2 * all_hits, all_actual + all_predicted),
            "macro_f1": divided((by_label["f1"] * seen).sum(axis=1), seen.sum(axis=1)),
            "weighted_f1": divided((by_label["f1"] * actual).sum(axis=1), all_actual),
            "exact_match": divided(sums[:, -2], total),
            "label_accuracy": 1 - divided(wrong, total * n_labels),
            "micro_precision": divided(all_hits, all_predicted),
            "micro_recall": divided(all_hits, all_actual),
        }
        for name in ("precision", "recall"):
            found[f"macro_{name}"] = divided((by_label[name] * seen).sum(axis=1), seen.sum(axis=1))
        return found

    return Addends(rows, scores)


def label_scores(targets: npt.ArrayLike, has: npt.ArrayLike, names: tuple[str, ...]) -> list[ClassScores]:
    """Precision, recall and F1 of each label."""
    true, given = (np.asarray(one) > 0.5 for one in (targets, has))
    counts = Counts(*(one.sum(axis=0).astype(np.float64) for one in (true & given, true, given)))
    columns = zip(names, counts.actual, *class_scores(counts), strict=True)
    return [ClassScores(name, int(support), float(p), float(r), float(f1)) for name, support, p, r, f1 in columns]


def set_auroc(targets: npt.ArrayLike, probabilities: npt.ArrayLike) -> float | None:
    """The mean over the labels of how well probabilities rank rows that have a label above those that do not.

    None when every label is had by all rows or by none.
    """
    true, scores = checked_sets(targets, probabilities)
    both = [column for column in range(true.shape[1]) if 0 < true[:, column].sum() < len(true)]
    areas = [
        macro_auroc(true[:, column].astype(np.int64), np.column_stack([-scores[:, column], scores[:, column]]))
        for column in both
    ]
    known = [area for area in areas if area is not None]
    return float(np.mean(known)) if known else None


def set_calibration(targets: npt.ArrayLike, probabilities: npt.ArrayLike) -> Calibration:
    """How well the probability of every label fits how often rows have it, over all labels of all rows.

    ``accuracy`` of a bin is the share of its rows that have the label, ``brier`` lies between 0 and 1.
    """
    true, scores = checked_sets(targets, probabilities)
    own, p = true.ravel(), scores.ravel()
    number = np.clip(np.ceil(p * BINS).astype(int) - 1, 0, BINS - 1)
    bins = [
        Bin(
            low=one / BINS,
            high=(one + 1) / BINS,
            rows=int(inside.sum()),
            confidence=float(p[inside].mean()),
            accuracy=float(own[inside].mean()),
        )
        for one in range(BINS)
        if (inside := number == one).any()
    ]
    bounded = np.clip(p, _LEAST, _MOST)
    return Calibration(
        ece=sum(one.rows * abs(one.confidence - one.accuracy) for one in bins) / len(p),
        brier=float(np.square(p - own).mean()),
        nll=float(-np.where(own, np.log(bounded), np.log1p(-bounded)).mean()),
        bins=bins,
    )


@dataclass(frozen=True, slots=True)
class LabelThreshold:
    """From which probability on a label is said, and what that gives on the rows it was chosen on."""

    threshold: float | None
    precision: float
    recall: float


def best_f1_thresholds(
    targets: npt.ArrayLike, probabilities: npt.ArrayLike, *, fewest: int = 10, otherwise: float = 0.5
) -> list[float]:
    """For each label, the probability from which on saying it gives the best F1.

    Args:
        targets: which labels each row has, ``n c``; of rows that nothing else was fitted on.
        probabilities: ``n c``.
        fewest: rows that have a label, below which the best threshold is that of a few rows' luck.
        otherwise: the threshold of such labels.
    """
    true, scores = checked_sets(targets, probabilities)
    return [
        _best_f1(true[:, label], scores[:, label]) if true[:, label].sum() >= fewest else otherwise
        for label in range(true.shape[1])
    ]


def label_precision_thresholds(
    targets: npt.ArrayLike, probabilities: npt.ArrayLike, *, precision: float
) -> list[float | None]:
    """For each label, the lowest probability from which on rows given it have it as often as wanted; None for none."""
    true, scores = checked_sets(targets, probabilities)
    found: list[float | None] = []
    for label in range(true.shape[1]):
        p, hits, given = _by_probability(true[:, label], scores[:, label])
        reached = np.flatnonzero(hits >= precision * given)
        found.append(float(p[reached[-1]]) if len(reached) else None)
    return found


def _best_f1(own: npt.NDArray[np.bool_], p: FloatArray) -> float:
    values, hits, given = _by_probability(own, p)
    best = int((2 * hits / (given + own.sum())).argmax())
    # Half-way to the next: as far as may be from rows on either side.
    return float(values[best] if best + 1 == len(values) else (values[best] + values[best + 1]) / 2)


def _by_probability(own: npt.NDArray[np.bool_], p: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The distinct probabilities from high to low, and how many rows reach each: with the label, and in all."""
    values, place = np.unique(-p, return_inverse=True)
    hits = np.bincount(place, weights=own, minlength=len(values)).cumsum()
    return -values, hits, np.bincount(place, minlength=len(values)).cumsum().astype(np.float64)
