"""Judging numbers."""

import numpy as np
import pytest

from huiyan.core.errors import ConfigError
from huiyan.data.examples import Examples
from huiyan.tasks.regression import Regression
from huiyan.workflows.config import AnswersConfig
from huiyan.workflows.judging.judge import Answers
from huiyan.workflows.judging.kinds import judge_of


def test_numbers_have_figures_baselines_and_mistakes_but_no_probability() -> None:
    words = ["awful", "poor", "fair", "good", "great"]
    labels = [str(row % 5) for row in range(150)]
    texts = [f"it was {words[row % 5]}, number {row}" for row in range(150)]
    rows = Examples(texts, labels, None, [f"f:{row}" for row in range(150)], kind="regression")
    judge = judge_of(Regression.of("stars", labels))
    targets = judge.task.targets(labels)
    logits = (targets + np.random.default_rng(0).normal(size=150))[:, None]
    decision = judge.fit(targets, logits, AnswersConfig())
    answers = Answers.read(logits, decision, judge.task)
    metrics = judge.figures(targets, answers)["metrics"]
    assert metrics["r2"]["low"] < metrics["r2"]["value"] < metrics["r2"]["high"] < 1
    assert judge.calibration(targets, answers, decision) is None
    assert judge.loss(targets, logits) == pytest.approx(np.square(logits[:, 0] - targets).mean() / targets.var())
    mean, ridge = judge.baselines([(rows.take(range(100)), rows.take(range(100, 150)))], _part(answers))
    assert mean["metrics"]["r2"]["value"] == pytest.approx(0, abs=0.05)
    assert ridge["metrics"]["r2"]["value"] > 0.7
    worst = judge.mistakes(rows, answers)
    assert int(worst[0]["source"].split(":")[1]) == int(np.abs(answers.chosen - targets).argmax())
    with pytest.raises(ConfigError, match="--label-precision is not for --task regression"):
        judge.fit(targets, logits, AnswersConfig(label_precision=0.9))


def _part(answers: Answers) -> Answers:
    return Answers(answers.raw[100:], answers.outputs[100:], answers.chosen[100:], answers.is_sure[100:])
