"""Whether labelled texts can be learnt from at all, said before any time is spent on training."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from huiyan.core.errors import DataError
from huiyan.data.examples import Examples
from huiyan.data.labels import names_in, shown_label

MIN_ROWS = 20
FEW_ROWS = 200
_MAX_SUGGESTED_CLASSES = 50
_SHOWN_REASONS = 5


def check_usable(
    examples: Examples, *, label_column: str, columns: Mapping[str, int] | None = None, order: Sequence[str] = ()
) -> list[str]:
    """Check labelled examples before training.

    Args:
        examples: read with a label.
        label_column: what the labels' column is called.
        columns: other columns and how many distinct values each has, to suggest one from; by default what
            ``read_examples`` counted.
        order: of ordinal labels, from the lowest; numbers need none.
    Returns:
        Warnings: what will work, but less well than the user may hope.
    Raises:
        DataError: there are under 20 usable rows, only one class, nearly as many labels as rows, or ordinal labels
            whose order nobody knows.
    """
    n = len(examples)
    if n < MIN_ROWS:
        raise DataError(
            f"At least {MIN_ROWS} usable rows are needed to train and test. {_what_there_was(examples)}",
            hint="Add rows, or look at the rejected ones.",
        )
    suggestion = _suggestion(examples.distinct if columns is None else columns, label_column, n)
    if len(set(examples.labels)) == 1:
        raise DataError(
            f"Every row has the same label {shown_label(examples.labels[0], examples.kind)!r} in column "
            f"{label_column!r}; at least two are needed.",
            hint=suggestion,
        )
    if examples.kind == "ordinal":
        _check_ordered(examples, label_column, order)
    each = [name for label in examples.labels for name in names_in(label, examples.kind)]
    names = set(each)
    if 2 * len(names) >= len(each) > 0:
        numbers = examples.kind == "classify" and all(map(_is_number, names))
        raise DataError(
            f"The label column {label_column!r} has {len(names)} different values in {n} rows: mostly unique, "
            "so they are not classes.",
            hint="If they are quantities: --task regression. " * numbers + suggestion,
        )
    if n < FEW_ROWS:
        return [f"Only {n} usable rows: the test scores will have wide intervals. {FEW_ROWS} or more are better."]
    return []


def _check_ordered(examples: Examples, label_column: str, order: Sequence[str]) -> None:
    strange = next((label for label in examples.labels if not _is_number(label)), None)
    if not order and strange is not None:
        raise DataError(
            f"Ordinal labels must be numbers, or have an order. The column {label_column!r} has {strange!r}.",
            hint="Name them from the lowest to the highest: --label-order low --label-order middle --label-order high",
        )


def _is_number(label: str) -> bool:
    try:
        return math.isfinite(float(label))
    except ValueError:
        return False


def _what_there_was(examples: Examples) -> str:
    read = f"Got {len(examples)} of {max(examples.rows_read, len(examples))} read"
    if not examples.rejected:
        return f"{read}."
    reasons = Counter(examples.rejected).most_common(_SHOWN_REASONS)
    return f"{read}; rejected: " + ", ".join(f"{count} with {reason}" for reason, count in reasons) + "."


def _suggestion(columns: Mapping[str, int], label_column: str, n_rows: int) -> str:
    likely = [
        (count, column)
        for column, count in columns.items()
        if column != label_column and 2 <= count <= min(_MAX_SUGGESTED_CLASSES, n_rows // 4)
    ]
    if not likely:
        return "No other column has a few distinct values; a class for each row is needed."
    shown = ", ".join(f"{column!r} ({count} values)" for count, column in sorted(likely)[:5])
    return f"Columns with few distinct values, which could be labels: {shown}."
