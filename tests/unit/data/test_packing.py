"""Batches filled to a token budget."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from huiyan.data.packing import inference_batches, pack_rows, training_batches

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=60)


@given(LENGTHS, st.integers(1, 100), st.integers(0, 5))
def test_every_row_is_in_one_batch_within_the_budget(lengths: list[int], budget: int, epoch: int) -> None:
    batches = training_batches(lengths, batch_tokens=budget, seed=1, epoch=epoch)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert sum(lengths[row] for row in batch) <= budget or len(batch) == 1
        assert [lengths[row] for row in batch] == sorted(lengths[row] for row in batch)


@given(LENGTHS, st.integers(1, 100))
def test_a_batch_ends_only_where_the_next_row_would_not_fit(lengths: list[int], budget: int) -> None:
    batches = pack_rows(range(len(lengths)), lengths, batch_tokens=budget)
    for batch, following in itertools.pairwise(batches):
        assert sum(lengths[row] for row in batch) + lengths[min(following)] > budget


def test_the_order_comes_from_seed_and_epoch() -> None:
    lengths = [3] * 30
    first = training_batches(lengths, batch_tokens=9, seed=1, epoch=0)
    assert first == training_batches(lengths, batch_tokens=9, seed=1, epoch=0)
    assert first != training_batches(lengths, batch_tokens=9, seed=1, epoch=1)
    assert first != training_batches(lengths, batch_tokens=9, seed=2, epoch=0)


def test_inference_begins_with_the_longest() -> None:
    assert inference_batches([2, 9, 4, 7], batch_tokens=12) == [[1], [3], [0, 2]]


@given(LENGTHS, st.integers(1, 100), st.integers(1, 8))
def test_inference_has_every_row_once_within_the_budget(lengths: list[int], budget: int, multiple: int) -> None:
    batches = inference_batches(lengths, batch_tokens=budget, multiple_of=multiple)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(batches)
    for batch in batches:
        assert sum(lengths[row] for row in batch) <= budget or len(batch) == 1
        assert [lengths[row] for row in batch] == sorted(lengths[row] for row in batch)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("multiple", [1, 2, 3])
def test_inference_batches_are_about_equal_and_leave_no_rest(seed: int, multiple: int) -> None:
    # Lengths that vary as those of a table do; cut greedily, the last batch would be of any size.
    lengths = np.random.default_rng(seed).lognormal(3.9, 0.6, 1024).clip(5, 256).astype(int).tolist()
    sizes = [
        sum(lengths[row] for row in batch)
        for batch in inference_batches(lengths, batch_tokens=2048, multiple_of=multiple)
    ]
    assert len(sizes) % multiple == 0
    assert min(sizes) > 0.85 * max(sizes)


@pytest.mark.parametrize(("long", "count"), [(8192, 1), (8192, 100), (2000, 500), (1500, 60)])
@pytest.mark.parametrize("multiple", [1, 2])
def test_rows_near_the_budget_or_over_it_do_not_make_the_other_batches_small(
    long: int, count: int, multiple: int
) -> None:
    batches = inference_batches([long] * count + [40] * 100, batch_tokens=2048, multiple_of=multiple)
    assert all(len(batch) == 1 for batch in batches[: count - 1])
    assert len(batches) <= count + 4


def test_no_rows_no_batches() -> None:
    assert inference_batches([], batch_tokens=8) == []
