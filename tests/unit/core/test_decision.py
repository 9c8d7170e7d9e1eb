"""From logits to an answer."""

import json

import numpy as np
import pytest

from huiyan.core.decision import Decision
from huiyan.core.errors import ConfigError


def test_probabilities_are_the_softmax() -> None:
    probabilities = Decision().outputs(np.array([[0.0, np.log(3.0)], [1000.0, 1000.0]]))
    np.testing.assert_allclose(probabilities, [[0.25, 0.75], [0.5, 0.5]])


def test_temperature_divides_the_logits() -> None:
    logits = np.array([[1.0, -2.0, 0.5]])
    np.testing.assert_allclose(Decision(temperature=2.0).outputs(logits), Decision().outputs(logits / 2))


def test_the_most_probable_class_is_chosen() -> None:
    assert Decision().choose(np.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]])).tolist() == [1, 0]


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf")])
def test_a_temperature_is_positive(temperature: float) -> None:
    with pytest.raises(ConfigError, match="temperature option must be a positive number"):
        Decision(temperature=temperature)


def test_without_thresholds_every_answer_is_sure() -> None:
    assert Decision().is_sure(np.array([[0.5, 0.5], [0.1, 0.9]])).tolist() == [True, True]


def test_each_class_has_its_own_threshold() -> None:
    decision = Decision(thresholds=(0.6, 0.9, None))
    probabilities = np.array([[0.6, 0.3, 0.1], [0.59, 0.4, 0.01], [0.2, 0.8, 0.0], [0.05, 0.95, 0.0], [0.0, 0.0, 1.0]])
    assert decision.is_sure(probabilities).tolist() == [True, False, False, True, False]


def test_it_survives_json() -> None:
    decision = Decision(temperature=1.5, thresholds=(0.5, None))
    assert Decision.from_dict(json.loads(json.dumps(decision.to_dict()))) == decision


@pytest.mark.parametrize("thresholds", [(1.2,), (-0.1, 0.5)])
def test_a_threshold_is_a_probability(thresholds: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="thresholds option must be numbers from 0 to 1"):
        Decision(thresholds=thresholds)
