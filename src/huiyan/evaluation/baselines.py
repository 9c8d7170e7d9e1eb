"""What a simple method reaches on the same rows: the numbers a model has to beat."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import StratifiedGroupKFold

from huiyan.core.errors import DataError, ShapeError
from huiyan.evaluation.counts import FloatArray, IntArray

# Beyond these a linear model on TF-IDF gains little, and takes minutes and gigabytes.
MAX_TRAINING_TEXTS = 100_000
MAX_FEATURES = 300_000


@dataclass(frozen=True, slots=True)
class Baseline:
    """A baseline's probabilities for the test rows, ``n c``, and what it is, in words."""

    name: str
    description: str
    probabilities: FloatArray


def run_baselines(
    train_texts: Sequence[str],
    train_labels: npt.ArrayLike,
    test_texts: Sequence[str],
    *,
    n_classes: int,
    character_ngrams: bool,
    seed: int,
) -> list[Baseline]:
    """Fit each baseline on the training rows and ask it for the test rows; no test label is seen.

    Args:
        train_texts: ``n`` texts.
        train_labels: ``n`` integers in ``range(n_classes)``.
        test_texts: what to answer for.
        n_classes: columns of the probabilities; a class without training rows gets probability 0.
        character_ngrams: count runs of characters, not words: for text written without spaces, as Chinese.
        seed: which rows are drawn when there are more than ``MAX_TRAINING_TEXTS``.
    Returns:
        The majority class, then TF-IDF + logistic regression.
    Raises:
        ShapeError: texts and labels differ in number.
        DataError: there is no training row, or a label is not a class.
    """
    labels = np.asarray(train_labels, dtype=np.int64)
    if labels.shape != (len(train_texts),):
        raise ShapeError(f"There must be one label a text. Got {len(train_texts)} texts, labels {labels.shape}.")
    if not len(labels) or labels.min() < 0 or labels.max() >= n_classes:
        raise DataError(f"Baselines need training rows whose labels are between 0 and {n_classes - 1}.")
    shares = np.bincount(labels, minlength=n_classes) / len(labels)
    majority = Baseline(
        name="majority class",
        description="always answers the most frequent class of the training rows, whatever the text",
        probabilities=np.tile(shares, (len(test_texts), 1)),
    )
    return [majority, _linear(train_texts, labels, test_texts, shares, character_ngrams=character_ngrams, seed=seed)]


def run_set_baselines(
    train_texts: Sequence[str],
    train_targets: npt.ArrayLike,
    test_texts: Sequence[str],
    *,
    character_ngrams: bool,
    seed: int,
) -> list[Baseline]:
    """The same where a text has any number of labels, each said from a probability of one half on.

    Args:
        train_texts: ``n`` texts.
        train_targets: which labels each has, ``n c``.
        test_texts: what to answer for.
        character_ngrams: as for ``run_baselines``.
        seed: as there.
    Returns:
        The most frequent labels, then TF-IDF + logistic regression, one for each label.
    Raises:
        DataError: there is no training row.
    """
    targets = np.asarray(train_targets) > 0.5
    if not len(targets) or len(targets) != len(train_texts):
        raise DataError("Baselines need training rows, and the labels of each.")
    shares = targets.mean(axis=0)
    # With no label in half of the rows it says the most frequent one, which is better than nothing at all.
    constant = np.where(shares == shares.max(), np.maximum(shares, 0.5), shares)
    frequent = Baseline(
        name="most frequent labels",
        description="always says the labels that half of the training rows have, or else the most frequent one",
        probabilities=np.tile(constant, (len(test_texts), 1)),
    )
    units, counted, rows = _drawn_features(train_texts, test_texts, character_ngrams=character_ngrams, seed=seed)
    probabilities = np.tile(shares, (len(test_texts), 1))
    if counted is not None and len(test_texts):
        train, test = counted
        for label in range(targets.shape[1]):
            own = targets[rows, label]
            if own.any() and not own.all():
                probabilities[:, label] = _fit(train, own.astype(np.int64)).predict_proba(test)[:, 1]
    description = f"for each label a logistic regression on TF-IDF weights of {units}, both answers weighing the same"
    return [frequent, Baseline("TF-IDF + logistic regression", description, probabilities)]


def run_number_baselines(
    train_texts: Sequence[str],
    train_values: npt.ArrayLike,
    test_texts: Sequence[str],
    *,
    character_ngrams: bool,
    seed: int,
) -> list[Baseline]:
    """The same where a text has a number; ``probabilities`` are the numbers, ``n 1``.

    Args:
        train_texts: ``n`` texts.
        train_values: their numbers, ``n``.
        test_texts: what to answer for.
        character_ngrams: as for ``run_baselines``.
        seed: as there.
    Returns:
        The mean, then TF-IDF + ridge regression.
    Raises:
        DataError: there is no training row.
    """
    values = np.asarray(train_values, dtype=np.float64)
    if not len(values) or len(values) != len(train_texts):
        raise DataError("Baselines need training rows, and the number of each.")
    answered = np.full((len(test_texts), 1), values.mean())
    mean = Baseline("mean", "always answers the mean of the training rows, whatever the text", answered)
    units, counted, rows = _drawn_features(train_texts, test_texts, character_ngrams=character_ngrams, seed=seed)
    if counted is not None and len(test_texts):
        train, test = counted
        answered = Ridge(alpha=1.0).fit(train, values[rows]).predict(test)[:, None]
    return [mean, Baseline("TF-IDF + ridge regression", f"ridge regression on TF-IDF weights of {units}", answered)]


def out_of_fold(
    texts: Sequence[str],
    labels: npt.ArrayLike,
    blocks: Sequence[str],
    *,
    n_classes: int,
    character_ngrams: bool,
    folds: int = 5,
    seed: int = 0,
) -> FloatArray:
    """Probabilities of the linear baseline for rows it was not fitted on, ``n c``: each fold by the others.

    Args:
        texts: ``n`` texts.
        labels: ``n`` integers in ``range(n_classes)``.
        blocks: ``n`` names; rows of one block are in one fold.
        n_classes: columns of the probabilities.
        character_ngrams: as for ``run_baselines``.
        folds: how many parts.
        seed: of the folds.
    """
    true = np.asarray(labels, dtype=np.int64)
    probabilities = np.zeros((len(true), n_classes))
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class of fewer rows than folds is not in every fold
        parts = list(splitter.split(true, true, np.asarray(blocks)))
    for known_rows, held_out_rows in cast("list[tuple[IntArray, IntArray]]", parts):
        known: list[int] = known_rows.tolist()
        held_out: list[int] = held_out_rows.tolist()
        shares = np.bincount(true[known], minlength=n_classes) / max(1, len(known))
        baseline = _linear(
            [texts[row] for row in known],
            true[known],
            [texts[row] for row in held_out],
            shares,
            character_ngrams=character_ngrams,
            seed=seed,
        )
        probabilities[held_out] = baseline.probabilities
    return probabilities


def _linear(
    train_texts: Sequence[str],
    labels: IntArray,
    test_texts: Sequence[str],
    shares: FloatArray,
    *,
    character_ngrams: bool,
    seed: int,
) -> Baseline:
    units, counted, rows = _drawn_features(train_texts, test_texts, character_ngrams=character_ngrams, seed=seed)
    description = f"logistic regression on TF-IDF weights of {units}, each class weighing the same"
    probabilities = np.tile(shares, (len(test_texts), 1))
    if counted is None:
        description += "; the training texts hold nothing to count, so it answers by the classes' frequency"
    elif len(np.unique(labels[rows])) > 1 and len(test_texts):
        train, test = counted
        model = _fit(train, labels[rows])
        probabilities = np.zeros_like(probabilities)
        probabilities[:, model.classes_] = model.predict_proba(test)
    return Baseline("TF-IDF + logistic regression", description, probabilities)


def _fit(features: Any, labels: IntArray) -> LogisticRegression:
    # Weighted classes, since a baseline that ignores the rare ones is too easily beaten in macro F1: on our reviews
    # as they fall (82 % positive) it reaches 0.65 with weights, 0.47 without.
    model = LogisticRegression(C=2.0, class_weight="balanced", max_iter=200)
    with warnings.catch_warnings():
        # Stopped after 200 steps it is as good a baseline as fully converged.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(features, labels)


def _drawn_features(
    train_texts: Sequence[str], test_texts: Sequence[str], *, character_ngrams: bool, seed: int
) -> tuple[str, Any, IntArray]:
    """What is counted, in words; the matrices of ``_features``; and the training rows they are of."""
    units = "runs of 1 to 3 characters" if character_ngrams else "words and pairs of words"
    rows = np.arange(len(train_texts))
    if len(rows) > MAX_TRAINING_TEXTS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MAX_TRAINING_TEXTS, replace=False))
        units += f", fitted on {MAX_TRAINING_TEXTS:,} training rows drawn at random"
    texts = [train_texts[row] for row in rows.tolist()]
    return units, _features(texts, test_texts, character_ngrams=character_ngrams), rows


def _features(train_texts: Sequence[str], test_texts: Sequence[str], *, character_ngrams: bool) -> Any:
    """Sparse matrices for the training and the test texts; None when the training texts have no word at all."""
    if character_ngrams:
        vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True, max_features=MAX_FEATURES)
    else:
        # Words of one character count too: scikit-learn's own pattern drops "I", "5" and single Han characters.
        pattern = r"(?u)\b\w+\b"
        vectorizer = TfidfVectorizer(
            token_pattern=pattern, ngram_range=(1, 2), sublinear_tf=True, max_features=MAX_FEATURES
        )
    try:
        train = vectorizer.fit_transform(train_texts)
    except ValueError as error:
        if "empty vocabulary" not in str(error):
            raise
        return None
    return train, (vectorizer.transform(test_texts) if len(test_texts) else None)
