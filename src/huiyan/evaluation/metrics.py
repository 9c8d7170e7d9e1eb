"""The scores of a classifier on one set of rows."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from huiyan.core.errors import ShapeError
from huiyan.evaluation.auroc import macro_auroc
from huiyan.evaluation.counts import COUNT_METRICS, cells_of, checked, class_scores, count_scores, tally

HEADLINE = (*COUNT_METRICS, "auroc")


@dataclass(frozen=True, slots=True)
class ClassScores:
    """One class: ``support`` is how many rows are of it; the scores are 0 where they are undefined."""

    name: str
    support: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassificationScores:
    """What ``classification_scores`` gives. Every score is better the higher; all but MCC lie between 0 and 1.

    ``confusion[i][j]`` is how many rows of class ``i`` were given class ``j``.
    """

    accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    micro_precision: float
    micro_recall: float
    micro_f1: float
    weighted_precision: float
    weighted_recall: float
    weighted_f1: float
    mcc: float
    auroc: float | None
    per_class: list[ClassScores]
    confusion: list[list[int]]

    def headline(self) -> dict[str, float | None]:
        """The numbers that stand for the whole, by name, in the order of ``HEADLINE``."""
        return {name: getattr(self, name) for name in HEADLINE}

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values that JSON can hold."""
        return asdict(self)


def classification_scores(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, class_names: Sequence[str]
) -> ClassificationScores:
    """Score probabilities against labels, one label a row.

    The answer for a row is its most probable class, the first one on a tie. Macro averages run over the classes that
    are a label or an answer at least once; a class that is neither does not count (scikit-learn's rule). AUROC is the
    mean over the classes that have both rows of their own and others, one against the rest; None when the labels are
    all of one class.

    Args:
        labels: ``n`` integers, columns of ``probabilities``.
        probabilities: ``n c``; finite.
        class_names: ``c`` names, by column.
    Raises:
        ShapeError: the shapes do not fit together, or the labels are not integers.
        DataError: there is no row, a label is no column, or a probability is not finite.
    """
    true, scores = checked(labels, probabilities)
    n_classes = scores.shape[1]
    if len(class_names) != n_classes:
        raise ShapeError(f"class_names must hold one name a column, {n_classes}. Got {len(class_names)} instead.")
    (actual, predicted), counts = cells_of(true, scores.argmax(axis=1), n_classes=n_classes)
    of_class = tally(counts[None], actual, predicted, n_classes=n_classes)
    confusion = np.zeros((n_classes, n_classes), dtype=np.int64)
    confusion[actual, predicted] = counts
    precision, recall, f1 = (values[0].tolist() for values in class_scores(of_class))
    support = of_class.actual[0].astype(int).tolist()
    return ClassificationScores(
        **{name: float(value[0]) for name, value in count_scores(of_class).items()},
        auroc=macro_auroc(true, scores),
        per_class=[
            ClassScores(*values) for values in zip(map(str, class_names), support, precision, recall, f1, strict=True)
        ],
        confusion=confusion.tolist(),
    )
