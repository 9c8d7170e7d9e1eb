from itertools import product

import numpy as np
import pytest
from sklearn.metrics import f1_score

from huiyan.core.errors import ConfigError, DataError, ShapeError
from huiyan.evaluation.comparison import compare_paired


def answers_of(labels, right, rng, n_classes=3):
    slips = rng.integers(1, n_classes, len(labels))
    return np.eye(n_classes)[np.where(rng.random(len(labels)) < right, labels, (labels + slips) % n_classes)]


def test_equal_models_are_told_apart_in_at_most_5_of_100_tests():
    rng = np.random.default_rng(11)
    p_values, decided = [], 0
    for seed in range(300):
        labels = rng.integers(0, 3, 120)
        got = compare_paired(
            labels, answers_of(labels, 0.7, rng), answers_of(labels, 0.7, rng), name="it", n_resamples=300, seed=seed
        )
        p_values.append(got.p_value)
        decided += got.verdict != "undecided"
    # 300 tests at 5 %: 15 expected, 24 would come about in 1 of 100 runs of a sound test.
    assert decided <= 24
    # A sound test is not merely silent: its p-values spread evenly.
    assert 0.03 <= np.mean(np.array(p_values) < 0.1) <= 0.17
    assert 0.4 <= np.mean(np.array(p_values) < 0.5) <= 0.6


def test_a_clear_gap_is_found_in_both_directions():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400)
    good, bad = answers_of(labels, 0.8, rng), answers_of(labels, 0.6, rng)
    ours = compare_paired(labels, good, bad, name="the old one")
    expected = f1_score(labels, good.argmax(1), average="macro") - f1_score(labels, bad.argmax(1), average="macro")
    assert ours.difference == pytest.approx(expected)
    assert ours.metric == "macro_f1"
    assert ours.verdict == "better"
    assert 0 < ours.interval.low < ours.difference < ours.interval.high
    assert ours.words.startswith(f"The model is better than the old one: its macro F1 is {expected:.3f} higher")
    assert "p < 0.001" in ours.words
    theirs = compare_paired(labels, bad, good, name="the old one")
    assert theirs.verdict == "worse"
    assert theirs.difference == pytest.approx(-expected)
    assert f"its macro F1 is {expected:.3f} lower" in theirs.words


def test_the_p_value_is_that_of_all_exchanges():
    labels = np.array([0, 0, 1, 1, 0, 1, 0, 1])
    ours, theirs = np.array([0, 0, 1, 1, 0, 1, 1, 1]), np.array([1, 0, 1, 0, 1, 1, 0, 0])

    def gap(a, b):
        return f1_score(labels, a, average="macro") - f1_score(labels, b, average="macro")

    observed = gap(ours, theirs)
    swaps = [np.array(swap) for swap in product([False, True], repeat=8)]
    gaps = [gap(np.where(swap, theirs, ours), np.where(swap, ours, theirs)) for swap in swaps]
    exact = np.mean(np.abs(gaps) >= abs(observed) - 1e-12)
    got = compare_paired(labels, np.eye(2)[ours], np.eye(2)[theirs], name="x", n_resamples=20_000)
    assert got.p_value == pytest.approx(exact, abs=0.015)


def test_a_small_gap_on_few_rows_is_left_undecided_in_words():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 40)
    got = compare_paired(labels, answers_of(labels, 0.75, rng), answers_of(labels, 0.7, rng), name="TF-IDF")
    assert got.verdict == "undecided"
    assert "40 test rows it cannot be told whether the model or TF-IDF is better" in got.words
    assert got.interval.low <= 0 <= got.interval.high or got.p_value >= 0.05


def test_the_same_answers_are_said_to_be_the_same():
    labels = np.array([0, 1, 1])
    got = compare_paired(labels, np.eye(2)[[0, 1, 0]], np.eye(2)[[0, 1, 0]] * 0.6 + 0.2, name="its twin")
    assert (got.difference, got.p_value, got.verdict) == (0.0, 1.0, "undecided")
    assert got.words == "The model and its twin gave the same answer for each of the 3 test rows."


def test_the_seed_fixes_the_answer():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, 60)
    pair = answers_of(labels, 0.8, rng), answers_of(labels, 0.7, rng)
    assert compare_paired(labels, *pair, name="x", seed=1) == compare_paired(labels, *pair, name="x", seed=1)


@pytest.mark.parametrize("metric", ["accuracy", "mcc", "weighted_f1"])
def test_other_metrics_compare_too(metric):
    labels = np.array([0, 1] * 50)
    got = compare_paired(labels, np.eye(2)[labels], np.eye(2)[np.zeros(100, dtype=int)], metric=metric, name="x")
    assert got.metric == metric
    assert got.verdict == "better"


def test_misuse_is_refused():
    with pytest.raises(ConfigError, match="Did you mean 'macro_f1'"):
        compare_paired([0], [[1.0]], [[1.0]], metric="macrof1", name="x")
    with pytest.raises(ConfigError, match="'auroc' cannot be compared"):
        compare_paired([0], [[1.0]], [[1.0]], metric="auroc", name="x")
    with pytest.raises(ShapeError, match="same shape"):
        compare_paired([0], [[1.0, 0.0]], [[1.0]], name="x")
    with pytest.raises(DataError, match="finite"):
        compare_paired([0], [[1.0, 0.0]], [[np.nan, 0.0]], name="x")
    with pytest.raises(ConfigError, match="n_resamples"):
        compare_paired([0], [[1.0]], [[1.0]], name="x", n_resamples=10)
