"""Judging one label of several: figures, baselines, mistakes; and ranks."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from huiyan.core.decision import Decision
from huiyan.core.errors import ConfigError
from huiyan.data.examples import Examples
from huiyan.tasks.classify import Classification
from huiyan.tasks.ordinal import Ordinal
from huiyan.workflows.config import AnswersConfig
from huiyan.workflows.judging.judge import Answers
from huiyan.workflows.judging.kinds import judge_of

CLASSES = ["差", "好"]
JUDGE = judge_of(Classification(CLASSES))


def chinese(n: int, *, start: int = 0) -> Examples:
    # No spaces: to a counter of words every text is one word that no other text has.
    words = ("糟糕", "满意")
    texts = [f"这件衣服让我{words[row % 2]}第{row + start}次" for row in range(n)]
    return Examples(texts, [CLASSES[row % 2] for row in range(n)], None, [f"x.csv:{row + 2}" for row in range(n)])


def test_chinese_gets_a_baseline_of_characters() -> None:
    test = chinese(40, start=1000)
    baselines = JUDGE.baselines([(chinese(80), test)], JUDGE.of_probabilities(np.tile([0.5, 0.5], (40, 1))))
    tfidf = next(baseline for baseline in baselines if "TF-IDF" in baseline["name"])
    assert "character" in tfidf["description"]
    assert tfidf["metrics"]["accuracy"]["value"] == 1.0
    assert tfidf["comparison"]["verdict"] == "worse"


def test_figures_have_their_intervals() -> None:
    labels = np.array([0, 1] * 30)
    probabilities = np.where(labels[:, None] == np.arange(2), 0.8, 0.2)
    probabilities[:6] = probabilities[:6, ::-1]
    figures = JUDGE.figures(labels, JUDGE.of_probabilities(probabilities))
    accuracy = figures["metrics"]["accuracy"]
    assert accuracy["value"] == pytest.approx(0.9) and accuracy["low"] < 0.9 < accuracy["high"]
    assert figures["rows"] == 60 and np.sum(figures["confusion"]) == 60


def test_mistakes_come_surest_first_and_are_cut() -> None:
    test = Examples(["a" * 900, "b", "c"], ["差", "好", "好"], None, ["f:2", "f:3", "f:4"])
    mistakes = JUDGE.mistakes(test, JUDGE.of_probabilities(np.array([[0.3, 0.7], [0.9, 0.1], [0.2, 0.8]])))
    assert [(mistake["source"], mistake["prediction"]) for mistake in mistakes] == [("f:3", "差"), ("f:2", "好")]
    assert len(mistakes[1]["text"]) == 500


def test_a_model_that_hardly_learned_is_named() -> None:
    decision, config = Decision(), AnswersConfig()
    one_label = JUDGE.of_probabilities(np.array([[0.6, 0.4], [0.7, 0.3]]))
    assert "the same label after 300 training steps" in JUDGE.warnings(one_label, decision, config, 300)[0]
    both_labels = JUDGE.of_probabilities(np.array([[0.6, 0.4], [0.3, 0.7]]))
    assert "Only 3 training steps" in JUDGE.warnings(both_labels, decision, config, 3)[0]
    assert JUDGE.warnings(both_labels, decision, config, 300) == []


def test_a_metric_of_another_kind_is_refused() -> None:
    assert JUDGE.metric_named("auto") == "macro_f1"
    with pytest.raises(ConfigError, match="--metric r2 is not for --task classify"):
        JUDGE.metric_named("r2")


def test_ranks_are_judged_by_their_distance() -> None:
    judge = judge_of(Ordinal(["1", "2", "3", "4", "5"]))
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 5, 300)
    logits = 3.0 * (targets[:, None] > np.arange(4)) - 1.5 + rng.normal(size=(300, 4))
    answers = Answers.read(logits, Decision(link="corn"), judge.task)
    metrics = judge.figures(targets, answers)["metrics"]
    assert metrics["qwk"]["value"] == pytest.approx(cohen_kappa_score(targets, answers.chosen, weights="quadratic"))
    assert metrics["mae"]["value"] == pytest.approx(np.abs(targets - answers.chosen).mean())
    assert metrics["accuracy"]["value"] == pytest.approx((targets == answers.chosen).mean())
    assert metrics["qwk"]["low"] < metrics["qwk"]["value"] < metrics["qwk"]["high"]
    rows = Examples([f"t{row}" for row in range(300)], [str(one + 1) for one in targets], None, ["f:1"] * 300)
    worst = judge.mistakes(rows, answers)
    distances = [abs(int(one["label"]) - int(one["prediction"])) for one in worst]
    assert distances == sorted(distances, reverse=True) and distances[0] == np.abs(targets - answers.chosen).max()
    with pytest.raises(ConfigError, match="--abstain-at is not for --task ordinal"):
        judge.fit(targets, logits, AnswersConfig(abstain_at=0.9))
    assert 0.1 < judge.fit(targets, logits, AnswersConfig()).temperature < 10
