"""TF-IDF weights of what texts are made of: words, runs of characters, or words found by a dictionary."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from huiyan.evaluation.counts import IntArray
from huiyan.text.segment import segment_words

Units = Literal["words", "characters", "segmented"]
# Beyond these a linear model on TF-IDF gains little, and takes minutes and gigabytes.
MAX_TRAINING_TEXTS = 100_000
MAX_FEATURES = 300_000
HELD_OUT = 0.2
"""Share of the known rows on which units are chosen; then all of them are fitted on."""
NAMES: dict[Units, str] = {
    "words": "words and pairs of words",
    "characters": "runs of 1 to 3 characters",
    "segmented": "words found by rjieba, and pairs of them",
}
_FEWEST_TO_CHOOSE = 50
Score = Callable[[Any, IntArray, Any, IntArray], float]
"""Features and row numbers to fit on, then to judge on → how good that is, higher being better."""


@dataclass(frozen=True)
class Features:
    """What was counted.

    Args:
        units: what it is, in words.
        rows: the training rows that it was counted in; all, but for a draw where there are very many.
        train: sparse matrix of those rows; None when they have nothing to count.
        test: of the test texts; None when there is none.
    """

    units: str
    rows: IntArray
    train: Any
    test: Any

    @property
    def is_usable(self) -> bool:
        """Whether there is something to fit on and something to answer."""
        return self.train is not None and self.test is not None


def count_features(
    train_texts: Sequence[str], test_texts: Sequence[str], *, chinese: bool, seed: int, score: Score | None = None
) -> Features:
    """Count words; in Chinese runs of characters, or words by a dictionary, whichever is better on held-out rows.

    Args:
        train_texts: known texts.
        test_texts: texts to answer.
        chinese: whether the texts are written without spaces.
        seed: which rows are held out, and which are drawn where there are over ``MAX_TRAINING_TEXTS``.
        score: how units are judged; None takes characters without a trial.
    """
    rows = np.arange(len(train_texts))
    drawn = len(rows) > MAX_TRAINING_TEXTS
    if drawn:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MAX_TRAINING_TEXTS, replace=False))
    units, remark = _units(train_texts, rows, chinese=chinese, seed=seed, score=score)
    if drawn:
        remark += f", fitted on {MAX_TRAINING_TEXTS:,} training rows drawn at random"
    train, test = _matrices([train_texts[row] for row in rows.tolist()], test_texts, units)
    return Features(NAMES[units] + remark, rows, train, test)


def held_out(rows: IntArray, *, seed: int) -> tuple[IntArray, IntArray]:
    """The rows in order, but for ``HELD_OUT`` of them drawn at random, and those."""
    order = np.random.default_rng([seed, 1]).permutation(rows)
    cut = round(HELD_OUT * len(order))
    return np.sort(order[cut:]), np.sort(order[:cut])


def _units(texts: Sequence[str], rows: IntArray, *, chinese: bool, seed: int, score: Score | None) -> tuple[Units, str]:
    """What to count, and why, to be put behind its name."""
    if not chinese:
        return "words", ""
    if score is None or len(rows) < _FEWEST_TO_CHOOSE:
        return "characters", ""
    fitted, held = held_out(rows, seed=seed)
    parts = [[texts[int(row)] for row in part] for part in (fitted, held)]
    reached: dict[Units, float] = {}
    for units in ("characters", "segmented"):
        train, test = _matrices(parts[0], parts[1], units)
        reached[units] = -np.inf if train is None else score(train, fitted, test, held)
    best, other = sorted(reached, key=lambda units: -reached[units])
    said = f" (better on held-out training rows than {NAMES[other]}: {reached[best]:.3f} against {reached[other]:.3f})"
    return best, said if np.isfinite(list(reached.values())).all() else ""


def _matrices(train_texts: Sequence[str], test_texts: Sequence[str], units: Units) -> tuple[Any, Any]:
    """Sparse matrices for the training and the test texts; None for the first when it has nothing to count."""
    counted: dict[str, Any] = {
        "characters": {"analyzer": "char", "ngram_range": (1, 3)},
        # Words of one character count too: scikit-learn's own pattern drops "I", "5" and single Han characters.
        "words": {"token_pattern": r"(?u)\b\w+\b", "ngram_range": (1, 2)},
        "segmented": {"tokenizer": segment_words, "token_pattern": None, "ngram_range": (1, 2)},
    }[units]
    vectorizer = TfidfVectorizer(sublinear_tf=True, max_features=MAX_FEATURES, **counted)
    try:
        train = vectorizer.fit_transform(train_texts)
    except ValueError as error:
        if "empty vocabulary" not in str(error):
            raise
        return None, None
    return train, (vectorizer.transform(test_texts) if len(test_texts) else None)
