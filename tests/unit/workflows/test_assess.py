"""Figures, baselines and mistakes."""

import numpy as np
import pytest

from huiyan.data.examples import Examples
from huiyan.workflows.assess import compare_with_baselines, figures_with_intervals, hardest_mistakes

CLASSES = ["差", "好"]


def chinese(n: int, *, start: int = 0) -> Examples:
    # No spaces: to a counter of words every text is one word that no other text has.
    words = ("糟糕", "满意")
    texts = [f"这件衣服让我{words[row % 2]}第{row + start}次" for row in range(n)]
    return Examples(texts, [CLASSES[row % 2] for row in range(n)], None, [f"x.csv:{row + 2}" for row in range(n)])


def test_chinese_gets_a_baseline_of_characters() -> None:
    test = chinese(40, start=1000)
    probabilities = np.tile([0.5, 0.5], (40, 1))
    baselines = compare_with_baselines([(chinese(80), test)], probabilities, CLASSES)
    tfidf = next(baseline for baseline in baselines if "TF-IDF" in baseline["name"])
    assert "character" in tfidf["description"]
    assert tfidf["metrics"]["accuracy"]["value"] == 1.0
    assert tfidf["comparison"]["verdict"] == "worse"


def test_figures_have_their_intervals() -> None:
    labels = np.array([0, 1] * 30)
    probabilities = np.where(labels[:, None] == np.arange(2), 0.8, 0.2)
    probabilities[:6] = probabilities[:6, ::-1]
    figures = figures_with_intervals(labels, probabilities, CLASSES)
    accuracy = figures["metrics"]["accuracy"]
    assert accuracy["value"] == pytest.approx(0.9) and accuracy["low"] < 0.9 < accuracy["high"]
    assert figures["rows"] == 60 and np.sum(figures["confusion"]) == 60


def test_mistakes_come_surest_first_and_are_cut() -> None:
    test = Examples(["a" * 900, "b", "c"], ["差", "好", "好"], None, ["f:2", "f:3", "f:4"])
    mistakes = hardest_mistakes(test, np.array([[0.3, 0.7], [0.9, 0.1], [0.2, 0.8]]), CLASSES)
    assert [(mistake["source"], mistake["prediction"]) for mistake in mistakes] == [("f:3", "差"), ("f:2", "好")]
    assert len(mistakes[1]["text"]) == 500
