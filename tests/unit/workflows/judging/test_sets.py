"""Judging any number of labels a text."""

import numpy as np
import pytest

from huiyan.core.errors import ConfigError
from huiyan.data.examples import Examples
from huiyan.data.labels import set_label
from huiyan.tasks.multilabel import MultiLabel
from huiyan.workflows.config import AnswersConfig
from huiyan.workflows.judging.judge import Answers
from huiyan.workflows.judging.kinds import judge_of

NAMES = ["price", "size", "colour"]
JUDGE = judge_of(MultiLabel(NAMES))


def rows(n: int, seed: int = 0) -> Examples:
    rng = np.random.default_rng(seed)
    sets = [[name for name in NAMES if rng.random() < 0.4] for _ in range(n)]
    texts = [f"about the {' and the '.join(names) or 'weather'}, number {row}" for row, names in enumerate(sets)]
    labels = [set_label(names) for names in sets]
    return Examples(texts, labels, None, [f"f.csv:{row + 2}" for row in range(n)], kind="multilabel")


def logits_for(targets: np.ndarray, shift: float = 0.0) -> np.ndarray:
    return 2.0 * targets - 1.0 + shift + np.random.default_rng(1).normal(size=targets.shape)


def test_thresholds_of_the_best_f1_undo_a_shift() -> None:
    targets = JUDGE.task.targets(rows(600).labels)
    decision = JUDGE.fit(targets, logits_for(targets, shift=3.0), AnswersConfig())
    shifted = Answers.read(logits_for(targets, shift=3.0), decision, JUDGE.task)
    at_half = Answers.read(logits_for(targets, shift=3.0), JUDGE.task.untrained_decision, JUDGE.task)
    assert all(threshold is not None and threshold > 0.5 for threshold in decision.thresholds)
    assert JUDGE.scores(targets, shifted)["macro_f1"] > JUDGE.scores(targets, at_half)["macro_f1"] + 0.05


def test_thresholds_of_a_wanted_precision_reach_it_or_never_speak() -> None:
    targets = JUDGE.task.targets(rows(600).labels)
    logits = logits_for(targets)
    logits[:, 2] = 0.0  # knows nothing of colours
    config = AnswersConfig(label_precision=0.9)
    decision = JUDGE.fit(targets, logits, config)
    answers = Answers.read(logits, decision, JUDGE.task)
    for label in (0, 1):
        assert targets[answers.chosen[:, label], label].mean() >= 0.9
    assert decision.thresholds[2] is None and not answers.chosen[:, 2].any()
    assert "never said: 'colour'" in JUDGE.warnings(answers, decision, config, 300)[-1]
    with pytest.raises(ConfigError, match="each label has a threshold of its own"):
        JUDGE.fit(targets, logits, AnswersConfig(abstain_at=0.9))


def test_figures_calibration_mistakes_and_baselines() -> None:
    known, test = rows(200), rows(120, seed=5)
    targets = JUDGE.task.targets(test.labels)
    decision = JUDGE.fit(targets, logits_for(targets), AnswersConfig())
    answers = Answers.read(logits_for(targets), decision, JUDGE.task)
    figures = JUDGE.figures(targets, answers)
    f1 = figures["metrics"]["macro_f1"]
    assert f1["low"] < f1["value"] < f1["high"]
    assert [one["name"] for one in figures["per_class"]] == NAMES
    calibration = JUDGE.calibration(targets, answers, decision)
    assert calibration is not None and set(calibration["thresholds"]) == set(NAMES)
    frequent, tfidf = JUDGE.baselines([(known, test)], answers)
    # Each name is a word of the text: counting words finds them all.
    assert tfidf["metrics"]["macro_f1"]["value"] > 0.95 > frequent["metrics"]["macro_f1"]["value"]
    assert tfidf["comparison"]["verdict"] == "worse" and frequent["comparison"]["verdict"] == "better"
    worst = JUDGE.mistakes(test, answers)
    wrong = (answers.chosen != (targets > 0.5)).sum(axis=1)
    assert int(worst[0]["source"].split(":")[1]) - 2 in np.flatnonzero(wrong == wrong.max())
