"""Texts that are nearly the same: MinHash finds candidates, and the sets themselves decide.

Two texts are near duplicates when the sets of their runs of five characters have a Jaccard similarity of 0.8 or more,
case and whitespace aside: one word changed in twenty, a date, a name.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType] (compiled, untyped)

from huiyan.data.blocks import plain_text, text_key

RUN = 5
"""Characters in a run."""
JACCARD = 0.8
"""The least similarity of near duplicates."""
_BANDS, _ROWS = 16, 4
"""A pair is looked at when all hashes of a band agree: at a similarity of 0.8, 0.9998 of all pairs."""
_LEAST_ESTIMATE = 0.5
"""Of the similarity, by the hashes that agree: further down no near duplicate is left (seven standard deviations)."""
_SMALL_BUCKET = 8
"""Rows of a bucket in which every pair is looked at; in a larger one each row is held to the first and the last one."""
_CHARACTERS = 4_000_000
"""Of texts whose runs are hashed, or whose sets are kept, at a time."""
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))

Hashes = npt.NDArray[np.uint64]


def near_pairs(texts: Sequence[str]) -> Iterator[tuple[int, int, float]]:
    """Pairs of near duplicates among texts, each once: the earlier row, the later row, and their similarity.

    Texts that are equal but for case and whitespace are pairs with the first of them only, at 1. Of three texts or more
    that are all alike not every pair is given, but a chain of pairs connects them. A pair is missed once in some
    thousands (at 0.8; hardly ever above).

    Source: Broder 1997, "On the resemblance and containment of documents"; banding: Leskovec, Rajaraman and Ullman,
    "Mining of Massive Datasets", section 3.4.
    """
    first_of: dict[bytes, int] = {}
    rows: list[int] = []
    for row, text in enumerate(texts):
        first = first_of.setdefault(text_key(text), row)
        if first != row:
            yield first, row, 1.0
        else:
            rows.append(row)
    sketches = np.concatenate([np.empty((0, _BANDS * _ROWS), np.uint32), *_sketches(texts, rows)])
    sets: dict[int, Hashes] = {}
    kept = 0

    def runs_of(place: int) -> Hashes:
        nonlocal kept
        if place not in sets:
            if kept > _CHARACTERS:
                sets.clear()
                kept = 0
            sets[place] = np.unique(run_hashes([plain_text(texts[rows[place]])])[0])
            kept += sets[place].size
        return sets[place]

    for one, other in _candidates(sketches):
        similarity = jaccard(runs_of(one), runs_of(other))
        if similarity >= JACCARD:
            yield rows[one], rows[other], similarity


def jaccard(one: Hashes, other: Hashes) -> float:
    """The share that two sets have in common of all that is in either; each sorted, without repeats, not empty."""
    common = np.intersect1d(one, other, assume_unique=True).size
    return common / (one.size + other.size - common)


def run_hashes(texts: Sequence[str]) -> tuple[Hashes, npt.NDArray[np.int64]]:
    """A hash of every run of five characters of every text, one text after the other; and where each text begins.

    A text of fewer characters is one run.

    Returns:
        Hashes, repeats included; and one more offset than there are texts.
    """
    padding = "\0" * RUN
    codes = np.frombuffer("".join(text + padding for text in texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    counts = np.maximum(lengths - (RUN - 1), 1)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    # Where the runs of a text begin among all codes: its own place there, and the run's number.
    starts = np.concatenate([[0], np.cumsum(lengths + RUN)[:-1]])
    places = np.repeat(starts - offsets[:-1], counts) + np.arange(offsets[-1])
    hashes = np.zeros(len(places), np.uint64)
    for number in range(RUN):
        hashes = hashes * _MIX[0] + codes[places + number]
    # The finaliser of splitmix64 (Steele, Lea and Flood 2014): neighbouring runs get hashes that are nothing alike.
    hashes = (hashes ^ (hashes >> np.uint64(30))) * _MIX[1]
    hashes = (hashes ^ (hashes >> np.uint64(27))) * _MIX[2]
    return hashes ^ (hashes >> np.uint64(31)), offsets


def _sketches(texts: Sequence[str], rows: list[int]) -> Iterator[npt.NDArray[np.uint32]]:
    for chunk in _chunks(texts, rows):
        hashes, offsets = run_hashes(chunk)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets.astype(np.uint64), _BANDS * _ROWS, 0)
        yield np.array(matrix.to_rows(), dtype=np.uint32)


def _chunks(texts: Sequence[str], rows: list[int]) -> Iterator[list[str]]:
    """The plain texts of rows, in lists of about so many characters as are held at a time."""
    chunk: list[str] = []
    characters = 0
    for row in rows:
        text = plain_text(texts[row])
        chunk.append(text)
        characters += len(text)
        if characters > _CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _candidates(sketches: npt.NDArray[np.uint32]) -> list[tuple[int, int]]:
    """Pairs of rows that may be near duplicates, ascending."""
    found: set[tuple[int, int]] = set()
    for band in range(_BANDS):
        keys = np.zeros(len(sketches), np.uint64)
        for column in range(band * _ROWS, (band + 1) * _ROWS):
            keys = (keys ^ sketches[:, column]) * _MIX[1]
            keys ^= keys >> np.uint64(29)
        order = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.diff(keys[order], prepend=keys[order[:1]] + np.uint64(1)))
        sizes = np.diff(starts, append=len(keys))
        for start, size in zip(starts[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
            found.update(_pairs_of(order[start : start + size].tolist()))
    if not found:
        return []
    pairs = np.array(sorted(found))
    agreeing = (sketches[pairs[:, 0]] == sketches[pairs[:, 1]]).mean(axis=1)
    return [(one, other) for one, other in pairs[agreeing >= _LEAST_ESTIMATE].tolist()]


def _pairs_of(bucket: list[int]) -> Iterator[tuple[int, int]]:
    if len(bucket) <= _SMALL_BUCKET:
        yield from ((one, other) for place, one in enumerate(bucket) for other in bucket[place + 1 :])
        return
    yield from ((bucket[0], row) for row in bucket[1:])
    yield from pairwise(bucket[1:])
