"""Batches filled to a token budget instead of a number of rows: no padding, and steps of equal cost."""

import math
from collections.abc import Sequence

import numpy as np

from huiyan.core.seeds import derive_seed


def pack_rows(order: Sequence[int], lengths: Sequence[int], *, batch_tokens: int) -> list[list[int]]:
    """Cut rows, taken in the order given, into batches of at most ``batch_tokens`` tokens.

    A row longer than the budget is a batch of its own. Inside a batch rows lie by length, so that sequences of
    equal length are neighbours and attention handles each run of them in one call.

    Args:
        order: row numbers in the order to be used.
        lengths: tokens in each row; ``lengths[row]`` for every row in ``order``.
        batch_tokens: the budget, in tokens.
    Returns:
        Batches of row numbers; every row of ``order`` is in exactly one.
    """
    batches: list[list[int]] = []
    current: list[int] = []
    tokens = 0
    for row in order:
        if current and tokens + lengths[row] > batch_tokens:
            batches.append(current)
            current, tokens = [], 0
        current.append(row)
        tokens += lengths[row]
    if current:
        batches.append(current)
    return [sorted(batch, key=lambda row: (lengths[row], row)) for batch in batches]


def training_batches(lengths: Sequence[int], *, batch_tokens: int, seed: int, epoch: int) -> list[list[int]]:
    """One epoch's batches in an order drawn from the seed and the epoch: the same again for the same arguments."""
    order = np.random.default_rng(derive_seed(seed, "order", epoch)).permutation(len(lengths))
    return pack_rows(order.tolist(), lengths, batch_tokens=batch_tokens)


def inference_batches(lengths: Sequence[int], *, batch_tokens: int, multiple_of: int = 1) -> list[list[int]]:
    """Batches for prediction: rows by length, longest first, so that a shortage of memory shows at once.

    Args:
        lengths: tokens in each row.
        batch_tokens: the most tokens in a batch, as for ``pack_rows``.
        multiple_of: so many batches are computed at a time: they are cut so small that about a multiple of it comes
            out, and nobody is idle while the last one is computed.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    total = sum(lengths)
    rounds = math.ceil(total / (batch_tokens * multiple_of))
    share = math.ceil(total / max(1, rounds * multiple_of))
    # A batch is full at the last row that fits: it is short of its share by half a row, on average.
    budget = min(batch_tokens, share + (total // max(1, len(lengths))))
    return pack_rows(order, lengths, batch_tokens=max(1, budget))
