"""The n-gram model to beat: interpolated Kneser–Ney, over tokens of any kind.

p(w | h) = max(c(hw) − D, 0) / c(h) + D · t(h) / c(h) · p(w | h'): a share D of every count is given to the shorter
history h', whose counts are of different tokens before it. t(h) is how many different tokens follow h.

Source: Kneser and Ney 1995; Chen and Goodman 1999, equation 17, with D = n₁ / (n₁ + 2 n₂) for each order
(a half where n₁ is 0).
"""

from typing import Any

import numpy as np

from huiyan.core.config import require

Ids = np.ndarray[Any, np.dtype[np.int64]]


def ngram_nats(known: Ids, unseen: Ids, *, order: int, vocab_size: int) -> float:
    """−log p of a text in nats, a token, under the n-grams of another.

    Args:
        known: tokens to count.
        unseen: tokens to predict, each from those before it.
        order: n: each token is predicted from the n − 1 before it.
        vocab_size: what no count tells is spread evenly over so many.
    Raises:
        ConfigError: an order below 1, or texts shorter than it.
    """
    require(order >= 1, "order", "at least 1", order)
    require(min(len(known), len(unseen)) >= order, "texts", f"at least {order} tokens long", len(unseen))
    tokens = np.concatenate([known, unseen]).astype(np.int64)
    n_known = len(known)
    probability = np.full(len(unseen), 1.0 / vocab_size)
    grams = np.zeros(len(tokens) + 1, dtype=np.int64)  # the n-gram that ends before each token, by number
    levels: list[tuple[Ids, Ids]] = []  # for each order: of every token its history, and history with token
    for _ in range(order):
        history = grams[:-1]
        whole = _numbered(history, tokens)
        levels.append((history, whole))
        grams = np.concatenate(([0], whole + 1))  # 0 is that of no history, and of no n-gram
    for size, (history, whole) in enumerate(levels, start=1):
        # Shorter orders count how many different tokens they follow; what begins the text has no whole history.
        longest = size == order
        events = np.arange(n_known) if longest else _first_of_each(levels[size][1][:n_known])
        events = events[events >= (size - 1 if longest else size)]
        probability = _interpolated(history, whole, events, n_known, probability)
    return float(-np.log(probability).mean())


def _numbered(history: Ids, tokens: Ids) -> Ids:
    """A number for each different pair."""
    size = int(tokens.max()) + 1
    return np.unique(history * size + tokens, return_inverse=True)[1]


def _first_of_each(numbers: Ids) -> Ids:
    return np.sort(np.unique(numbers, return_index=True)[1])


def _interpolated(history: Ids, whole: Ids, events: Ids, n_known: int, shorter: Any) -> Any:
    counts = np.bincount(whole[events], minlength=int(whole.max()) + 1)
    totals = np.bincount(history[events], minlength=int(history.max()) + 1)
    kinds = np.bincount(history[_first_of_each_at(whole, events)], minlength=len(totals))
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    # Where nothing was counted once, a half: all of it would leave nothing for what was not counted.
    discount = once / (once + 2 * twice) if once else 0.5
    own, before = whole[n_known:], history[n_known:]
    total = totals[before]
    seen = np.maximum(total, 1)
    found = np.maximum(counts[own] - discount, 0) / seen + discount * kinds[before] / seen * shorter
    return np.where(total > 0, found, shorter)


def _first_of_each_at(whole: Ids, events: Ids) -> Ids:
    return events[_first_of_each(whole[events])]
