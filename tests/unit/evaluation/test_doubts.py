"""Labels in doubt: planted errors are found, and a model that is merely unsure accuses nobody."""

import numpy as np
import pytest

from huiyan.core.errors import ShapeError
from huiyan.evaluation.doubts import doubtful_labels, doubtful_sets


def test_planted_errors_come_first() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 600)
    probabilities = np.full((600, 3), 0.05)
    probabilities[np.arange(600), true] = 0.9
    probabilities += rng.normal(0, 0.02, probabilities.shape).clip(-0.04, 0.04)
    labels = true.copy()
    wrong = rng.choice(600, 30, replace=False)
    labels[wrong] = (labels[wrong] + 1) % 3
    doubts = doubtful_labels(labels, probabilities)
    assert {doubt.row for doubt in doubts} == set(wrong.tolist())
    margins = [doubt.probability_of_label - doubt.probability_of_likely for doubt in doubts]
    assert margins == sorted(margins)
    assert all(doubt.likely == true[doubt.row] and doubt.label == labels[doubt.row] for doubt in doubts)


def test_nothing_is_doubted_when_the_model_knows_nothing() -> None:
    assert doubtful_labels([0, 1, 0, 1], np.full((4, 2), 0.5)) == []


def test_a_class_the_model_is_seldom_sure_of_needs_less() -> None:
    # Rows of class 1 get 0.4 at most; a row labelled 0 with 0.45 for class 1 is one of them, by all that is known.
    probabilities = [[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.55, 0.45], [0.6, 0.4], [0.65, 0.35]]
    (doubt,) = doubtful_labels([0, 0, 0, 0, 1, 1], probabilities)
    assert (doubt.row, doubt.likely) == (3, 1)


def test_a_class_without_rows_is_never_likely() -> None:
    assert doubtful_labels([0, 0], [[0.1, 0.9], [0.1, 0.9]]) == []


def test_of_sets_each_label_is_doubted_by_itself_the_surest_first() -> None:
    rng = np.random.default_rng(0)
    true = rng.random((400, 3)) < (0.5, 0.2, 0.7)
    probabilities = np.where(true, 0.9, 0.1)
    probabilities[5] = np.where(true[5], 0.95, 0.05)
    probabilities[9] = np.where(true[9], [0.9, 0.92, 0.97], [0.1, 0.08, 0.03])
    targets = true.copy()
    targets[5, 0] ^= True
    targets[9, [1, 2]] ^= True
    doubts = doubtful_sets(targets, probabilities)
    assert [(doubt.row, {*doubt.too_many, *doubt.missing}) for doubt in doubts] == [(9, {1, 2}), (5, {0})]
    assert [doubt.probability for doubt in doubts] == pytest.approx([0.97, 0.95])
    for doubt in doubts:
        assert all(targets[doubt.row, label] for label in doubt.too_many)
        assert not any(targets[doubt.row, label] for label in doubt.missing)


def test_of_sets_nothing_is_doubted_where_the_model_has_no_opinion() -> None:
    targets = np.array([[1, 0], [1, 0], [0, 0], [0, 1]])
    probabilities = np.array([[0.9, np.nan], [0.01, np.nan], [0.1, np.nan], [0.05, np.nan]])
    assert [(doubt.row, doubt.too_many) for doubt in doubtful_sets(targets, probabilities)] == [(1, (0,))]


def test_of_sets_what_is_less_likely_than_not_is_no_doubt() -> None:
    # Of a label that the model is never sure of 0.4 would do; of one label of several it does.
    probabilities = np.array([[0.1], [0.1], [0.4], [0.3], [0.3], [0.3]])
    targets = np.array([[0], [0], [0], [1], [1], [1]])
    assert [doubt.row for doubt in doubtful_labels(targets[:, 0], np.hstack([1 - probabilities, probabilities]))] == [2]
    assert doubtful_sets(targets, probabilities) == []


def test_sets_and_probabilities_must_fit() -> None:
    with pytest.raises(ShapeError, match="of shape"):
        doubtful_sets([[1, 0]], [[0.5]])
