from random import Random

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from huiyan.core.errors import DataError, ShapeError
from huiyan.evaluation import baselines as baselines_room
from huiyan.evaluation import features
from huiyan.evaluation.baselines import run_baselines, run_number_baselines, run_set_baselines

POSITIVE = ["good and warm", "very good", "good fit", "so good"]
NEGATIVE = ["bad and cold", "very bad", "bad fit", "so bad"]


def run(train_texts, train_labels, test_texts, *, n_classes=2, chinese=False):
    return run_baselines(train_texts, train_labels, test_texts, n_classes=n_classes, chinese=chinese, seed=0)


def test_majority_answers_the_most_frequent_class_by_share():
    majority, _ = run(["a a", "b b", "c c", "d d"], [2, 2, 2, 0], ["x", "y"], n_classes=4)
    assert majority.name == "majority class"
    assert majority.probabilities.tolist() == [[0.25, 0, 0.75, 0]] * 2


def test_words_tell_good_from_bad():
    _, linear = run(POSITIVE + NEGATIVE, [1] * 4 + [0] * 4, ["a good one", "one bad thing"])
    assert linear.name == "TF-IDF + logistic regression"
    assert "words" in linear.description
    assert linear.probabilities.argmax(axis=1).tolist() == [1, 0]
    assert linear.probabilities.sum(axis=1) == pytest.approx([1, 1])


def test_characters_read_chinese_where_words_cannot():
    good, bad = ["质量很好我喜欢", "很好的衣服", "穿着很好看"], ["质量很差不喜欢", "很差的衣服", "穿着很差劲"]
    unseen = ["客服很好呀", "客服很差呀"]
    _, words = run(good + bad, [1, 1, 1, 0, 0, 0], unseen)
    _, characters = run(good + bad, [1, 1, 1, 0, 0, 0], unseen, chinese=True)
    assert "characters" in characters.description
    assert characters.probabilities.argmax(axis=1).tolist() == [1, 0]
    assert words.probabilities[0].tolist() == words.probabilities[1].tolist()


def test_a_single_han_character_is_a_word():
    _, linear = run(["好", "差", "好", "差"], [1, 0, 1, 0], ["好", "差"])
    assert linear.probabilities.argmax(axis=1).tolist() == [1, 0]


def test_a_rare_class_is_not_given_up():
    texts = [f"common thing {i}" for i in range(95)] + [f"odd thing {i}" for i in range(5)]
    _, linear = run(texts, [0] * 95 + [1] * 5, ["an odd one", "a common one"])
    assert linear.probabilities.argmax(axis=1).tolist() == [1, 0]


def test_classes_missing_from_training_get_no_probability():
    _, linear = run(POSITIVE + NEGATIVE, [3] * 4 + [1] * 4, ["good"], n_classes=5)
    assert linear.probabilities[0, [0, 2, 4]].tolist() == [0, 0, 0]
    assert linear.probabilities.argmax() == 3


@pytest.mark.parametrize("chinese", [False, True])
def test_nothing_to_count_falls_back_to_the_frequencies(chinese):
    _, linear = run(["", "", ""], [0, 1, 1], ["", "anything"], chinese=chinese)
    assert linear.probabilities == pytest.approx(np.array([[1 / 3, 2 / 3]] * 2))
    assert "nothing to count" in linear.description


def test_emoji_and_punctuation_are_no_words_and_no_crash():
    _, linear = run(["😀😀", "!!!", "..."], [0, 1, 1], ["😀"])
    assert "nothing to count" in linear.description


def test_one_class_one_text_and_no_test_text():
    _, linear = run(["only text"], [1], ["another"], n_classes=3)
    assert linear.probabilities.tolist() == [[0, 1, 0]]
    for baseline in run(POSITIVE + NEGATIVE, [1] * 4 + [0] * 4, []):
        assert baseline.probabilities.shape == (0, 2)


def test_stopping_before_convergence_is_quiet(monkeypatch, recwarn):
    def hasty(**options):
        return LogisticRegression(**{**options, "max_iter": 1})

    monkeypatch.setattr(baselines_room, "LogisticRegression", hasty)
    run(POSITIVE + NEGATIVE, [1] * 4 + [0] * 4, ["good"])
    assert not [warning for warning in recwarn if issubclass(warning.category, ConvergenceWarning)]


def test_very_many_texts_are_sampled_and_it_is_said(monkeypatch):
    monkeypatch.setattr(features, "MAX_TRAINING_TEXTS", 40)
    texts, labels = (POSITIVE + NEGATIVE) * 10, ([1] * 4 + [0] * 4) * 10
    first, again = (run(texts, labels, ["good", "bad"])[1] for _ in range(2))
    assert "fitted on 40 training rows" in first.description
    assert first.probabilities.argmax(axis=1).tolist() == [1, 0]
    assert first.probabilities.tolist() == again.probabilities.tolist()


def test_misuse_is_refused():
    with pytest.raises(ShapeError, match=r"2 texts, labels \(1,\)"):
        run(["a", "b"], [0], ["a"])
    with pytest.raises(DataError, match="between 0 and 1"):
        run(["a"], [2], ["a"])
    with pytest.raises(DataError, match="training rows"):
        run([], [], ["a"])


def chinese_rows(n: int, words: tuple[str, str]) -> tuple[list[str], list[int]]:
    fillers = ["衣服", "颜色", "物流", "今天", "朋友", "手机", "书店"]
    random = Random(0)
    labels = [row % 2 for row in range(n)]
    return ["".join([*random.choices(fillers, k=6), words[label], random.choice(fillers)]) for label in labels], labels


def test_chinese_is_counted_by_what_is_better_on_held_out_rows():
    texts, labels = chinese_rows(120, ("满意", "失望"))
    _, linear = run(texts, labels, texts[:5], chinese=True)
    assert "better on held-out training rows than" in linear.description
    assert "rjieba" in linear.description and "runs of 1 to 3 characters" in linear.description


def test_words_by_a_dictionary_win_where_characters_mislead(monkeypatch):
    texts, _ = chinese_rows(120, ("满意", "失望"))
    scores = iter([0.5, 0.9])
    found = features.count_features(texts, texts[:3], chinese=True, seed=0, score=lambda *_: next(scores))
    assert found.units.startswith("words found by rjieba") and "0.900 against 0.500" in found.units
    assert found.train.shape[0] == 120 and found.test.shape[0] == 3
    few = features.count_features(texts[:20], [], chinese=True, seed=0, score=lambda *_: 1.0)
    assert few.units == "runs of 1 to 3 characters" and not few.is_usable


def test_sets_and_numbers_have_their_baselines():
    texts, labels = chinese_rows(120, ("满意", "失望"))
    sets = np.column_stack([labels, np.ones(120), np.zeros(120)])
    frequent, linear = run_set_baselines(texts, sets, texts, chinese=True, seed=0)
    assert (frequent.probabilities >= 0.5).tolist() == [[True, True, False]] * 120
    assert ((linear.probabilities >= 0.5) == sets).mean() > 0.95
    mean, ridge = run_number_baselines(texts, np.array(labels) * 10.0, texts, chinese=True, seed=0)
    assert mean.probabilities.tolist() == [[5.0]] * 120
    assert np.abs(ridge.probabilities[:, 0] - np.array(labels) * 10).mean() < 2
    with pytest.raises(DataError, match="labels of each"):
        run_set_baselines([], np.zeros((0, 2)), ["a"], chinese=False, seed=0)
    with pytest.raises(DataError, match="number of each"):
        run_number_baselines([], [], ["a"], chinese=False, seed=0)


def test_labels_of_the_baseline_are_said_from_the_best_threshold():
    random = np.random.default_rng(0)
    rare = random.random((1500, 4)) < 0.06
    texts = [
        " ".join(
            [f"w{random.integers(400)}" for _ in range(12)] + [f"sign{k}" for k in range(4) if r[k] ^ (u[k] < 0.15)]
        )
        for r, u in zip(rare, random.random((1500, 4)), strict=True)
    ]
    _, linear = run_set_baselines(texts[:1000], rare[:1000], texts[1000:], chinese=False, seed=0)
    found = f1_score(rare[1000:], linear.probabilities >= np.array(linear.thresholds), average="macro")
    assert found > f1_score(rare[1000:], linear.probabilities >= 0.5, average="macro")
    assert len(linear.thresholds) == 4 and "best F1" in linear.description
