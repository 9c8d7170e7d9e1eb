import json

import numpy as np
import pytest
from sklearn import metrics

from huiyan.core.errors import ShapeError
from huiyan.evaluation.counts import COUNT_METRICS
from huiyan.evaluation.metrics import HEADLINE, classification_scores


def one_hot(answers, n_classes):
    return np.eye(n_classes)[answers]


def test_by_hand():
    labels, answers = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 0]
    scores = classification_scores(labels, one_hot(answers, 3), ["a", "b", "c"])
    assert scores.accuracy == pytest.approx(4 / 6)
    assert scores.confusion == [[2, 1, 0], [0, 2, 0], [1, 0, 0]]
    assert [(row.name, row.support) for row in scores.per_class] == [("a", 3), ("b", 2), ("c", 1)]
    assert [row.precision for row in scores.per_class] == pytest.approx([2 / 3, 2 / 3, 0])
    assert [row.recall for row in scores.per_class] == pytest.approx([2 / 3, 1, 0])
    assert [row.f1 for row in scores.per_class] == pytest.approx([2 / 3, 4 / 5, 0])
    assert scores.macro_f1 == pytest.approx((2 / 3 + 4 / 5) / 3)
    assert scores.weighted_f1 == pytest.approx((3 * 2 / 3 + 2 * 4 / 5) / 6)
    assert scores.micro_precision == scores.micro_recall == scores.micro_f1 == scores.accuracy
    # Gorodkin: (right · n − Σ actual · predicted) / √((n² − Σ actual²)(n² − Σ predicted²))
    assert scores.mcc == pytest.approx((4 * 6 - (3 * 3 + 2 * 3)) / np.sqrt((36 - 14) * (36 - 18)))


@pytest.mark.parametrize("n_classes", [2, 5, 40])
def test_equals_scikit_learn(n_classes):
    rng = np.random.default_rng(n_classes)
    labels = rng.integers(0, n_classes, 300)
    probabilities = rng.random((300, n_classes))
    probabilities[np.arange(300), labels] += 0.5
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    answers = probabilities.argmax(axis=1)
    got = classification_scores(labels, probabilities, [str(i) for i in range(n_classes)])
    for average in ("macro", "micro", "weighted"):
        expected = metrics.precision_recall_fscore_support(labels, answers, average=average, zero_division=0)[:3]
        names = [f"{average}_{name}" for name in ("precision", "recall", "f1")]
        assert [got.headline()[name] for name in names] == pytest.approx(expected)
    assert got.accuracy == pytest.approx(metrics.accuracy_score(labels, answers))
    assert got.mcc == pytest.approx(metrics.matthews_corrcoef(labels, answers))
    scored = probabilities if n_classes > 2 else probabilities[:, 1]
    assert got.auroc == pytest.approx(metrics.roc_auc_score(labels, scored, multi_class="ovr"))
    assert got.confusion == metrics.confusion_matrix(labels, answers, labels=range(n_classes)).tolist()


def test_a_class_never_seen_does_not_pull_the_macro_average_down():
    scores = classification_scores([0, 1], one_hot([0, 1], 3), ["a", "b", "never"])
    assert scores.macro_f1 == 1.0
    assert scores.per_class[2].support == 0
    assert len(scores.confusion) == 3


def test_a_class_only_answered_counts():
    assert classification_scores([0, 0], one_hot([0, 1], 2), ["a", "b"]).macro_recall == pytest.approx(0.25)


def test_one_class_has_no_auroc_and_an_mcc_of_nothing():
    scores = classification_scores([0, 0], one_hot([0, 0], 2), ["a", "b"])
    assert scores.auroc is None
    assert scores.mcc == 0.0
    assert scores.accuracy == 1.0


def test_the_first_of_tied_classes_is_the_answer():
    assert classification_scores([0], [[0.5, 0.5]], ["a", "b"]).accuracy == 1.0


def test_plain_values_that_json_can_hold():
    scores = classification_scores(np.array([0, 1], dtype=np.uint8), np.float32([[0.9, 0.1], [0.6, 0.4]]), ["差", "好"])
    back = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert back == scores.to_dict()
    assert back["per_class"][0]["name"] == "差"
    assert list(scores.headline()) == list(HEADLINE) == [*COUNT_METRICS, "auroc"]


def test_names_must_fit_the_columns():
    with pytest.raises(ShapeError, match=r"one name a column, 2\. Got 1"):
        classification_scores([0], [[0.5, 0.5]], ["a"])
