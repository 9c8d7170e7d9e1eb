"""What a simple method reaches on the same rows: the numbers a model has to beat."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score, r2_score
from sklearn.model_selection import StratifiedGroupKFold

from huiyan.core.errors import DataError, ShapeError
from huiyan.evaluation.counts import FloatArray, IntArray
from huiyan.evaluation.features import Features, count_features, held_out
from huiyan.evaluation.several import best_f1_thresholds

_ZERO = cast("Any", 0)  # which scikit-learn's signature leaves out
_FEWEST_OF_A_LABEL = 3


@dataclass(frozen=True, slots=True)
class Baseline:
    """A baseline's probabilities for the test rows, ``n c``, and what it is, in words.

    ``thresholds``, of labels that stand by themselves, are the probabilities from which on each is said.
    """

    name: str
    description: str
    probabilities: FloatArray
    thresholds: tuple[float, ...] = ()


def run_baselines(
    train_texts: Sequence[str],
    train_labels: npt.ArrayLike,
    test_texts: Sequence[str],
    *,
    n_classes: int,
    chinese: bool,
    seed: int,
) -> list[Baseline]:
    """Fit each baseline on the training rows and ask it for the test rows; no test label is seen.

    Args:
        train_texts: ``n`` texts.
        train_labels: ``n`` integers in ``range(n_classes)``.
        test_texts: what to answer for.
        n_classes: columns of the probabilities; a class without training rows gets probability 0.
        chinese: the texts are written without spaces: runs of characters are counted or words found by a dictionary,
            whichever is better on a fifth of the training rows.
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

    def score(fitted: Any, fitted_rows: IntArray, held: Any, held_rows: IntArray) -> float:
        if len(np.unique(labels[fitted_rows])) < 2:
            return 0.0
        answers = _fit(fitted, labels[fitted_rows]).predict(held)
        return float(f1_score(labels[held_rows], answers, average="macro", zero_division=_ZERO))

    features = count_features(train_texts, test_texts, chinese=chinese, seed=seed, score=score)
    return [majority, _linear(features, labels, len(test_texts), shares)]


def run_set_baselines(
    train_texts: Sequence[str],
    train_targets: npt.ArrayLike,
    test_texts: Sequence[str],
    *,
    chinese: bool,
    seed: int,
) -> list[Baseline]:
    """The same where a text has any number of labels.

    Each is said from the threshold on that gave the best F1 on a fifth of the known rows, left out for that; then the
    baseline is fitted on all of them.

    Args:
        train_texts: ``n`` texts.
        train_targets: which labels each has, ``n c``.
        test_texts: what to answer for.
        chinese: as for ``run_baselines``.
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
        thresholds=(0.5,) * targets.shape[1],
    )

    def answer(fitted: Any, fitted_rows: IntArray, asked: Any) -> FloatArray:
        return _each_label(fitted, targets[fitted_rows], asked, shares)

    def score(fitted: Any, fitted_rows: IntArray, held: Any, held_rows: IntArray) -> float:
        has = answer(fitted, fitted_rows, held) >= 0.5
        return float(f1_score(targets[held_rows], has, average="macro", zero_division=_ZERO))

    features = count_features(train_texts, test_texts, chinese=chinese, seed=seed, score=score)
    probabilities, thresholds = np.tile(shares, (len(test_texts), 1)), [0.5] * targets.shape[1]
    if features.is_usable:
        probabilities = answer(features.train, features.rows, features.test)
        fitted, held = held_out(np.arange(len(features.rows)), seed=seed)
        if len(fitted) and len(held):
            tried = answer(features.train[fitted], features.rows[fitted], features.train[held])
            thresholds = best_f1_thresholds(targets[features.rows[held]], tried)
    description = (
        f"for each label logistic regression on TF-IDF weights of {features.units}, both answers alike in weight, said "
        "from the threshold of the best F1 on a fifth of the training rows"
    )
    return [frequent, Baseline("TF-IDF + logistic regression", description, probabilities, tuple(thresholds))]


def run_number_baselines(
    train_texts: Sequence[str],
    train_values: npt.ArrayLike,
    test_texts: Sequence[str],
    *,
    chinese: bool,
    seed: int,
) -> list[Baseline]:
    """The same where a text has a number; ``probabilities`` are the numbers, ``n 1``.

    Args:
        train_texts: ``n`` texts.
        train_values: their numbers, ``n``.
        test_texts: what to answer for.
        chinese: as for ``run_baselines``.
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

    def score(fitted: Any, fitted_rows: IntArray, held: Any, held_rows: IntArray) -> float:
        return float(r2_score(values[held_rows], Ridge(alpha=1.0).fit(fitted, values[fitted_rows]).predict(held)))

    features = count_features(train_texts, test_texts, chinese=chinese, seed=seed, score=score)
    if features.is_usable:
        answered = Ridge(alpha=1.0).fit(features.train, values[features.rows]).predict(features.test)[:, None]
    description = f"ridge regression on TF-IDF weights of {features.units}"
    return [mean, Baseline("TF-IDF + ridge regression", description, answered)]


def out_of_fold(
    texts: Sequence[str],
    labels: npt.ArrayLike,
    blocks: Sequence[str],
    *,
    n_classes: int,
    chinese: bool,
    folds: int = 5,
    seed: int = 0,
) -> FloatArray:
    """Probabilities of the linear baseline for rows it was not fitted on, ``n c``: each fold by the others.

    A row is NaN where nothing can be said of it: no other fold has a row of its class, the texts hold nothing to count,
    or there are too few rows or blocks for two folds.

    Args:
        texts: ``n`` texts.
        labels: ``n`` integers in ``range(n_classes)``.
        blocks: ``n`` names; rows of one block are in one fold.
        n_classes: columns of the probabilities.
        chinese: as for ``run_baselines``.
        folds: how many parts, at most.
        seed: of the folds.
    """
    true = np.asarray(labels, dtype=np.int64)
    probabilities = np.full((len(true), n_classes), np.nan)
    for known, held, features in _folds(texts, true, blocks, folds, chinese=chinese, seed=seed):
        fitted = np.unique(true[known][features.rows])
        if len(fitted) > 1:
            answered = _each_class(features, true[known], n_classes)
            probabilities[held] = np.where(np.isin(true[held], fitted)[:, None], answered, np.nan)
    return probabilities


def out_of_fold_sets(
    texts: Sequence[str],
    targets: npt.ArrayLike,
    strata: Sequence[str],
    blocks: Sequence[str],
    *,
    chinese: bool,
    folds: int = 5,
    seed: int = 0,
) -> FloatArray:
    """The same where a text has any number of labels: of each label the probability that a text has it, ``n c``.

    A cell is NaN where nothing can be said of it: fewer than three rows of the other folds have the label, or fewer
    than three have it not.

    Args:
        texts: ``n`` texts.
        targets: which labels each has, ``n c``.
        strata: ``n`` names; every fold gets its share of the rows of each.
        blocks: as for ``out_of_fold``.
        chinese: as for ``run_baselines``.
        folds: how many parts, at most.
        seed: of the folds.
    """
    has = np.asarray(targets) > 0.5
    probabilities = np.full(has.shape, np.nan)
    of_strata = np.unique(np.asarray(strata), return_inverse=True)[1]
    for known, held, features in _folds(texts, of_strata, blocks, folds, chinese=chinese, seed=seed):
        fitted = has[known][features.rows]
        enough = np.minimum(fitted.sum(axis=0), (~fitted).sum(axis=0)) >= _FEWEST_OF_A_LABEL
        answered = _each_label(features.train, fitted, features.test, np.full(has.shape[1], np.nan))
        probabilities[held] = np.where(enough, answered, np.nan)
    return probabilities


def _folds(
    texts: Sequence[str], strata: IntArray, blocks: Sequence[str], folds: int, *, chinese: bool, seed: int
) -> Iterator[tuple[list[int], list[int], Features]]:
    """Rows to fit on, rows held out, and the features of both, a fold at a time; only folds that can be answered."""
    # No more than there are blocks, and rows of the most frequent stratum: with more the splitter has nothing to do.
    folds = min(folds, len(set(blocks)), int(np.bincount(strata).max()) if len(strata) else 0)
    if folds < 2:
        return
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class of fewer rows than folds is not in every fold
        parts = list(splitter.split(strata, strata, np.asarray(blocks)))
    for known_rows, held_rows in cast("list[tuple[IntArray, IntArray]]", parts):
        known: list[int] = known_rows.tolist()
        held: list[int] = held_rows.tolist()
        # Characters in Chinese, without a trial a fold: what is wanted is doubts, and they are nearly the same.
        of_known, of_held = ([texts[row] for row in rows] for rows in (known, held))
        features = count_features(of_known, of_held, chinese=chinese, seed=seed)
        if features.is_usable:
            yield known, held, features


def _each_label(fitted: Any, targets: npt.NDArray[np.bool_], asked: Any, shares: FloatArray) -> FloatArray:
    """Of each label, by a model of its own, the probability of the rows asked for; where all agree, their share."""
    found = np.tile(shares, (asked.shape[0], 1))
    for label in range(targets.shape[1]):
        own = targets[:, label]
        if own.any() and not own.all():
            found[:, label] = _fit(fitted, own.astype(np.int64)).predict_proba(asked)[:, 1]
    return found


def _linear(features: Features, labels: IntArray, n_test: int, shares: FloatArray) -> Baseline:
    description = f"logistic regression on TF-IDF weights of {features.units}, each class weighing the same"
    probabilities = np.tile(shares, (n_test, 1))
    if features.train is None:
        description += "; the training texts hold nothing to count, so it answers by the classes' frequency"
    elif len(np.unique(labels[features.rows])) > 1 and n_test:
        probabilities = _each_class(features, labels, len(shares))
    return Baseline("TF-IDF + logistic regression", description, probabilities)


def _each_class(features: Features, labels: IntArray, n_classes: int) -> FloatArray:
    """Of each class the probability for the texts asked about; 0 for one without rows."""
    model = _fit(features.train, labels[features.rows])
    found = np.zeros((features.test.shape[0], n_classes))
    found[:, model.classes_] = model.predict_proba(features.test)
    return found


def _fit(features: Any, labels: IntArray) -> LogisticRegression:
    # Weighted classes, since a baseline that ignores the rare ones is too easily beaten in macro F1: on our reviews
    # as they fall (82 % positive) it reaches 0.65 with weights, 0.47 without.
    model = LogisticRegression(C=2.0, class_weight="balanced", max_iter=200)
    with warnings.catch_warnings():
        # Stopped after 200 steps it is as good a baseline as fully converged.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(features, labels)
