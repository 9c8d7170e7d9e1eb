"""Every kind of label by its name."""

from collections.abc import Sequence

from huiyan.data.labels import Kind, names_in
from huiyan.tasks.classify import Classification, sorted_labels
from huiyan.tasks.multilabel import MultiLabel
from huiyan.tasks.ordinal import Ordinal
from huiyan.tasks.regression import Regression
from huiyan.tasks.task import Task


def task_of(kind: Kind, labels: Sequence[str], *, label_column: str, order: Sequence[str] = ()) -> Task:
    """The task of training rows.

    Args:
        kind: of their labels.
        labels: theirs.
        label_column: where they stand.
        order: of ordinal labels; without, they are numbers. A label that no row has is left out.
    """
    if kind == "regression":
        return Regression.of(label_column, labels)
    names = sorted_labels([name for label in labels for name in names_in(label, kind)])
    return task_named(kind, [name for name in order if name in names] or names, label_column=label_column)


def task_named(kind: str, classes: Sequence[str], *, label_column: str) -> Task:
    """The task of a trained model.

    Raises:
        KeyError: there is no such kind.
    """
    if kind == "regression":
        return Regression(label_column)
    return {"classify": Classification, "multilabel": MultiLabel, "ordinal": Ordinal}[kind](classes)
