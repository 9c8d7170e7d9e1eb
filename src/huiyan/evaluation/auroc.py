"""The area under the ROC curve, one class against the rest, averaged over classes: once, or for many resamples.

The area of a class is the share of (row of the class, other row) pairs whose scores stand in the right order; a tie
counts one half. Scores are sorted once; each resample is then a running sum of row weights in that order.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from huiyan.evaluation.counts import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class _Ranking:
    """One class's rows in order of score, and for each row of the class where its ties begin and end."""

    others: IntArray  # rows of the other classes, by score
    own: IntArray  # rows of the class, by score
    below: IntArray  # for each of `own`: how many of `others` score less
    not_above: IntArray  # for each of `own`: how many of `others` score less or the same


def macro_auroc(labels: IntArray, probabilities: FloatArray) -> float | None:
    """The mean area over the classes that have both rows of their own and other rows; None when no class has.

    Args:
        labels: ``n``.
        probabilities: ``n c``.
    """
    value = float(resampled_auroc(labels, probabilities, np.ones((1, len(labels))))[0])
    return None if np.isnan(value) else value


def resampled_auroc(labels: IntArray, probabilities: FloatArray, weights: npt.NDArray[Any]) -> FloatArray:
    """The same for each of ``r`` resamples.

    Args:
        labels: ``n``.
        probabilities: ``n c``.
        weights: how often each row was drawn, ``r n``.
    Returns:
        ``r``; NaN where no class of the resample has both rows of its own and other rows.
    """
    total, defined = np.zeros(len(weights)), np.zeros(len(weights))
    for column in np.unique(labels):
        ranking = _rank(labels == column, probabilities[:, column])
        own = weights[:, ranking.own]
        passed = np.zeros((len(weights), len(ranking.others) + 1))
        np.cumsum(weights[:, ranking.others], axis=1, out=passed[:, 1:])
        pairs = own.sum(axis=1) * passed[:, -1]
        # The mean of "less" and "less or the same" counts a tie one half.
        right = (own * (passed[:, ranking.below] + passed[:, ranking.not_above])).sum(axis=1) / 2
        usable = pairs > 0
        total[usable] += right[usable] / pairs[usable]
        defined += usable
    return np.divide(total, defined, out=np.full(len(weights), np.nan), where=defined > 0)


def auroc_standard_error(labels: IntArray, probabilities: FloatArray) -> float:
    """The standard error of ``macro_auroc`` over draws of rows, from each row's influence; for many rows.

    Source: DeLong et al. 1988, "Comparing the areas under two or more correlated receiver operating characteristic
    curves". Differs: the structural components are averaged over the classes row by row, so that the classes'
    covariance is counted, and the number of rows of each class is random, as it is when rows are drawn.
    """
    n = len(labels)
    influence, n_defined = np.zeros(n), 0
    for column in np.unique(labels):
        ranking = _rank(labels == column, probabilities[:, column])
        n_own, n_others = len(ranking.own), len(ranking.others)
        if not n_others:
            continue
        above_others = (ranking.below + ranking.not_above) / (2 * n_others)
        own_scores = probabilities[ranking.own, column]
        other_scores = probabilities[ranking.others, column]
        under_own = 1 - (
            np.searchsorted(own_scores, other_scores) + np.searchsorted(own_scores, other_scores, "right")
        ) / (2 * n_own)
        area = above_others.mean()
        influence[ranking.own] += (above_others - area) * n / n_own
        influence[ranking.others] += (under_own - area) * n / n_others
        n_defined += 1
    return float(np.sqrt(np.mean((influence / max(1, n_defined)) ** 2) / n))


def _rank(is_own: npt.NDArray[np.bool_], scores: FloatArray) -> _Ranking:
    order = np.argsort(scores, kind="stable")
    own, others = order[is_own[order]], order[~is_own[order]]
    return _Ranking(
        others=others,
        own=own,
        below=np.searchsorted(scores[others], scores[own]),
        not_above=np.searchsorted(scores[others], scores[own], "right"),
    )
