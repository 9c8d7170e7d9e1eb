import numpy as np
import pytest
from sklearn import metrics

from huiyan.core.errors import DataError, ShapeError
from huiyan.evaluation.counts import cells_of, checked, count_scores, pieces, resampled, tally


def test_scores_from_counts_equal_scikit_learn_for_every_resample_at_once():
    rng = np.random.default_rng(3)
    labels, answers = rng.integers(0, 6, 90), rng.integers(0, 6, 90)
    draws = [rng.integers(0, 90, 90) for _ in range(4)]
    (actual, predicted), _ = cells_of(labels, answers, n_classes=6)
    cell_of_row = [
        int(np.flatnonzero((actual == i) & (predicted == j))[0]) for i, j in zip(labels, answers, strict=True)
    ]
    weights = np.array([np.bincount(np.array(cell_of_row)[rows], minlength=len(actual)) for rows in draws])
    scores = count_scores(tally(weights, actual, predicted, n_classes=6))
    for index, rows in enumerate(draws):
        y, p = labels[rows], answers[rows]
        assert scores["accuracy"][index] == pytest.approx(metrics.accuracy_score(y, p))
        assert scores["mcc"][index] == pytest.approx(metrics.matthews_corrcoef(y, p))
        for average in ("macro", "micro", "weighted"):
            expected = metrics.precision_recall_fscore_support(y, p, average=average, zero_division=0)[:3]
            got = [scores[f"{average}_{name}"][index] for name in ("precision", "recall", "f1")]
            assert got == pytest.approx(expected)


def test_cells_survive_many_classes_and_three_columns():
    columns = [np.array([0, 49_999, 0]), np.array([7, 49_998, 7]), np.array([1, 2, 1])]
    parts, counts = cells_of(*columns, n_classes=50_000)
    assert [part.tolist() for part in parts] == [[0, 49_999], [7, 49_998], [1, 2]]
    assert counts.tolist() == [2, 1]


def test_resamples_keep_the_number_of_rows_and_come_in_full_number():
    counts = np.array([3, 0, 7])
    draws = np.concatenate(list(resampled(counts, n_resamples=50, rng=np.random.default_rng(0))))
    assert draws.shape == (50, 3)
    assert (draws.sum(axis=1) == 10).all()
    assert not draws[:, 1].any()
    assert sum(pieces(2001, 3_000_000)) == 2001
    assert max(pieces(2001, 3_000_000)) == 1


@pytest.mark.parametrize(
    ("labels", "probabilities", "error", "message"),
    [
        ([0, 1], [[1.0, 0.0]], ShapeError, r"Got \(2,\) and \(1, 2\)"),
        ([[0]], [[1.0]], ShapeError, "shape"),
        ([0.0], [[1.0]], ShapeError, "integers"),
        ([], np.zeros((0, 2)), DataError, "nothing to score"),
        ([2], [[1.0, 0.0]], DataError, "between 0 and 1.*Got 2"),
        ([-1], [[1.0, 0.0]], DataError, "between 0 and 1.*Got -1"),
        ([0, 0], [[1.0, 0.0], [np.nan, 0.5]], DataError, "Row 1"),
        ([0], [[np.inf, 0.5]], DataError, "Row 0"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_words(labels, probabilities, error, message):
    with pytest.raises(error, match=message):
        checked(labels, probabilities)
