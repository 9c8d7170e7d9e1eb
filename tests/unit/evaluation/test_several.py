"""The scores of sets of labels, against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics

from huiyan.core.errors import DataError, ShapeError
from huiyan.evaluation.several import (
    best_f1_thresholds,
    checked_sets,
    label_precision_thresholds,
    label_scores,
    set_addends,
    set_auroc,
    set_calibration,
)

RNG = np.random.default_rng(3)
TARGETS = RNG.random((200, 4)) < [0.5, 0.2, 0.1, 0.7]
PROBABILITIES = np.clip(0.6 * TARGETS + 0.4 * RNG.random((200, 4)) * 1.2 - 0.05, 0, 1)
HAS = PROBABILITIES >= 0.45


def test_scores_are_scikit_learns() -> None:
    found = set_addends(TARGETS, HAS).observed()
    for average in ("micro", "macro", "weighted"):
        assert found[f"{average}_f1"] == pytest.approx(metrics.f1_score(TARGETS, HAS, average=average))
    for average in ("micro", "macro"):
        precision, recall = (
            one(TARGETS, HAS, average=average) for one in (metrics.precision_score, metrics.recall_score)
        )
        assert (found[f"{average}_precision"], found[f"{average}_recall"]) == pytest.approx((precision, recall))
    assert found["exact_match"] == pytest.approx(metrics.accuracy_score(TARGETS, HAS))
    assert found["label_accuracy"] == pytest.approx(1 - metrics.hamming_loss(TARGETS, HAS))
    assert set_auroc(TARGETS, PROBABILITIES) == pytest.approx(metrics.roc_auc_score(TARGETS, PROBABILITIES))
    per_label = metrics.f1_score(TARGETS, HAS, average=None)
    assert [one.f1 for one in label_scores(TARGETS, HAS, tuple("abcd"))] == pytest.approx(per_label)


def test_calibration_of_probabilities_that_are_right_and_that_are_not() -> None:
    p = RNG.random((4000, 2))
    own = RNG.random((4000, 2)) < p
    right, wrong = set_calibration(own, p), set_calibration(own, p**3)
    assert right.ece < 0.03 < wrong.ece
    assert right.nll == pytest.approx(metrics.log_loss(own.ravel(), p.ravel()))
    assert right.brier == pytest.approx(metrics.brier_score_loss(own.ravel(), p.ravel()))
    assert sum(one.rows for one in right.bins) == 8000


def test_the_best_f1_threshold_is_best_and_few_rows_keep_one_half() -> None:
    thresholds = best_f1_thresholds(TARGETS, PROBABILITIES)
    for label, threshold in enumerate(thresholds):
        own, p = TARGETS[:, label], PROBABILITIES[:, label]
        every = [metrics.f1_score(own, p >= one) for one in np.unique(p)]
        assert metrics.f1_score(own, p >= threshold) == pytest.approx(max(every))
    assert best_f1_thresholds(TARGETS[:9], PROBABILITIES[:9]) == [0.5] * 4


def test_the_lowest_threshold_of_a_precision() -> None:
    own, p = np.array([[1], [1], [0], [1], [0]]), np.array([[0.9], [0.8], [0.7], [0.6], [0.1]])
    assert label_precision_thresholds(own, p, precision=0.75) == [0.6]
    assert label_precision_thresholds(own, p, precision=0.95) == [0.8]
    assert label_precision_thresholds(1 - own, p, precision=0.95) == [None]


def test_what_cannot_be_scored() -> None:
    with pytest.raises(ShapeError, match=r"both be \(n, c\)"):
        checked_sets([[1]], [1.0])
    with pytest.raises(DataError, match="finite"):
        checked_sets([[1]], [[np.nan]])
    with pytest.raises(DataError, match="nothing to score"):
        checked_sets(np.zeros((0, 2)), np.zeros((0, 2)))
    assert set_auroc([[1], [1]], [[0.2], [0.3]]) is None
