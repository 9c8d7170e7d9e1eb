import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from huiyan.core.errors import DataError, ShapeError
from huiyan.evaluation import baselines
from huiyan.evaluation.baselines import run_baselines

POSITIVE = ["good and warm", "very good", "good fit", "so good"]
NEGATIVE = ["bad and cold", "very bad", "bad fit", "so bad"]


def run(train_texts, train_labels, test_texts, *, n_classes=2, character_ngrams=False):
    return run_baselines(
        train_texts, train_labels, test_texts, n_classes=n_classes, character_ngrams=character_ngrams, seed=0
    )


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
    _, characters = run(good + bad, [1, 1, 1, 0, 0, 0], unseen, character_ngrams=True)
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


@pytest.mark.parametrize("character_ngrams", [False, True])
def test_nothing_to_count_falls_back_to_the_frequencies(character_ngrams):
    _, linear = run(["", "", ""], [0, 1, 1], ["", "anything"], character_ngrams=character_ngrams)
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

    monkeypatch.setattr(baselines, "LogisticRegression", hasty)
    run(POSITIVE + NEGATIVE, [1] * 4 + [0] * 4, ["good"])
    assert not [warning for warning in recwarn if issubclass(warning.category, ConvergenceWarning)]


def test_very_many_texts_are_sampled_and_it_is_said(monkeypatch):
    monkeypatch.setattr(baselines, "MAX_TRAINING_TEXTS", 40)
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
