"""Intervals and comparisons of scores that follow from sums."""

import numpy as np
import pytest

from huiyan.core.errors import ConfigError
from huiyan.evaluation import sums
from huiyan.evaluation.numbers import number_addends
from huiyan.evaluation.several import set_addends
from huiyan.evaluation.sums import compare_sums, sum_intervals


def sample(seed: int, n: int = 150) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = rng.normal(size=n)
    return true, 0.8 * true + 0.6 * rng.normal(size=n)


def test_intervals_hold_the_true_value_about_as_often_as_they_say() -> None:
    held = [
        interval.low <= 0.8 <= interval.high
        for interval in (sum_intervals(number_addends(*sample(s)), n_resamples=300)["pearson"] for s in range(120))
    ]
    assert 0.88 <= np.mean(held) <= 0.995


def test_the_same_seed_gives_the_same_interval() -> None:
    addends = number_addends(*sample(0))
    assert sum_intervals(addends, seed=4) == sum_intervals(addends, seed=4) != sum_intervals(addends, seed=5)
    with pytest.raises(ConfigError, match="n_resamples"):
        sum_intervals(addends, n_resamples=10)


def test_sums_are_the_same_a_few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    addends = set_addends(rng.random((100, 7)) < 0.3, rng.random((100, 7)) < 0.3)
    weights = rng.integers(0, 3, (5, 100)).astype(np.float64)
    monkeypatch.setattr(sums, "_MOST_NUMBERS", 250)  # eleven rows
    np.testing.assert_allclose(addends.sums(weights), weights @ addends.rows.astype(np.float64))
    assert addends.rows.itemsize == 1


def test_better_worse_and_undecided() -> None:
    true, given = sample(1)
    worse = given + np.random.default_rng(2).normal(size=150)
    one, other = number_addends(true, given), number_addends(true, worse)
    better = compare_sums(one, other, metric="r2", name="the other")
    assert better.verdict == "better" and better.interval.low > 0 and better.p_value < 0.01
    assert "better than the other: its R² is" in better.words
    assert compare_sums(other, one, metric="r2", name="x").verdict == "worse"
    assert "the same answer" in compare_sums(one, one, metric="r2", name="x").words


def test_two_of_one_kind_are_rarely_told_apart() -> None:
    rng, verdicts = np.random.default_rng(0), []
    for _ in range(60):
        true = rng.normal(size=80)
        one, other = (number_addends(true, true + rng.normal(size=80)) for _ in range(2))
        verdicts.append(compare_sums(one, other, metric="r2", name="x", n_resamples=200).verdict)
    assert verdicts.count("undecided") >= 52
