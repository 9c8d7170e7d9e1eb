"""Calibration: what was made sure of beforehand is what is found."""

import numpy as np
import pytest

from huiyan.core.errors import ConfigError
from huiyan.evaluation.calibration import (
    abstention_threshold,
    binomial_interval,
    calibration_of,
    coverage_curve,
    fit_temperature,
)

rng = np.random.default_rng(0)


def drawn(n: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from the softmax of logits, and those logits times the temperature."""
    logits = rng.normal(0, 2, (n, 4))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (probabilities.cumsum(1) < rng.random((n, 1))).sum(1)
    return labels, logits * temperature


def softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    return exponents / exponents.sum(1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_is_found(temperature: float) -> None:
    labels, logits = drawn(20_000, temperature)
    assert fit_temperature(labels, logits) == pytest.approx(temperature, rel=0.05)


def test_calibrated_probabilities_have_a_small_error_and_others_have_not() -> None:
    labels, logits = drawn(20_000, 3.0)
    before, after = calibration_of(labels, softmax(logits)), calibration_of(labels, softmax(logits / 3))
    assert after.ece < 0.02
    assert before.ece > 0.1
    assert after.brier < before.brier and after.nll < before.nll


def test_the_figures_of_a_few_rows_by_hand() -> None:
    found = calibration_of([0, 1, 1], [[0.9, 0.1], [0.4, 0.6], [0.8, 0.2]])
    assert found.ece == pytest.approx((abs(1 - 0.9) + abs(1 - 0.6) + abs(0 - 0.8)) / 3)
    assert found.brier == pytest.approx((2 * 0.01 + 2 * 0.16 + 2 * 0.64) / 3)
    assert found.nll == pytest.approx(-np.log([0.9, 0.6, 0.2]).mean())
    assert [one.rows for one in found.bins] == [1, 1, 1]


def test_confidence_at_the_edge_of_a_bin_belongs_to_the_lower_one() -> None:
    (one,) = calibration_of([0], [[1.0, 0.0]]).bins
    assert one.high == 1.0


def test_the_surest_answers_come_first() -> None:
    curve = coverage_curve([0, 0, 1, 1], [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]])
    assert [(one.threshold, one.coverage, one.accuracy) for one in curve] == [
        (0.6, 1.0, 0.75),
        (0.7, 0.75, pytest.approx(2 / 3)),
        (0.8, 0.5, 1.0),
        (0.9, 0.25, 1.0),
    ]


def test_a_threshold_for_an_accuracy() -> None:
    labels, logits = drawn(20_000, 1.0)
    probabilities = softmax(logits)
    found = abstention_threshold(labels, probabilities, accuracy=0.95)
    assert found is not None
    answered = probabilities.max(1) >= found.threshold
    right = (probabilities.argmax(1) == labels)[answered].mean()
    assert right >= 0.95 and found.accuracy == pytest.approx(right) and found.coverage == pytest.approx(answered.mean())
    assert found.interval.low < 0.95 < found.interval.high
    all_of_them = abstention_threshold(labels, probabilities, accuracy=0.1)
    assert all_of_them is not None and all_of_them.coverage == 1.0


def test_rows_of_one_confidence_are_answered_together() -> None:
    # The first of the equal ones is right, the second is not: no threshold answers the first alone.
    assert abstention_threshold([0, 1], [[0.8, 0.2], [0.8, 0.2]], accuracy=0.9) is None


@pytest.mark.parametrize("accuracy", [0.0, 1.0, 95.0])
def test_an_accuracy_is_a_share(accuracy: float) -> None:
    with pytest.raises(ConfigError, match="abstain_at"):
        abstention_threshold([0], [[1.0, 0.0]], accuracy=accuracy)


def test_the_exact_interval() -> None:
    # Clopper and Pearson's own table: 8 of 10.
    found = binomial_interval(8, 10)
    assert (found.low, found.high) == pytest.approx((0.4439, 0.9748), abs=1e-4)
    assert binomial_interval(0, 5).low == 0.0 and binomial_interval(5, 5).high == 1.0


def test_the_confidence_of_an_answer_that_is_not_the_likeliest_is_its_own() -> None:
    probabilities, labels, chosen = np.array([[0.4, 0.25, 0.35]] * 4), [1, 1, 0, 0], [1] * 4
    (found,) = calibration_of(labels, probabilities, chosen).bins
    assert (found.confidence, found.accuracy) == (0.25, 0.5)
    assert coverage_curve(labels, probabilities, chosen)[0].accuracy == 0.5
    assert calibration_of(labels, probabilities).bins[0].confidence == 0.4
