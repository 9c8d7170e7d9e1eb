"""How a trained model's logits become answers: fitted on the validation rows, measured once on the test rows."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from huiyan.core.decision import Decision
from huiyan.evaluation.calibration import (
    Coverage,
    abstention_threshold,
    binomial_interval,
    calibration_of,
    coverage_curve,
    fit_temperature,
    precision_thresholds,
)
from huiyan.workflows.config import AnswersConfig


def fit_decision(labels: np.ndarray, logits: np.ndarray, config: AnswersConfig) -> Decision:
    """Fit the temperature, and the thresholds if answers are wanted only where they are sure.

    Args:
        labels: class indices of the validation rows, `n`.
        logits: theirs, `n c`.
        config: how sure.
    """
    decision = Decision(temperature=fit_temperature(labels, logits))
    found = thresholds_of(labels, decision.outputs(logits), config)
    thresholds = tuple(None if one is None else one.threshold for one in found)
    return Decision(temperature=decision.temperature, thresholds=thresholds)


def thresholds_of(labels: np.ndarray, probabilities: np.ndarray, config: AnswersConfig) -> list[Coverage | None]:
    """What each class needs to be said, with what that gives on these rows; empty when every answer is."""
    if config.abstain_at is not None:
        return [abstention_threshold(labels, probabilities, accuracy=config.abstain_at)] * probabilities.shape[1]
    if config.label_precision is not None:
        return precision_thresholds(labels, probabilities, precision=config.label_precision)
    return []


def measure_decision(
    labels: np.ndarray,
    raw: np.ndarray,
    probabilities: np.ndarray,
    chosen: np.ndarray,
    is_sure: np.ndarray,
    decision: Decision,
) -> dict[str, Any]:
    """The ``calibration`` part of the report, on rows that nothing was fitted on.

    Args:
        labels: class indices, `n`.
        raw: probabilities before the temperature, `n c`.
        probabilities: after it, `n c`.
        chosen: the answers, class indices `n`.
        is_sure: whether the answer is said, `n`.
        decision: that of the model that is kept.
    Returns:
        ``temperature``; ``before`` and ``after`` it: ECE, Brier score, NLL and the reliability diagram; ``coverage``:
        accuracy among the surest answers; and, with thresholds, ``answered``.
    """
    measured: dict[str, Any] = {
        "temperature": decision.temperature,
        "before": asdict(calibration_of(labels, raw, decision.choose(raw))),
        "after": asdict(calibration_of(labels, probabilities, chosen)),
        "coverage": [asdict(one) for one in coverage_curve(labels, probabilities, chosen)],
    }
    if decision.thresholds:
        measured["answered"] = answered(labels, chosen, is_sure) | {"thresholds": list(decision.thresholds)}
    return measured


def answered(labels: np.ndarray, chosen: np.ndarray, is_sure: np.ndarray) -> dict[str, Any]:
    """How many rows get an answer, and how many of those answers are right, with the exact 95 % interval."""
    right = int((chosen == labels)[is_sure].sum())
    rows = int(is_sure.sum())
    interval = binomial_interval(right, rows) if rows else None
    return {
        "rows": rows,
        "coverage": rows / len(labels),
        "accuracy": right / rows if rows else None,
        "low": None if interval is None else interval.low,
        "high": None if interval is None else interval.high,
    }


def abstention_warnings(decision: Decision, classes: Sequence[str], config: AnswersConfig) -> list[str]:
    """What to say of classes that no confidence makes sure enough."""
    never = [name for name, threshold in zip(classes, decision.thresholds, strict=False) if threshold is None]
    if not never:
        return []
    if config.abstain_at is not None:
        warning = (
            f"On the validation rows no confidence gives answers of which {config.abstain_at:.1%} are right, so the "
            "model answers none. Wish for less with --abstain-at, or train a better model."
        )
        return [warning]
    names = ", ".join(map(repr, never[:5])) + (f" and {len(never) - 5} more" if len(never) > 5 else "")
    warning = (
        f"On the validation rows no confidence makes {config.label_precision:.1%} of the answers right for these "
        f"labels, so they are never said: {names}."
    )
    return [warning]
