"""Judging one label of several, with and without an order."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from huiyan.core.decision import Decision
from huiyan.data.examples import Examples
from huiyan.evaluation.baselines import run_baselines
from huiyan.evaluation.calibration import fit_binary_temperature
from huiyan.evaluation.comparison import compare_paired
from huiyan.evaluation.intervals import bootstrap_intervals
from huiyan.evaluation.metrics import classification_scores
from huiyan.evaluation.numbers import rank_addends
from huiyan.evaluation.sums import compare_sums, sum_intervals
from huiyan.text.scripts import mostly_han
from huiyan.workflows.config import AnswersConfig
from huiyan.workflows.deciding import abstention_warnings, fit_decision, measure_decision
from huiyan.workflows.judging.judge import Answers, Judge, baseline_entry, with_intervals

_LEAST = 1e-12


class ClassJudge(Judge):
    """One of several labels, without an order."""

    metrics = ("macro_f1", "accuracy", "mcc", "loss")
    told = ("accuracy", "macro_f1", "mcc")

    def check(self, answers: AnswersConfig) -> None:
        """Both options are for this kind."""

    def loss(self, targets: np.ndarray, raw: np.ndarray) -> float:
        """Mean negative log-likelihood, in nats."""
        return float(-np.log(np.maximum(raw[np.arange(len(targets)), targets], _LEAST)).mean())

    def scores(self, targets: np.ndarray, answers: Answers) -> dict[str, float]:
        """All that follow from counts."""
        found = classification_scores(targets, self._scored(answers), self.task.classes).headline()
        return {name: value for name, value in found.items() if value is not None}

    def fit(self, targets: np.ndarray, logits: np.ndarray, config: AnswersConfig) -> Decision:
        """Temperature, and thresholds where answers are wanted only when sure."""
        return fit_decision(targets, logits, config)

    def figures(self, targets: np.ndarray, answers: Answers, *, seed: int = 0) -> dict[str, Any]:
        """Figures, the table of classes, the confusion matrix."""
        probabilities = self._scored(answers)
        scores = classification_scores(targets, probabilities, self.task.classes)
        described = scores.to_dict()
        return {
            "rows": len(targets),
            "metrics": with_intervals(scores.headline(), bootstrap_intervals(targets, probabilities, seed=seed)),
            "per_class": described["per_class"],
            "confusion": described["confusion"],
        }

    def calibration(self, targets: np.ndarray, answers: Answers, decision: Decision) -> dict[str, Any] | None:
        """Before and after the temperature; accuracy among the surest answers."""
        return measure_decision(targets, answers.raw, answers.outputs, answers.chosen, answers.is_sure, decision)

    def baselines(
        self, pairs: Sequence[tuple[Examples, Examples]], answers: Answers, *, seed: int = 0
    ) -> list[dict[str, Any]]:
        """The majority class, and logistic regression on TF-IDF."""
        targets = np.concatenate([self.task.targets(test.labels) for _, test in pairs])
        each = [
            run_baselines(
                known.plain,
                self.task.targets(known.labels),
                test.plain,
                n_classes=len(self.task.classes),
                chinese=mostly_han(known.plain),
                seed=seed,
            )
            for known, test in pairs
        ]
        described: list[dict[str, Any]] = []
        for parts in zip(*each, strict=True):
            theirs = self.of_probabilities(np.concatenate([part.probabilities for part in parts]))
            described.append(self._compared(targets, answers, theirs, parts[0].name, parts[0].description, seed))
        return described

    def _compared(
        self, targets: np.ndarray, ours: Answers, theirs: Answers, name: str, description: str, seed: int
    ) -> dict[str, Any]:
        compared = compare_paired(targets, self._scored(ours), self._scored(theirs), name=name, seed=seed)
        return baseline_entry(name, description, self.figures(targets, theirs, seed=seed)["metrics"], compared)

    def wrongness(self, targets: np.ndarray, answers: Answers) -> np.ndarray:
        """The probability of the wrong answer."""
        return np.where(answers.chosen == targets, 0.0, self._confidence(answers))

    def answer_columns(self, answers: Answers) -> list[dict[str, Any]]:
        """The class and its probability."""
        chosen = answers.chosen.tolist()
        return [
            {"prediction": self.task.classes[one], "probability": probability}
            for one, probability in zip(chosen, self._confidence(answers).tolist(), strict=True)
        ]

    def warnings(self, answers: Answers, decision: Decision, config: AnswersConfig, n_steps: int) -> list[str]:
        """Also of classes that no confidence makes sure enough."""
        said = super().warnings(answers, decision, config, n_steps)
        return [*said, *abstention_warnings(decision, self.task.classes, config)]

    def of_probabilities(self, probabilities: np.ndarray) -> Answers:
        """The answers of a method that gives probabilities, `n c`, found as the model's are."""
        chosen, sure = self.task.untrained_decision.choose(probabilities), np.ones(len(probabilities), dtype=bool)
        return Answers(probabilities, probabilities, chosen, sure)

    def _scored(self, answers: Answers) -> np.ndarray:
        """Numbers of which the largest is the answer, `n c`."""
        return answers.outputs

    def _confidence(self, answers: Answers) -> np.ndarray:
        return answers.outputs[np.arange(len(answers.chosen)), answers.chosen]


class OrdinalJudge(ClassJudge):
    """One of several labels that have an order: also how many ranks answers are off."""

    metrics = ("qwk", "macro_f1", "accuracy", "mcc", "loss")
    told = ("accuracy", "macro_f1", "qwk")

    def check(self, answers: AnswersConfig) -> None:
        """Neither option is for this kind: what is sure of a median?"""
        Judge.check(self, answers)

    def scores(self, targets: np.ndarray, answers: Answers) -> dict[str, float]:
        """Those of classes, and those of ranks."""
        return super().scores(targets, answers) | rank_addends(targets, answers.chosen).observed()

    def fit(self, targets: np.ndarray, logits: np.ndarray, config: AnswersConfig) -> Decision:
        """The temperature of the steps."""
        self.check(config)
        steps = np.arange(logits.shape[1])
        reached = targets[:, None] >= steps
        above = (targets[:, None] > steps)[reached]
        return Decision(link="corn", temperature=fit_binary_temperature(above, logits[reached]))

    def figures(self, targets: np.ndarray, answers: Answers, *, seed: int = 0) -> dict[str, Any]:
        """Those of classes but for the AUROC, and those of ranks first."""
        found, ranks = super().figures(targets, answers, seed=seed), rank_addends(targets, answers.chosen)
        found["metrics"].pop("auroc")
        of_ranks = with_intervals({**ranks.observed()}, {**sum_intervals(ranks, seed=seed)})
        found["metrics"] = {"accuracy": found["metrics"].pop("accuracy")} | of_ranks | found["metrics"]
        return found

    def _compared(
        self, targets: np.ndarray, ours: Answers, theirs: Answers, name: str, description: str, seed: int
    ) -> dict[str, Any]:
        one, other = (rank_addends(targets, answers.chosen) for answers in (ours, theirs))
        compared = compare_sums(one, other, metric="qwk", name=name, seed=seed)
        return baseline_entry(name, description, self.figures(targets, theirs, seed=seed)["metrics"], compared)

    def wrongness(self, targets: np.ndarray, answers: Answers) -> np.ndarray:
        """By how many ranks, and then how surely."""
        return np.abs(answers.chosen - targets) + np.where(answers.chosen == targets, 0.0, self._confidence(answers))

    def _scored(self, answers: Answers) -> np.ndarray:
        # The answer is the median, and need not be the most probable class.
        return np.eye(len(self.task.classes))[answers.chosen]
