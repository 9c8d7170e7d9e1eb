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
    return [_by_length(batch, lengths) for batch in batches]


def training_batches(
    lengths: Sequence[int], *, batch_tokens: int, seed: int, epoch: int, sampled_as: np.ndarray | None = None
) -> list[list[int]]:
    """One epoch's batches in an order drawn from the seed and the epoch: the same again for the same arguments.

    Args:
        lengths: tokens in each row.
        batch_tokens: the budget, in tokens.
        seed: of the order.
        epoch: from 0.
        sampled_as: a number for each row, each of which is drawn equally often; None takes every row once.
    """
    generator = np.random.default_rng(derive_seed(seed, "order", epoch))
    rows = np.arange(len(lengths)) if sampled_as is None else balanced_rows(sampled_as, generator)
    return pack_rows(generator.permutation(rows).tolist(), lengths, batch_tokens=batch_tokens)


def balanced_rows(sampled_as: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """As many rows as there are, of every number as many as of any other.

    Rows of a rare number come several times, each as often as any other to within once; of a frequent one some are left
    out, which is drawn.
    """
    n, numbers = len(sampled_as), np.unique(sampled_as)
    drawn: list[np.ndarray] = []
    for place, number in enumerate(numbers):
        own = np.flatnonzero(sampled_as == number)
        wanted = round((place + 1) * n / len(numbers)) - round(place * n / len(numbers))
        copies, rest = divmod(wanted, len(own))
        drawn += [np.tile(own, copies), generator.permutation(own)[:rest]]
    return np.concatenate(drawn)


def inference_batches(lengths: Sequence[int], *, batch_tokens: int, multiple_of: int = 1) -> list[list[int]]:
    """Batches for prediction: rows by length, longest first, so that a shortage of memory shows at once.

    Batches are about equal, with no small rest at the end: computing a batch of a size that has not been met yet costs
    time and memory once more. As ``pack_rows``, a batch is over the budget only when it is a single row.

    Args:
        lengths: tokens in each row.
        batch_tokens: the most tokens in a batch.
        multiple_of: so many batches are computed at a time: about a multiple of it comes out, and nobody is idle while
            the last one is computed.
    """
    left = sum(lengths)
    batches: list[list[int]] = []
    tokens, share, planned = 0, 0.0, left + 1
    for place, row in enumerate(sorted(range(len(lengths)), key=lambda row: -lengths[row])):
        length = lengths[row]
        if not batches or tokens + length > batch_tokens or tokens + length / 2 > share:
            left -= tokens
            # A batch ends at the row that is half in. Half a row is kept free, for that not to lead beyond the budget.
            room = max(1, batch_tokens - left // (2 * (len(lengths) - place)))
            needed = math.ceil(left / room)
            needed += -(len(batches) + needed) % multiple_of
            # Fewer than planned once the long rows are placed, which have batches of their own; never more.
            planned = min(planned - 1, needed)
            share = left / max(1, planned, math.ceil(left / batch_tokens))
            batches.append([])
            tokens = 0
        batches[-1].append(row)
        tokens += length
    return [_by_length(batch, lengths) for batch in batches]


def _by_length(batch: list[int], lengths: Sequence[int]) -> list[int]:
    return sorted(batch, key=lambda row: (lengths[row], row))
