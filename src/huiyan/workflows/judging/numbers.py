"""Judging numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from huiyan.core.decision import Decision
from huiyan.data.examples import Examples
from huiyan.data.sample import spread
from huiyan.evaluation.baselines import run_number_baselines
from huiyan.evaluation.numbers import number_addends
from huiyan.evaluation.sums import compare_sums, sum_intervals
from huiyan.text.scripts import mostly_han
from huiyan.workflows.config import AnswersConfig
from huiyan.workflows.judging.judge import Answers, Judge, baseline_entry, with_intervals

SHOWN_POINTS = 400


class NumberJudge(Judge):
    """A number."""

    metrics = ("r2", "spearman", "loss")
    told = ("r2", "mae", "spearman")

    def loss(self, targets: np.ndarray, raw: np.ndarray) -> float:
        """Mean squared error, in standard deviations squared, as the training loss is."""
        return float(np.square((raw[:, 0] - targets) / self.task.untrained_decision.scale).mean())

    def scores(self, targets: np.ndarray, answers: Answers) -> dict[str, float]:
        """R², errors, correlations."""
        return number_addends(targets, answers.chosen).observed()

    def fit(self, targets: np.ndarray, logits: np.ndarray, config: AnswersConfig) -> Decision:
        """Nothing is fitted."""
        self.check(config)
        return self.task.untrained_decision

    def figures(self, targets: np.ndarray, answers: Answers, *, seed: int = 0) -> dict[str, Any]:
        """Figures, and points to be drawn."""
        addends = number_addends(targets, answers.chosen)
        points = list(zip(targets.tolist(), answers.chosen.tolist(), strict=True))
        return {
            "rows": len(targets),
            "metrics": with_intervals({**addends.observed()}, {**sum_intervals(addends, seed=seed)}),
            "points": spread(points, SHOWN_POINTS),
        }

    def calibration(self, targets: np.ndarray, answers: Answers, decision: Decision) -> dict[str, Any] | None:
        """Numbers have no probability."""
        return None

    def baselines(
        self, pairs: Sequence[tuple[Examples, Examples]], answers: Answers, *, seed: int = 0
    ) -> list[dict[str, Any]]:
        """The mean, and ridge regression on TF-IDF."""
        targets = np.concatenate([self.task.targets(test.labels) for _, test in pairs])
        each = [
            run_number_baselines(
                known.plain,
                self.task.targets(known.labels),
                test.plain,
                chinese=mostly_han(known.plain),
                seed=seed,
            )
            for known, test in pairs
        ]
        described: list[dict[str, Any]] = []
        for parts in zip(*each, strict=True):
            values = np.concatenate([part.probabilities for part in parts])
            theirs = Answers(values, values, values[:, 0], np.ones(len(values), dtype=bool))
            compared = compare_sums(
                number_addends(targets, answers.chosen),
                number_addends(targets, theirs.chosen),
                metric="r2",
                name=parts[0].name,
                seed=seed,
            )
            metrics = self.figures(targets, theirs, seed=seed)["metrics"]
            described.append(baseline_entry(parts[0].name, parts[0].description, metrics, compared))
        return described

    def wrongness(self, targets: np.ndarray, answers: Answers) -> np.ndarray:
        """How far off."""
        return np.abs(answers.chosen - targets)

    def answer_columns(self, answers: Answers) -> list[dict[str, Any]]:
        """The number."""
        return [{"prediction": f"{value:.6g}"} for value in answers.chosen.tolist()]
