"""Scores that follow from sums over rows, with bootstrap intervals and paired comparisons for any of them.

Whatever is a function of sums (F1 over several labels, R², a correlation) is resampled by resampling rows of addends:
drawing rows with replacement is one matrix product of how often each was drawn and what each adds.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from huiyan.core.config import require
from huiyan.evaluation.comparison import LEVEL, Comparison, verdict_on, words_of
from huiyan.evaluation.counts import FloatArray, pieces
from huiyan.evaluation.intervals import Interval, percentile_interval

_MOST_DRAWS = 100_000_000
_FEWEST_RESAMPLES = 200
_MOST_NUMBERS = 2_000_000


@dataclass(frozen=True)
class Addends:
    """What rows add to sums, and the scores that follow from the sums.

    Args:
        rows: ``n k``, of any type of number.
        scores: sums ``r k`` in float64 → each score, ``r``.
    """

    rows: npt.NDArray[Any]
    scores: Callable[[FloatArray], dict[str, FloatArray]]

    def whole(self) -> FloatArray:
        """The sums of all rows, ``1 k``."""
        return self.rows.sum(axis=0, keepdims=True, dtype=np.float64)

    def sums(self, weights: FloatArray) -> FloatArray:
        """The sums ``r k`` where each row counts as ``weights``, ``r n``, say; a few rows at a time in float64."""
        step = max(1, _MOST_NUMBERS // self.rows.shape[1])
        found = np.zeros((len(weights), self.rows.shape[1]))
        for start in range(0, len(self.rows), step):
            found += weights[:, start : start + step] @ self.rows[start : start + step].astype(np.float64)
        return found

    def observed(self) -> dict[str, float]:
        """The scores of all rows."""
        return {name: float(value[0]) for name, value in self.scores(self.whole()).items()}


def sum_intervals(
    addends: Addends, *, n_resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """A bootstrap interval for every score, as ``bootstrap_intervals`` gives for one label a text.

    Of more than 50,000 rows fewer resamples are drawn, never under 200.

    Args:
        addends: of the test rows.
        n_resamples: how many resamples, at least 100.
        level: the share of such intervals that should hold the true value.
        seed: the same seed gives the same intervals.
    Raises:
        ConfigError: ``n_resamples`` or ``level`` is out of range.
    """
    require(n_resamples >= 100, "n_resamples", "at least 100", n_resamples)
    require(0.5 <= level < 1, "level", "at least 0.5 and below 1", level)
    observed, drawn = addends.observed(), dict[str, list[FloatArray]]()
    for weights in _draws(len(addends.rows), n_resamples, np.random.default_rng(seed)):
        for name, values in addends.scores(addends.sums(weights)).items():
            drawn.setdefault(name, []).append(values)
    return {name: percentile_interval(np.concatenate(values), observed[name], level) for name, values in drawn.items()}


def compare_sums(
    ours: Addends, theirs: Addends, *, metric: str, name: str, n_resamples: int = 2000, seed: int = 0
) -> Comparison:
    """Compare two answers to the same rows in one score, higher being better, as ``compare_paired`` does.

    Source: as there, Noreen 1989 and Yeh 2000.

    Args:
        ours: of one.
        theirs: of the other, for the same rows in the same order.
        metric: one of the scores.
        name: what to call the other in the sentence.
        n_resamples: resamples and exchanges, each; at least 100.
        seed: the same seed gives the same answer.
    """
    require(n_resamples >= 100, "n_resamples", "at least 100", n_resamples)
    rng, n = np.random.default_rng(seed), len(ours.rows)
    difference = ours.observed()[metric] - theirs.observed()[metric]
    redrawn = [
        ours.scores(ours.sums(weights))[metric] - theirs.scores(theirs.sums(weights))[metric]
        for weights in _draws(n, n_resamples, rng)
    ]
    interval = percentile_interval(np.concatenate(redrawn), difference, LEVEL)
    exchanged: list[FloatArray] = []
    for size in pieces(_affordable(n_resamples, n), n):
        swapped = (rng.random((size, n)) < 0.5).astype(np.float64)
        moved = theirs.sums(swapped) - ours.sums(swapped)
        one, other = ours.scores(ours.whole() + moved)[metric], theirs.scores(theirs.whole() - moved)[metric]
        exchanged.append(one - other)
    drawn = np.concatenate(exchanged)
    p_value = float((1 + np.sum(np.abs(drawn) >= abs(difference) - 1e-12)) / (1 + len(drawn)))
    verdict = verdict_on(interval, p_value)
    alike = bool((ours.rows == theirs.rows).all())
    words = words_of(metric, difference, interval, p_value, verdict, name=name, n=n, alike=alike)
    return Comparison(metric, difference, interval, p_value, verdict, words)


def _affordable(n_resamples: int, n: int) -> int:
    return min(n_resamples, max(_FEWEST_RESAMPLES, _MOST_DRAWS // max(1, n)))


def _draws(n: int, n_resamples: int, rng: np.random.Generator) -> Iterator[FloatArray]:
    """How often each row was drawn in each resample: pieces ``r n``."""
    for size in pieces(_affordable(n_resamples, n), n):
        rows = rng.integers(0, n, (size, n)) + np.arange(size)[:, None] * n
        yield np.bincount(rows.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)
