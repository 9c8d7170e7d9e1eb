"""Batches filled to a token budget."""

import itertools

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
    assert inference_batches([2, 9, 4, 7], batch_tokens=12) == [[1], [2, 3], [0]]
