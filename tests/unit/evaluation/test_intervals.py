import numpy as np
import pytest

from huiyan.core.errors import ConfigError, DataError
from huiyan.evaluation import intervals
from huiyan.evaluation.intervals import bootstrap_intervals, percentile_interval
from huiyan.evaluation.metrics import HEADLINE, classification_scores


def noisy_rows(n, prior, right, rng):
    """Rows whose answers are right with one probability, and otherwise any other class."""
    n_classes = len(prior)
    labels = rng.choice(n_classes, n, p=prior)
    slips = rng.integers(1, n_classes, n)
    answers = np.where(rng.random(n) < right, labels, (labels + slips) % n_classes)
    return labels, np.eye(n_classes)[answers]


@pytest.mark.parametrize(("n", "n_classes"), [(80, 3), (250, 20)])
def test_about_95_in_100_intervals_hold_the_truth(n, n_classes):
    # 20 classes of falling frequency are what plain percentiles fail (82 % at 200 rows).
    rng = np.random.default_rng(5)
    prior = 1 / np.arange(1, n_classes + 1)
    prior /= prior.sum()
    truth = classification_scores(*noisy_rows(200_000, prior, 0.72, rng), ["-"] * n_classes).headline()
    held = {"accuracy": 0, "macro_f1": 0, "mcc": 0}
    for _ in range(150):
        got = bootstrap_intervals(*noisy_rows(n, prior, 0.72, rng), n_resamples=300)
        for name in held:
            held[name] += got[name].low <= truth[name] <= got[name].high
    assert all(0.89 <= number / 150 <= 0.99 for number in held.values()), held


def test_every_headline_number_has_one_around_it_and_the_seed_fixes_it():
    rng = np.random.default_rng(0)
    labels, probabilities = rng.integers(0, 3, 100), rng.random((100, 3))
    got = bootstrap_intervals(labels, probabilities, seed=4)
    values = classification_scores(labels, probabilities, ["a", "b", "c"]).headline()
    assert set(got) == set(HEADLINE)
    for name, value in values.items():
        assert got[name].low < value < got[name].high, name
        assert got[name].level == 0.95
    assert got == bootstrap_intervals(labels, probabilities, seed=4)
    assert got != bootstrap_intervals(labels, probabilities, seed=5)


def test_more_rows_and_less_certainty_are_narrower():
    rng = np.random.default_rng(0)
    labels, probabilities = noisy_rows(1600, [0.5, 0.5], 0.8, rng)

    def width(interval):
        return interval.high - interval.low

    few = bootstrap_intervals(labels[:100], probabilities[:100])
    many = bootstrap_intervals(labels, probabilities)
    for name in ("accuracy", "macro_f1", "mcc", "auroc"):
        assert width(many[name]) < width(few[name]) / 2
        assert width(bootstrap_intervals(labels, probabilities, level=0.8)[name]) < width(many[name])


@pytest.mark.parametrize("n", [2, 70])
def test_perfect_answers_do_not_make_a_certain_model(n):
    labels = np.arange(n) % 2
    got = bootstrap_intervals(labels, np.eye(2)[labels])
    # The exact binomial (Clopper-Pearson) bound when all of n are right.
    bound = 0.025 ** (1 / n)
    assert (got["accuracy"].low, got["accuracy"].high) == (pytest.approx(bound), 1.0)
    assert got["mcc"].low == pytest.approx(1 - 2 * (1 - bound))
    assert got["auroc"].low == pytest.approx(bound)
    wrong = bootstrap_intervals(labels, np.eye(2)[1 - labels])
    assert (wrong["accuracy"].low, wrong["accuracy"].high) == (0.0, pytest.approx(1 - bound))
    assert wrong["mcc"].low == -1.0


def test_no_auroc_no_interval():
    got = bootstrap_intervals([0, 0, 0], np.full((3, 2), 0.5))
    assert got["auroc"] is None
    assert got["accuracy"] is not None


def test_the_normal_limit_of_the_auroc_agrees_with_its_bootstrap(monkeypatch):
    rng = np.random.default_rng(1)
    labels, probabilities = rng.integers(0, 3, 1500), rng.random((1500, 3))
    probabilities[np.arange(1500), labels] += 0.3
    drawn = bootstrap_intervals(labels, probabilities)["auroc"]
    monkeypatch.setattr(intervals, "_MAX_AUROC_WORK", 0)
    limit = bootstrap_intervals(labels, probabilities)["auroc"]
    assert (limit.low, limit.high) == (pytest.approx(drawn.low, abs=2e-3), pytest.approx(drawn.high, abs=2e-3))
    assert limit != drawn


def test_the_interval_moves_against_the_bias_of_the_resamples():
    rng = np.random.default_rng(0)
    low_drift = percentile_interval(rng.normal(-1, 1, 20_000), 0.0, 0.95)
    assert (low_drift.low, low_drift.high) == (pytest.approx(-0.96, abs=0.1), pytest.approx(2.96, abs=0.6))
    unbiased = percentile_interval(rng.normal(0, 1, 20_000), 0.0, 0.95)
    assert (unbiased.low, unbiased.high) == (pytest.approx(-1.96, abs=0.1), pytest.approx(1.96, abs=0.1))


@pytest.mark.parametrize(("option", "value"), [("n_resamples", 99), ("level", 1.0), ("level", 0.2)])
def test_options_out_of_range_are_refused(option, value):
    with pytest.raises(ConfigError, match=f"The {option} option must be"):
        bootstrap_intervals([0], [[1.0]], **{option: value})


def test_nan_is_refused():
    with pytest.raises(DataError, match="finite"):
        bootstrap_intervals([0], [[np.nan, 1.0]])
