"""The scores of answers that are numbers, or ranks."""

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from huiyan.core.errors import DataError, ShapeError
from huiyan.evaluation.counts import FloatArray, divided
from huiyan.evaluation.sums import Addends

_ROUNDING = 1e-12


def checked_numbers(targets: npt.ArrayLike, values: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Targets and values, ``n`` each, as float64.

    Raises:
        ShapeError: they are not both ``n``.
        DataError: there is none, or one is not finite.
    """
    true, given = np.asarray(targets, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if true.ndim != 1 or true.shape != given.shape:
        raise ShapeError(f"Targets and values must both be (n,). Got {true.shape} and {given.shape} instead.")
    if not len(true):
        raise DataError("There is nothing to score: the test rows are none.")
    if not (np.isfinite(true).all() and np.isfinite(given).all()):
        raise DataError("Every target and every value must be a finite number.")
    return true, given


def number_addends(targets: npt.ArrayLike, values: npt.ArrayLike) -> Addends:
    """What rows add to the scores of numbers.

    ``r2`` is the share of the variance explained (of equal targets 0, or 1 if all are met), ``rmse`` and ``mae`` are in
    the numbers' own unit, ``pearson`` and ``spearman`` are correlations. Ranks, for the latter, are those among all
    rows, in every resample.

    Args:
        targets: ``n``.
        values: ``n``.
    """
    true, given = checked_numbers(targets, values)
    middle = true.mean()
    rows = np.column_stack(
        [
            np.ones(len(true)),
            np.abs(given - true),
            np.square(given - true),
            *_moments(true - middle, given - middle),
            *_moments(*(rankdata(one) - (len(true) + 1) / 2 for one in (true, given))),
        ]
    )

    def scores(sums: FloatArray) -> dict[str, FloatArray]:
        n = sums[:, 0]
        squared = sums[:, 2] / n
        second = sums[:, 4] / n
        variance = second - np.square(sums[:, 3] / n)
        varies = variance > _ROUNDING * second  # else all are equal, in these rows or in this resample
        return {
            "r2": np.where(varies, 1 - divided(squared, variance), (squared == 0).astype(np.float64)),
            "rmse": np.sqrt(squared),
            "mae": sums[:, 1] / n,
            "pearson": _correlation(n, sums[:, 3:8]),
            "spearman": _correlation(n, sums[:, 8:13]),
        }

    return Addends(rows, scores)


def rank_addends(targets: npt.ArrayLike, ranks: npt.ArrayLike) -> Addends:
    """What rows add to the scores of ranks: ``qwk``, ``mae`` in ranks, and ``within_one``.

    Source: quadratic weighted kappa, Cohen 1968; by sums, 1 − Σ(i − j)²/n / (E i² + E j² − 2 E i E j).

    Args:
        targets: ranks from 0, ``n``.
        ranks: those given, ``n``.
    """
    true, given = checked_numbers(targets, ranks)
    apart = np.abs(given - true)
    within = (apart <= 1).astype(np.float64)
    rows = np.column_stack([np.ones(len(true)), apart, within, *_moments(true, given)])

    def scores(sums: FloatArray) -> dict[str, FloatArray]:
        n = sums[:, 0]
        x, xx, y, yy, xy = (sums[:, 3 + part] / n for part in range(5))
        chance = xx + yy - 2 * x * y
        return {
            "qwk": np.where(chance > 0, 1 - divided(xx + yy - 2 * xy, chance), 0.0),
            "mae": sums[:, 1] / n,
            "within_one": sums[:, 2] / n,
        }

    return Addends(rows, scores)


def _moments(x: FloatArray, y: FloatArray) -> tuple[FloatArray, ...]:
    return x, x * x, y, y * y, x * y


def _correlation(n: FloatArray, sums: FloatArray) -> FloatArray:
    x, xx, y, yy, xy = (sums[:, part] / n for part in range(5))
    spread = np.sqrt(np.maximum(xx - x * x, 0) * np.maximum(yy - y * y, 0))
    return np.clip(divided(xy - x * y, spread), -1, 1)
