"""Whether one classifier is really better than another on the same rows, in numbers and in words."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from huiyan.core.config import require
from huiyan.core.errors import ConfigError, ShapeError, closest
from huiyan.evaluation.counts import (
    COUNT_METRICS,
    FloatArray,
    IntArray,
    cells_of,
    checked,
    count_scores,
    pieces,
    resampled,
    tally,
)
from huiyan.evaluation.intervals import Interval, percentile_interval

Verdict = Literal["better", "worse", "undecided"]

LEVEL = 0.95
_IN_WORDS = {"f1": "F1", "mcc": "MCC", "qwk": "quadratic weighted kappa", "r2": "R²"}


@dataclass(frozen=True, slots=True)
class Comparison:
    """What ``compare_paired`` gives: ``difference`` is ours − theirs."""

    metric: str
    difference: float
    interval: Interval
    p_value: float
    verdict: Verdict
    words: str


def compare_paired(
    labels: npt.ArrayLike,
    ours: npt.ArrayLike,
    theirs: npt.ArrayLike,
    *,
    metric: str = "macro_f1",
    name: str,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare two sets of probabilities for the same rows.

    The interval is a paired bootstrap (both are scored on the same drawn rows). The p-value is from an approximate
    randomisation test: if the two were alike, exchanging their answers row by row at random would change nothing. A
    verdict other than "undecided" needs both: p < 0.05 and an interval on one side of 0.

    Source: Noreen 1989, "Computer-Intensive Methods for Testing Hypotheses"; for F1, Yeh 2000, "More accurate tests
    for the statistical significance of result differences".

    Args:
        labels: ``n`` integers, columns of the probabilities.
        ours: ``n c``.
        theirs: ``n c``.
        metric: one of ``COUNT_METRICS`` (all headline numbers except the AUROC).
        name: what to call the other classifier in the sentence.
        n_resamples: resamples and exchanges, each; at least 100.
        seed: the same seed gives the same answer.
    Raises:
        ShapeError, DataError: as ``classification_scores``, or the two are of different shapes.
        ConfigError: ``metric`` is not one that can be compared, or ``n_resamples`` is out of range.
    """
    require(n_resamples >= 100, "n_resamples", "at least 100", n_resamples)
    if metric not in COUNT_METRICS:
        raise ConfigError(f"The metric {metric!r} cannot be compared in pairs.", hint=closest(metric, COUNT_METRICS))
    true, our_scores = checked(labels, ours)
    _, their_scores = checked(labels, theirs)
    if our_scores.shape != their_scores.shape:
        raise ShapeError(
            "Both sets of probabilities must be of the same shape. "
            f"Got {our_scores.shape} and {their_scores.shape} instead."
        )
    pair = _Pair(true, our_scores.argmax(axis=1), their_scores.argmax(axis=1), our_scores.shape[1], metric)
    rng = np.random.default_rng(seed)
    difference = float(pair.difference(pair.counts[None])[0])
    redrawn = [pair.difference(draws) for draws in resampled(pair.counts, n_resamples=n_resamples, rng=rng)]
    interval = percentile_interval(np.concatenate(redrawn), difference, LEVEL)
    exchanged = np.concatenate([pair.exchanged(size, rng) for size in pieces(n_resamples, 2 * len(pair.counts))])
    # The observed arrangement is one of those possible: without the 1s a p-value could be 0.
    p_value = float((1 + np.sum(np.abs(exchanged) >= abs(difference) - 1e-12)) / (1 + n_resamples))
    verdict = verdict_on(interval, p_value)
    words = words_of(metric, difference, interval, p_value, verdict, name=name, n=len(true), alike=pair.alike)
    return Comparison(metric, difference, interval, p_value, verdict, words)


class _Pair:
    """The distinct (label, our answer, their answer) triples of the rows and how often each occurs."""

    def __init__(self, labels: IntArray, ours: IntArray, theirs: IntArray, n_classes: int, metric: str) -> None:
        self.n_classes, self.metric = n_classes, metric
        self.alike = bool((ours == theirs).all())
        (self.actual, self.ours, self.theirs), self.counts = cells_of(labels, ours, theirs, n_classes=n_classes)

    def difference(self, draws: IntArray) -> FloatArray:
        """Ours − theirs for each of ``draws``, ``r k``."""
        ours = tally(draws, self.actual, self.ours, n_classes=self.n_classes)
        theirs = tally(draws, self.actual, self.theirs, n_classes=self.n_classes)
        return count_scores(ours)[self.metric] - count_scores(theirs)[self.metric]

    def exchanged(self, size: int, rng: np.random.Generator) -> FloatArray:
        """Ours − theirs when the two answers to each row change places with probability one half; ``size``."""
        swapped = rng.binomial(self.counts, 0.5, size=(size, len(self.counts)))
        kept = self.counts - swapped
        actual, answers = np.tile(self.actual, 2), np.concatenate([self.ours, self.theirs])
        first = tally(np.hstack([kept, swapped]), actual, answers, n_classes=self.n_classes)
        second = tally(np.hstack([swapped, kept]), actual, answers, n_classes=self.n_classes)
        return count_scores(first)[self.metric] - count_scores(second)[self.metric]


def verdict_on(interval: Interval, p_value: float) -> Verdict:
    """Better or worse where interval and p-value both say so."""
    if p_value < 1 - LEVEL and interval.low > 0:
        return "better"
    if p_value < 1 - LEVEL and interval.high < 0:
        return "worse"
    return "undecided"


def words_of(
    metric: str,
    difference: float,
    interval: Interval,
    p_value: float,
    verdict: Verdict,
    *,
    name: str,
    n: int,
    alike: bool,
) -> str:
    """The comparison as a manager would want to hear it."""
    if alike:
        return f"The model and {name} gave the same answer for each of the {n:,} test rows."
    in_words = " ".join(_IN_WORDS.get(part, part) for part in metric.split("_"))
    size = f"{abs(difference):.3f}" if abs(difference) >= 0.0005 else "less than 0.001"
    side = "higher" if difference > 0 else "lower"
    gap = f"its {in_words} is {size} {side}" if difference else f"its {in_words} is the same"
    span = f"95 % interval of the difference {interval.low:+.3f} to {interval.high:+.3f}"
    chance = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
    if verdict == "undecided":
        leaves_zero_out = not interval.low <= 0 <= interval.high  # and still too much may be chance
        return (
            f"On these {n:,} test rows it cannot be told whether the model or {name} is better: "
            f"{gap} ({span}; {chance}).{' The two tests disagree.' * leaves_zero_out} More test rows would narrow this."
        )
    return f"The model is {verdict} than {name}: {gap} ({span}; {chance}). Chance alone would hardly make such a gap."
