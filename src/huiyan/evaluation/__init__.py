"""Evaluation: arrays in, numbers out. Scores, their intervals, baselines, and whether a difference is real."""

from typing import TYPE_CHECKING

from huiyan.core.lazy import lazy_exports

if TYPE_CHECKING:
    from huiyan.evaluation.baselines import Baseline, run_baselines
    from huiyan.evaluation.comparison import Comparison, compare_paired
    from huiyan.evaluation.intervals import Interval, bootstrap_intervals
    from huiyan.evaluation.metrics import ClassificationScores, ClassScores, classification_scores

__all__ = [
    "Baseline",
    "ClassScores",
    "ClassificationScores",
    "Comparison",
    "Interval",
    "bootstrap_intervals",
    "classification_scores",
    "compare_paired",
    "run_baselines",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Baseline": "huiyan.evaluation.baselines",
        "ClassScores": "huiyan.evaluation.metrics",
        "ClassificationScores": "huiyan.evaluation.metrics",
        "Comparison": "huiyan.evaluation.comparison",
        "Interval": "huiyan.evaluation.intervals",
        "bootstrap_intervals": "huiyan.evaluation.intervals",
        "classification_scores": "huiyan.evaluation.metrics",
        "compare_paired": "huiyan.evaluation.comparison",
        "run_baselines": "huiyan.evaluation.baselines",
    },
)
