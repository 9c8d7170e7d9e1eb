"""Whether probabilities mean what they say, the temperature that makes them, and what silence in doubt is worth."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import beta

from huiyan.core.config import require
from huiyan.evaluation.counts import FloatArray, IntArray, checked
from huiyan.evaluation.intervals import Interval

BINS = 15
"""Of the reliability diagram, as in Guo et al. 2017."""
_COLDEST, _HOTTEST = 0.05, 20.0


def fit_temperature(labels: npt.ArrayLike, logits: npt.ArrayLike) -> float:
    """The temperature under which the labels are likeliest: how sure answers are changes, which is likeliest does not.

    A label counts for (n + 1) / (n + 2), the other classes share the rest: of a few rows that are all right it does not
    follow that every answer is.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2; the rest that others share: Platt
    1999, "Probabilistic Outputs for Support Vector Machines", section 2.2.

    Args:
        labels: ``n`` integers, columns of ``logits``.
        logits: ``n c``; of rows that the model was not trained on.
    Returns:
        Between 0.05 and 20.
    Raises:
        ShapeError, DataError: as ``classification_scores``.
    """
    true, scores = checked(labels, logits)
    n_rows, n_classes = scores.shape
    if n_classes == 1:
        return 1.0
    targets = np.full_like(scores, 1 / (n_rows + 2) / (n_classes - 1))
    targets[np.arange(n_rows), true] = (n_rows + 1) / (n_rows + 2)

    return _temperature(
        lambda temperature: -float((targets * log_softmax(scores / temperature, axis=1)).sum(axis=1).mean())
    )


def fit_binary_temperature(own: npt.ArrayLike, logits: npt.ArrayLike) -> float:
    """The temperature under which yes or no answers are likeliest, as ``fit_temperature`` for one of several.

    Source: the targets, Platt 1999, section 2.2.

    Args:
        own: whether it is so, ``n``.
        logits: that it is, ``n``; of rows that the model was not trained on.
    Returns:
        Between 0.05 and 20; 1 where there is no row.
    """
    true, scores = np.asarray(own, dtype=bool), np.asarray(logits, dtype=np.float64)
    if not len(true):
        return 1.0
    n_own = int(true.sum())
    targets = np.where(true, (n_own + 1) / (n_own + 2), 1 / (len(true) - n_own + 2))

    def loss(temperature: float) -> float:
        scaled = scores / temperature
        return float((np.logaddexp(0, scaled) - targets * scaled).mean())

    return _temperature(loss)


def _temperature(loss: Callable[[float], float]) -> float:
    # In the logarithm twice as hot and half as hot are as far away.
    bounds = (np.log(_COLDEST), np.log(_HOTTEST))
    found = minimize_scalar(lambda logarithm: loss(float(np.exp(logarithm))), bounds=bounds, method="bounded")
    return float(np.exp(found.x))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Rows whose confidence is above ``low`` and at most ``high``: how sure of them the model was, and how right."""

    low: float
    high: float
    rows: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What ``calibration_of`` gives; all are better the lower.

    Args:
        ece: expected calibration error, the mean gap between confidence and accuracy over the bins.
        brier: mean squared distance between the probabilities of a row and its label, 0 to 2.
        nll: mean negative log-likelihood of the labels, in nats.
        bins: the reliability diagram; bins without a row are left out.
    """

    ece: float
    brier: float
    nll: float
    bins: list[Bin]


def calibration_of(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, chosen: npt.ArrayLike | None = None
) -> Calibration:
    """Measure how well probabilities fit labels.

    Source: Guo et al. 2017, eq. 3 (ECE, 15 bins of equal width); Brier 1950 (over all classes).

    Args:
        labels: ``n`` integers, columns of ``probabilities``.
        probabilities: ``n c``.
        chosen: the answers, ``n`` columns, whose probability is the confidence; None is the most probable ones.
    Raises:
        ShapeError, DataError: as ``classification_scores``.
    """
    true, scores = checked(labels, probabilities)
    confidence, right = _confidence(true, scores, chosen)
    edges = np.linspace(0, 1, BINS + 1)
    number = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    bins = [
        Bin(
            low=float(edges[one]),
            high=float(edges[one + 1]),
            rows=int(inside.sum()),
            confidence=float(confidence[inside].mean()),
            accuracy=float(right[inside].mean()),
        )
        for one in range(BINS)
        if (inside := number == one).any()
    ]
    own = scores[np.arange(len(true)), true]
    return Calibration(
        ece=sum(one.rows * abs(one.confidence - one.accuracy) for one in bins) / len(true),
        brier=float(((scores**2).sum(axis=1) - 2 * own + 1).mean()),
        nll=float(-np.log(np.maximum(own, 1e-12)).mean()),
        bins=bins,
    )


@dataclass(frozen=True, slots=True)
class Coverage:
    """Answering only from a confidence on: what share of rows is answered, and how many of those are right."""

    threshold: float
    coverage: float
    accuracy: float
    interval: Interval


def coverage_curve(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, chosen: npt.ArrayLike | None = None, *, points: int = 101
) -> list[Coverage]:
    """Accuracy among the answered rows for thresholds from "answer all" up; at most ``points`` of them.

    Args:
        labels: ``n`` integers, columns of ``probabilities``.
        probabilities: ``n c``.
        chosen: as for ``calibration_of``.
        points: thresholds, at the confidences of rows evenly spread.
    Raises:
        ShapeError, DataError: as ``classification_scores``.
    """
    confidence, right = _by_confidence(labels, probabilities, chosen)
    answered = np.unique(np.linspace(1, len(confidence), min(points, len(confidence))).round().astype(int))[::-1]
    hits = np.cumsum(right)
    return [_coverage(confidence, hits, int(count)) for count in answered]


def abstention_threshold(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, *, accuracy: float, level: float = 0.95
) -> Coverage | None:
    """The lowest confidence from which on answers are right as often as wanted; None when no threshold reaches that.

    Args:
        labels: ``n`` integers, columns of ``probabilities``; of rows that nothing else was fitted on.
        probabilities: ``n c``.
        accuracy: wanted among the answered rows, above 0 and below 1.
        level: of the interval that comes with it.
    Returns:
        The threshold, with the accuracy observed and its exact binomial interval.
    Raises:
        ConfigError: ``accuracy`` is out of range.
        ShapeError, DataError: as ``classification_scores``.
    """
    require(0 < accuracy < 1, "abstain_at", "above 0 and below 1", accuracy)
    return _threshold(*_by_confidence(labels, probabilities), wanted=accuracy, level=level)


def precision_thresholds(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, *, precision: float, level: float = 0.95
) -> list[Coverage | None]:
    """For each class, the lowest confidence from which on rows given this class have it as often as wanted.

    Args:
        labels: ``n`` integers, columns of ``probabilities``; of rows that nothing else was fitted on.
        probabilities: ``n c``.
        precision: wanted among the rows given the class, above 0 and below 1.
        level: of the intervals.
    Returns:
        One a class: coverage and accuracy are of the rows given this class. None where no threshold reaches that, and
        where no row is given the class.
    Raises:
        ConfigError: ``precision`` is out of range.
        ShapeError, DataError: as ``classification_scores``.
    """
    require(0 < precision < 1, "label_precision", "above 0 and below 1", precision)
    true, scores = checked(labels, probabilities)
    given = scores.argmax(axis=1)
    return [
        _threshold(*_by_confidence(true[given == one], scores[given == one]), wanted=precision, level=level)
        if (given == one).any()
        else None
        for one in range(scores.shape[1])
    ]


def binomial_interval(hits: int, rows: int, level: float = 0.95) -> Interval:
    """The exact interval of a share, ``hits`` of ``rows``. Source: Clopper and Pearson 1934."""
    tail = (1 - level) / 2
    low = float(beta.ppf(tail, hits, rows - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, rows - hits)) if hits < rows else 1.0
    return Interval(low, high, level)


def _by_confidence(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, chosen: npt.ArrayLike | None = None
) -> tuple[FloatArray, IntArray]:
    """Confidences, the surest first, and whether each answer is right (1 or 0)."""
    confidence, right = _confidence(*checked(labels, probabilities), chosen)
    order = np.argsort(-confidence, kind="stable")
    return confidence[order], right[order].astype(np.int64)


def _confidence(
    true: IntArray, scores: FloatArray, chosen: npt.ArrayLike | None
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """The probability of each answer, and whether it is right."""
    answers = scores.argmax(axis=1) if chosen is None else np.asarray(chosen)
    return scores[np.arange(len(true)), answers], answers == true


def _threshold(confidence: FloatArray, right: IntArray, *, wanted: float, level: float) -> Coverage | None:
    hits = np.cumsum(right)
    # Rows of one confidence are answered together or not at all.
    whole = np.append(confidence[1:] < confidence[:-1], True)
    reached = np.flatnonzero(whole & (hits >= wanted * np.arange(1, len(confidence) + 1)))
    return _coverage(confidence, hits, int(reached[-1]) + 1, level) if len(reached) else None


def _coverage(confidence: FloatArray, hits: IntArray, answered: int, level: float = 0.95) -> Coverage:
    right = int(hits[answered - 1])
    return Coverage(
        float(confidence[answered - 1]),
        answered / len(confidence),
        right / answered,
        binomial_interval(right, answered, level),
    )
