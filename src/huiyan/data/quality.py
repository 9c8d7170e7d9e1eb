"""Whether labelled texts can be learnt from at all, said before any time is spent on training."""

from collections import Counter
from collections.abc import Mapping

from huiyan.core.errors import DataError
from huiyan.data.examples import Examples

MIN_ROWS = 20
FEW_ROWS = 200
_MAX_SUGGESTED_CLASSES = 50
_SHOWN_REASONS = 5


def check_usable(examples: Examples, *, label_column: str, columns: Mapping[str, int] | None = None) -> list[str]:
    """Check labelled examples before training.

    Args:
        examples: read with a label.
        label_column: what the labels' column is called.
        columns: other columns and how many distinct values each has, to suggest one from; by default what
            ``read_examples`` counted.
    Returns:
        Warnings: what will work, but less well than the user may hope.
    Raises:
        DataError: there are under 20 usable rows, only one class, or nearly as many labels as rows.
    """
    n = len(examples)
    if n < MIN_ROWS:
        raise DataError(
            f"At least {MIN_ROWS} usable rows are needed to train and test. {_what_there_was(examples)}",
            hint="Add rows, or look at the rejected ones.",
        )
    counts = Counter(examples.labels)
    if len(counts) == 1:
        raise DataError(
            f"Every row has the same label {next(iter(counts))!r} in column {label_column!r}; "
            "at least two classes are needed.",
            hint=_suggestion(examples.distinct if columns is None else columns, label_column, n),
        )
    if 2 * len(counts) >= n:
        raise DataError(
            f"The label column {label_column!r} has {len(counts)} different values in {n} rows: mostly unique, "
            "so they are not classes.",
            hint=_suggestion(examples.distinct if columns is None else columns, label_column, n),
        )
    if n < FEW_ROWS:
        return [f"Only {n} usable rows: the test scores will have wide intervals. {FEW_ROWS} or more are better."]
    return []


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
