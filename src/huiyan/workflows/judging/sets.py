"""Judging any number of labels a text."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np

from huiyan.core.decision import Decision
from huiyan.core.errors import ConfigError
from huiyan.evaluation.baselines import Baseline, run_set_baselines
from huiyan.evaluation.calibration import fit_binary_temperature
from huiyan.evaluation.several import (
    best_f1_thresholds,
    label_precision_thresholds,
    label_scores,
    set_addends,
    set_auroc,
    set_calibration,
)
from huiyan.evaluation.sums import Addends, sum_intervals
from huiyan.workflows.config import AnswersConfig
from huiyan.workflows.judging.judge import Answers, with_intervals
from huiyan.workflows.judging.summed import SummedJudge


class SetJudge(SummedJudge):
    """Any number of several labels."""

    metrics = ("macro_f1", "micro_f1", "exact_match", "loss")
    told = ("micro_f1", "macro_f1", "exact_match")
    compared_by = "macro_f1"
    run_baselines = staticmethod(run_set_baselines)

    def addends(self, targets: np.ndarray, answers: Answers) -> Addends:
        """Of F1 and exact matches."""
        return set_addends(targets, answers.chosen)

    def of_baseline(self, baseline: Baseline) -> Answers:
        """It says each label from its own threshold on."""
        outputs = baseline.probabilities
        return Answers(outputs, outputs, outputs >= np.array(baseline.thresholds), np.ones(len(outputs), dtype=bool))

    def check(self, answers: AnswersConfig) -> None:
        """Each label has a threshold; there is no abstaining from all of them.

        Raises:
            ConfigError: ``abstain_at`` is given.
        """
        if answers.abstain_at is not None:
            raise ConfigError(
                "--abstain-at is for one label a text; here each label has a threshold of its own.",
                hint="Use --label-precision for the precision that is wanted of each.",
            )

    def loss(self, targets: np.ndarray, raw: np.ndarray) -> float:
        """Mean binary cross-entropy, in nats."""
        return set_calibration(targets, raw).nll

    def fit(self, targets: np.ndarray, logits: np.ndarray, config: AnswersConfig) -> Decision:
        """The temperature, then for each label the threshold of the best F1, or of the precision asked for."""
        self.check(config)
        temperature = fit_binary_temperature(targets.ravel() > 0.5, logits.ravel())
        decision = Decision(link="sigmoid", temperature=temperature, thresholds=(0.5,) * len(self.task.classes))
        probabilities = decision.outputs(logits)
        if config.label_precision is None:
            thresholds: list[float | None] = [*best_f1_thresholds(targets, probabilities)]
        else:
            thresholds = label_precision_thresholds(targets, probabilities, precision=config.label_precision)
        return Decision(link="sigmoid", temperature=temperature, thresholds=tuple(thresholds))

    def figures(self, targets: np.ndarray, answers: Answers, *, seed: int = 0) -> dict[str, Any]:
        """Figures, and the table of labels."""
        addends = self.addends(targets, answers)
        scores: dict[str, float | None] = {**addends.observed(), "auroc": set_auroc(targets, answers.outputs)}
        return {
            "rows": len(targets),
            "metrics": with_intervals(scores, {**sum_intervals(addends, seed=seed)}),
            "per_class": [asdict(one) for one in label_scores(targets, answers.chosen, self.task.classes)],
        }

    def calibration(self, targets: np.ndarray, answers: Answers, decision: Decision) -> dict[str, Any] | None:
        """Before and after the temperature, over all labels of all rows; the thresholds."""
        return {
            "temperature": decision.temperature,
            "before": asdict(set_calibration(targets, answers.raw)),
            "after": asdict(set_calibration(targets, answers.outputs)),
            "coverage": [],
            "thresholds": dict(zip(self.task.classes, decision.thresholds, strict=True)),
        }

    def wrongness(self, targets: np.ndarray, answers: Answers) -> np.ndarray:
        """How many labels are wrong, and then how surely."""
        wrong = (targets > 0.5) != answers.chosen
        return wrong.sum(axis=1) + (wrong * np.abs(answers.outputs - targets)).max(axis=1) / 2 * wrong.any(axis=1)

    def answer_columns(self, answers: Answers) -> list[dict[str, Any]]:
        """The labels, the likeliest first."""
        return [{"prediction": ", ".join(names) or "none"} for names in self.names(answers)]

    def cells(self, answers: Answers) -> list[str]:
        """The labels as a JSON list."""
        return [json.dumps(names, ensure_ascii=False) for names in self.names(answers)]

    def names(self, answers: Answers) -> list[list[str]]:
        """The labels of each row, the likeliest first."""
        order = np.argsort(-answers.outputs, axis=1, kind="stable")
        return [
            [self.task.classes[label] for label in places if has[label]]
            for places, has in zip(order.tolist(), answers.chosen.tolist(), strict=True)
        ]

    def warnings(self, answers: Answers, decision: Decision, config: AnswersConfig, n_steps: int) -> list[str]:
        """Also of labels that are never said."""
        said = super().warnings(answers, decision, config, n_steps)
        never = [name for name, least in zip(self.task.classes, decision.thresholds, strict=True) if least is None]
        if never:
            names = ", ".join(map(repr, never[:5])) + (f" and {len(never) - 5} more" if len(never) > 5 else "")
            said.append(
                f"On the validation rows no probability makes {config.label_precision:.1%} of these labels right, so "
                f"they are never said: {names}."
            )
        return said
