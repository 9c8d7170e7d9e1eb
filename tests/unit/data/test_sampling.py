"""Every class as often as any other."""

from collections import Counter

import numpy as np

from huiyan.data.packing import balanced_rows, training_batches


def test_every_number_is_drawn_equally_often() -> None:
    kinds = np.array([0] * 90 + [1] * 7 + [2] * 3)
    rows = balanced_rows(kinds, np.random.default_rng(0))
    assert len(rows) == 100
    assert sorted(Counter(kinds[rows].tolist()).values()) == [33, 33, 34]
    often = Counter(rows.tolist())
    assert {often[row] for row in range(97, 100)} == {11} and {often[row] for row in range(90, 97)} <= {4, 5}
    assert max(often[row] for row in range(90)) == 1


def test_batches_are_balanced_and_the_same_again() -> None:
    kinds, lengths = np.array([0] * 50 + [1] * 10), [3] * 60
    batches = training_batches(lengths, batch_tokens=30, seed=1, epoch=0, sampled_as=kinds)
    assert batches == training_batches(lengths, batch_tokens=30, seed=1, epoch=0, sampled_as=kinds)
    assert batches != training_batches(lengths, batch_tokens=30, seed=1, epoch=1, sampled_as=kinds)
    assert Counter(kinds[[row for batch in batches for row in batch]].tolist()) == {0: 30, 1: 30}
