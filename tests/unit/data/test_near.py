"""Near duplicates: planted pairs are found, others are not, and a chain is a chain."""

import tracemalloc
from random import Random

import numpy as np
import pytest

from huiyan.data.blocks import plain_text
from huiyan.data.near import JACCARD, RUN, near_pairs, run_hashes

ENGLISH = [chr(code) for code in range(ord("a"), ord("z") + 1)]
CHINESE = [chr(code) for code in range(0x4E00, 0x4E00 + 3000)]


def made_up(draw: Random, letters: list[str], length: int) -> str:
    return "".join(" " if draw.random() < 0.15 else draw.choice(letters) for _ in range(length)).strip()


def changed(draw: Random, text: str, letters: list[str], times: int) -> str:
    characters = list(text)
    for place in draw.sample(range(len(characters)), times):
        characters[place] = draw.choice(letters)
    return "".join(characters)


def similarity(one: str, other: str) -> float:
    """By the definition."""
    first, second = (
        {text[start : start + RUN] for start in range(max(1, len(text) - RUN + 1))}
        for text in map(plain_text, (one, other))
    )
    return len(first & second) / len(first | second)


@pytest.mark.parametrize("letters", [ENGLISH, CHINESE], ids=["english", "chinese"])
def test_planted_pairs_are_found_and_no_others(letters: list[str]) -> None:
    draw = Random(0)
    texts = [made_up(draw, letters, draw.randint(20, 400)) for _ in range(3000)]
    texts += [changed(draw, text, letters, max(1, len(text) // 60)) for text in texts[:1000]]
    planted = {(row, 3000 + row) for row in range(1000) if similarity(texts[row], texts[3000 + row]) >= JACCARD}
    assert len(planted) > 300
    found = {(one, other): value for one, other, value in near_pairs(texts)}
    assert len(planted - found.keys()) <= len(planted) / 1000
    for (one, other), value in found.items():
        assert value == pytest.approx(similarity(texts[one], texts[other]))
        assert value >= JACCARD


def test_at_the_very_limit_most_are_found() -> None:
    # Runs of five lie far apart from each other: 80 kept, ten new ones on each side.
    draw = Random(1)
    pairs = 0
    texts: list[str] = []
    for _ in range(500):
        text = made_up(draw, CHINESE, 94).replace(" ", "一")
        other = text[:-10] + made_up(draw, CHINESE, 10).replace(" ", "二")
        texts += [text, other]
        pairs += similarity(text, other) >= 0.79
    assert pairs > 450
    counted = sum(other == one + 1 and one % 2 == 0 for one, other, _ in near_pairs(texts))
    at_least = sum(similarity(texts[row], texts[row + 1]) >= JACCARD for row in range(0, 1000, 2))
    assert counted >= at_least - 1


def test_equal_texts_are_pairs_with_the_first_of_them() -> None:
    texts = ["One and the same text", "another one", "one and  the SAME text", "One and the same text"]
    assert sorted(near_pairs(texts)) == [(0, 2, 1.0), (0, 3, 1.0)]


def test_many_alike_are_connected() -> None:
    draw = Random(2)
    base = made_up(draw, ENGLISH, 300)
    texts = [changed(draw, base, ENGLISH, 2) for _ in range(200)]
    joined = {0}
    for one, other, _ in sorted(near_pairs(texts)):
        if joined & {one, other}:
            joined |= {one, other}
    assert len(joined) == 200


@pytest.mark.parametrize("texts", [[], ["one"], ["", ""], ["a", "b"], ["\ud800", "好"]])
def test_little_to_compare(texts: list[str]) -> None:
    assert all(value == 1.0 for _, _, value in near_pairs(texts))


def test_each_text_has_its_own_runs() -> None:
    texts = ["abcdefg", "abc", "", "bcdef"]
    hashes, offsets = run_hashes(texts)
    assert np.diff(offsets).tolist() == [3, 1, 1, 1]
    for number, text in enumerate(texts):
        assert np.array_equal(run_hashes([text])[0], hashes[offsets[number] : offsets[number + 1]])
    assert hashes[1] == hashes[-1]  # "bcdef", wherever it stands


def test_long_texts_are_hashed_a_few_at_a_time() -> None:
    draw = Random(3)
    texts = ["".join(draw.choices(CHINESE, k=150_000)) for _ in range(60)]
    texts += [texts[7][:-50] + "x" * 50, "short"]
    tracemalloc.start()
    pairs = list(near_pairs(texts))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [(one, other) for one, other, _ in pairs] == [(7, 60)]
    assert peak < 500e6  # 60 texts of 150,000 runs, four arrays of eight bytes a run, would be more than that at once
