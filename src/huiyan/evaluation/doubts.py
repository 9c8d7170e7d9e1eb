"""Labels that are probably wrong: confident learning on probabilities that a model gave without having seen the row."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from huiyan.core.errors import ShapeError
from huiyan.evaluation.counts import checked


@dataclass(frozen=True, slots=True)
class Doubt:
    """A row whose label is in doubt: ``likely`` is the class the model believes in, with what probability of each."""

    row: int
    label: int
    likely: int
    probability_of_label: float
    probability_of_likely: float


@dataclass(frozen=True, slots=True)
class SetDoubt:
    """A row whose set of labels is in doubt: labels that it has ``too_many`` and that are ``missing``.

    ``probability`` is what the model gives to the surest of these changes.
    """

    row: int
    too_many: tuple[int, ...]
    missing: tuple[int, ...]
    probability: float


def doubtful_labels(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> list[Doubt]:
    """Rows whose label a model doubts, the most doubtful first.

    A class is believed of a row when its probability is at least what rows labelled with it have on average: classes
    that the model is seldom sure of need less. A row is in doubt when a class other than its label is believed of it,
    and the likeliest of those believed is not the label.

    Source: Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", eq. 1 and
    2, ranked by the margin between the two probabilities (section 3.2).

    Args:
        labels: ``n`` integers, columns of ``probabilities``.
        probabilities: ``n c``, each row's from a model that was not trained on it.
    Raises:
        ShapeError, DataError: as ``classification_scores``.
    """
    true, scores = checked(labels, probabilities)
    rows = np.arange(len(true))
    own = scores[rows, true]
    counts = np.bincount(true, minlength=scores.shape[1])
    # Of a class without a row nothing can be believed.
    usual = np.where(counts > 0, np.bincount(true, own, minlength=scores.shape[1]) / np.maximum(counts, 1), np.inf)
    likely = np.where(scores >= usual, scores, -1.0).argmax(axis=1)
    believed = scores[rows, likely] >= usual[likely]
    as_likely = (own >= usual[true]) & (own >= scores[rows, likely])
    doubted = np.flatnonzero(believed & (likely != true) & ~as_likely)
    margins = own[doubted] - scores[doubted, likely[doubted]]
    return [
        Doubt(row, int(true[row]), int(likely[row]), float(own[row]), float(scores[row, likely[row]]))
        for row in doubted[np.argsort(margins, kind="stable")].tolist()
    ]


def doubtful_sets(targets: npt.ArrayLike, probabilities: npt.ArrayLike) -> list[SetDoubt]:
    """The same where a row has any number of labels: each label is had or not, and either may be in doubt.

    Beside what ``doubtful_labels`` asks for the model must find the change likelier than not: of a rare label it is
    seldom sure, and with many labels hardly a row would be left that none of them makes doubtful.

    Args:
        targets: which labels each row has, ``n c``.
        probabilities: that it has them, ``n c``, from a model that was not trained on the row; NaN where it has no
            opinion, and nothing is doubted.
    Raises:
        ShapeError: the two are not of one shape.
    """
    has, scores = np.asarray(targets) > 0.5, np.asarray(probabilities, dtype=np.float64)
    if has.ndim != 2 or has.shape != scores.shape:
        raise ShapeError(f"targets and probabilities must both be of shape (n, c). Got {has.shape} and {scores.shape}.")
    changes: dict[int, list[tuple[float, int]]] = {}
    for label in range(has.shape[1]):
        rows = np.flatnonzero(np.isfinite(scores[:, label]))
        if not len(rows):
            continue
        of_label = np.stack([1 - scores[rows, label], scores[rows, label]], axis=1)
        for doubt in doubtful_labels(has[rows, label].astype(np.int64), of_label):
            if doubt.probability_of_likely > doubt.probability_of_label:
                changes.setdefault(int(rows[doubt.row]), []).append((doubt.probability_of_likely, label))
    found = [
        SetDoubt(
            row,
            tuple(label for _, label in changed if has[row, label]),
            tuple(label for _, label in changed if not has[row, label]),
            max(changed)[0],
        )
        for row, changed in changes.items()
    ]
    return sorted(found, key=lambda doubt: (-doubt.probability, doubt.row))
