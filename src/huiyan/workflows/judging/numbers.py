"""Judging numbers."""

from typing import Any

import numpy as np

from huiyan.core.decision import Decision
from huiyan.data.cells import cell_text
from huiyan.data.sample import spread
from huiyan.evaluation.baselines import Baseline, run_number_baselines
from huiyan.evaluation.numbers import number_addends
from huiyan.evaluation.sums import Addends, sum_intervals
from huiyan.workflows.config import AnswersConfig
from huiyan.workflows.judging.judge import Answers, with_intervals
from huiyan.workflows.judging.summed import SummedJudge

SHOWN_POINTS = 400


class NumberJudge(SummedJudge):
    """A number."""

    metrics = ("r2", "spearman", "loss")
    told = ("r2", "mae", "spearman")
    compared_by = "r2"
    run_baselines = staticmethod(run_number_baselines)

    def addends(self, targets: np.ndarray, answers: Answers) -> Addends:
        """Of R², errors and correlations."""
        return number_addends(targets, answers.chosen)

    def of_baseline(self, baseline: Baseline) -> Answers:
        """Its numbers."""
        outputs = baseline.probabilities
        return Answers(outputs, outputs, outputs[:, 0], np.ones(len(outputs), dtype=bool))

    def loss(self, targets: np.ndarray, raw: np.ndarray) -> float:
        """Mean squared error, in standard deviations squared, as the training loss is."""
        return float(np.square((raw[:, 0] - targets) / self.task.untrained_decision.scale).mean())

    def fit(self, targets: np.ndarray, logits: np.ndarray, config: AnswersConfig) -> Decision:
        """Nothing is fitted."""
        self.check(config)
        return self.task.untrained_decision

    def figures(self, targets: np.ndarray, answers: Answers, *, seed: int = 0) -> dict[str, Any]:
        """Figures, and points to be drawn."""
        addends = self.addends(targets, answers)
        points = list(zip(targets.tolist(), answers.chosen.tolist(), strict=True))
        return {
            "rows": len(targets),
            "metrics": with_intervals({**addends.observed()}, {**sum_intervals(addends, seed=seed)}),
            "points": spread(points, SHOWN_POINTS),
        }

    def calibration(self, targets: np.ndarray, answers: Answers, decision: Decision) -> dict[str, Any] | None:
        """Numbers have no probability."""
        return None

    def wrongness(self, targets: np.ndarray, answers: Answers) -> np.ndarray:
        """How far off."""
        return np.abs(answers.chosen - targets)

    def answer_columns(self, answers: Answers) -> list[dict[str, Any]]:
        """The number."""
        return [{"prediction": f"{value:.6g}"} for value in answers.chosen.tolist()]

    def cells(self, answers: Answers) -> list[str]:
        """The number, with what digits it has."""
        return [cell_text(float(f"{value:.9g}")) for value in answers.chosen.tolist()]
