"""Judging by figures that are functions of sums over the rows: labels by themselves, and numbers."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from huiyan.data.examples import Examples
from huiyan.evaluation.baselines import Baseline
from huiyan.evaluation.sums import Addends, compare_sums
from huiyan.text.scripts import mostly_han
from huiyan.workflows.judging.judge import Answers, Judge, baseline_entry


class SummedJudge(Judge):
    """What such kinds share: scores, and baselines compared row by row."""

    compared_by: ClassVar[str]
    """The figure that decides who is better."""
    run_baselines: ClassVar[Callable[..., list[Baseline]]]
    """The simple methods: texts and targets to learn from, texts to answer."""

    @abstractmethod
    def addends(self, targets: np.ndarray, answers: Answers) -> Addends:
        """What each row adds to the sums."""

    @abstractmethod
    def of_baseline(self, baseline: Baseline) -> Answers:
        """The answers of a simple method."""

    def scores(self, targets: np.ndarray, answers: Answers) -> dict[str, float]:
        """The figures of these rows."""
        return self.addends(targets, answers).observed()

    def baselines(
        self, pairs: Sequence[tuple[Examples, Examples]], answers: Answers, *, seed: int = 0
    ) -> list[dict[str, Any]]:
        """The simple methods of this kind."""
        targets = np.concatenate([self.task.targets(test.labels) for _, test in pairs])
        each = [
            type(self).run_baselines(
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
            theirs = Answers.joined([self.of_baseline(part) for part in parts])
            compared = compare_sums(
                self.addends(targets, answers),
                self.addends(targets, theirs),
                metric=self.compared_by,
                name=parts[0].name,
                seed=seed,
            )
            metrics = self.figures(targets, theirs, seed=seed)["metrics"]
            described.append(baseline_entry(parts[0].name, parts[0].description, metrics, compared))
        return described
