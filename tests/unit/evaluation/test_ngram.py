"""The n-gram model: probabilities that add up to 1, and those of a small text by hand."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from huiyan.core.errors import ConfigError
from huiyan.evaluation.ngram import ngram_nats

KNOWN = np.array([0, 1, 2, 0, 1, 3, 0, 2, 2, 1, 0, 1, 2, 3, 3, 0, 1])


def by_hand(known: list[int], history: tuple[int, ...], word: int, order: int, vocab_size: int) -> float:
    """The definition, one token at a time."""

    def counted(size: int) -> Counter[tuple[int, ...]]:
        grams = [tuple(known[at : at + size]) for at in range(len(known) - size + 1)]
        if size == order:
            return Counter(grams)
        before: dict[tuple[int, ...], set[int]] = defaultdict(set)
        for first, *rest in (known[at : at + size + 1] for at in range(len(known) - size)):
            before[tuple(rest)].add(first)
        return Counter({gram: len(tokens) for gram, tokens in before.items()})

    p = 1 / vocab_size
    for size in range(1, order + 1):
        counts = counted(size)
        own = history[len(history) - size + 1 :]
        following = {gram: n for gram, n in counts.items() if gram[:-1] == own and len(gram) == size}
        total = sum(following.values())
        once, twice = (sum(n == k for n in counts.values()) for k in (1, 2))
        discount = once / (once + 2 * twice) if once else 0.5
        if total:
            share = discount * len(following) / total
            p = max(following.get((*own, word), 0) - discount, 0) / total + share * p
    return p


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_are_those_of_the_definition(order: int) -> None:
    draw = np.random.default_rng(order)
    for length in (17, 40, 40, 40, 80):
        known, unseen = (draw.integers(0, 4, n).tolist() for n in (length, 7))
        text = known + unseen
        wanted = [
            -math.log(by_hand(known, tuple(text[:at]), text[at], order, 5)) for at in range(len(known), len(text))
        ]
        nats = ngram_nats(np.array(known), np.array(unseen), order=order, vocab_size=5)
        assert nats == pytest.approx(sum(wanted) / len(wanted))


def test_what_was_never_counted_keeps_a_share() -> None:
    assert math.isfinite(ngram_nats(np.array([0, 1] * 20), np.array([0, 1, 2, 1]), order=2, vocab_size=3))


def test_a_longer_history_tells_more_of_a_text_that_repeats_itself() -> None:
    text = np.resize(np.array([0, 1, 0, 2, 0, 3]), 600)
    losses = [ngram_nats(text[:400], text[400:], order=order, vocab_size=4) for order in (1, 2, 3)]
    assert losses[0] > losses[1] > losses[2]
    assert losses[2] < 0.05


def test_too_short_a_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="3 tokens long"):
        ngram_nats(KNOWN, KNOWN[:2], order=3, vocab_size=4)
