import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from huiyan.evaluation.auroc import auroc_standard_error, macro_auroc, resampled_auroc


def test_equals_scikit_learn_with_ties():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 200)
    probabilities = rng.integers(1, 5, (200, 4)).astype(float)
    probabilities[np.arange(200), labels] += 2
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    expected = roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert macro_auroc(labels, probabilities) == pytest.approx(expected, abs=1e-12)


def test_by_hand():
    # Class 1 scores .9 and .4 against .4 and .1: three pairs in order and one tie of four, 3.5 / 4.
    scores = np.array([0.9, 0.4, 0.4, 0.1])
    assert macro_auroc(np.array([1, 1, 0, 0]), np.stack([1 - scores, scores], axis=1)) == pytest.approx(3.5 / 4)


def test_a_class_without_rows_does_not_count_and_one_class_has_none():
    probabilities = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]])
    assert macro_auroc(np.array([0, 1, 0]), probabilities) == 1.0
    assert macro_auroc(np.array([0, 0, 0]), probabilities) is None


def test_weights_are_repeated_rows():
    rng = np.random.default_rng(1)
    labels, probabilities = rng.integers(0, 3, 60), rng.random((60, 3))
    drawn = [rng.integers(0, 60, 60) for _ in range(3)]
    weights = np.array([np.bincount(rows, minlength=60) for rows in drawn])
    expected = [macro_auroc(labels[rows], probabilities[rows]) for rows in drawn]
    assert resampled_auroc(labels, probabilities, weights).tolist() == pytest.approx(expected)


def test_a_resample_of_one_class_is_nan():
    labels, probabilities = np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]])
    values = resampled_auroc(labels, probabilities, np.array([[2, 0], [1, 1]]))
    assert np.isnan(values[0])
    assert values[1] == 1.0


def test_standard_error_agrees_with_the_bootstrap():
    rng = np.random.default_rng(2)
    labels = rng.choice(3, 800, p=[0.6, 0.3, 0.1])
    probabilities = rng.random((800, 3))
    probabilities[np.arange(800), labels] += 0.4
    rows = rng.integers(0, 800, (600, 800))
    weights = np.array([np.bincount(row, minlength=800) for row in rows])
    spread = resampled_auroc(labels, probabilities, weights).std()
    assert auroc_standard_error(labels, probabilities) == pytest.approx(spread, rel=0.1)
