"""The scores of numbers and ranks, against scikit-learn and scipy."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from huiyan.core.errors import DataError, ShapeError
from huiyan.evaluation.numbers import number_addends, rank_addends
from huiyan.evaluation.sums import sum_intervals

RNG = np.random.default_rng(5)
TRUE = RNG.normal(size=300) * 7 + 1000
GIVEN = TRUE + RNG.normal(size=300) * 4 + 1


def test_scores_of_numbers() -> None:
    found = number_addends(TRUE, GIVEN).observed()
    assert found["r2"] == pytest.approx(metrics.r2_score(TRUE, GIVEN))
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(TRUE, GIVEN))
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(TRUE, GIVEN))
    assert found["pearson"] == pytest.approx(stats.pearsonr(TRUE, GIVEN).statistic)
    assert found["spearman"] == pytest.approx(stats.spearmanr(TRUE, GIVEN).statistic)


def test_always_the_mean_explains_nothing_and_orders_nothing() -> None:
    found = number_addends(TRUE, np.full(300, TRUE.mean())).observed()
    assert found["r2"] == pytest.approx(0, abs=1e-9) and found["spearman"] == found["pearson"] == 0


def test_equal_targets_have_nothing_to_explain() -> None:
    for true, given in (([3.0] * 5, [100.0] * 5), ([0.1] * 7, [0.1] * 7), ([7.0], [6.0])):
        assert number_addends(true, given).observed()["r2"] == metrics.r2_score([*true, *true], [*given, *given])
    # Nor has a resample that drew one row alone, again and again.
    found = sum_intervals(number_addends([3.0, 4.0], [100.0, -50.0]))["r2"]
    assert found.high <= 0 and np.isfinite(found.low)


def test_scores_of_ranks() -> None:
    true, given = RNG.integers(0, 5, 200), RNG.integers(0, 5, 200)
    given = np.where(RNG.random(200) < 0.6, true, given)
    found = rank_addends(true, given).observed()
    assert found["qwk"] == pytest.approx(metrics.cohen_kappa_score(true, given, weights="quadratic"))
    assert found["mae"] == pytest.approx(np.abs(true - given).mean())
    assert found["within_one"] == pytest.approx((np.abs(true - given) <= 1).mean())
    assert rank_addends([1, 1], [1, 1]).observed()["qwk"] == 0  # nothing to agree upon


def test_what_cannot_be_scored() -> None:
    with pytest.raises(ShapeError, match=r"both be \(n,\)"):
        number_addends([1.0], [[1.0]])
    with pytest.raises(DataError, match="finite"):
        number_addends([np.nan], [1.0])
    with pytest.raises(DataError, match="nothing to score"):
        number_addends([], [])
