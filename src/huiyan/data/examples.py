"""Labelled texts out of a table: what a model is trained and tested on."""

import datetime as dt
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

from huiyan.core.errors import ColumnError, DataError
from huiyan.data.columns import require_columns
from huiyan.data.encodings import EncodingGuess
from huiyan.data.limits import MAX_TEXT_CHARACTERS
from huiyan.data.rejected import RejectedRows
from huiyan.data.tables import Row, Table, open_table

_COUNTED_VALUES = 100
_COUNTED_COLUMNS = 100


@dataclass(frozen=True)
class Examples:
    """The usable rows of a table, and what is worth telling about how they were read.

    Args:
        texts: one a row, never empty.
        labels: one a row; empty when no label was asked for.
        groups: one a row, or None when no group was asked for; a row with an empty group is a group of its own.
        sources: ``file:line`` of each row.
        rows_read: rows in the table, the rejected included.
        rejected: how many were rejected, by reason.
        encoding: how the file was decoded; None for Parquet and XLSX.
        distinct: columns of few distinct values among the usable rows, with how many.
        notes: what the user should know about how the file was read.
    """

    texts: list[str]
    labels: list[str]
    groups: list[str] | None
    sources: list[str]
    rows_read: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    encoding: EncodingGuess | None = None
    distinct: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.texts)

    def take(self, indices: Sequence[int]) -> Self:
        """The rows at these places, in this order; what is told about the whole table stays."""
        return replace(
            self,
            texts=[self.texts[index] for index in indices],
            labels=[self.labels[index] for index in indices] if self.labels else [],
            groups=None if self.groups is None else [self.groups[index] for index in indices],
            sources=[self.sources[index] for index in indices],
        )


def read_examples(
    path: str | Path,
    *,
    text: Sequence[str],
    label: str | None,
    group: str | None = None,
    encoding: str | None = None,
    rejected: RejectedRows | None = None,
    of_model: bool = False,
) -> Examples:
    """Read the usable rows of a table; the others go to ``rejected`` with their reasons.

    Args:
        path: the table; ``-`` is standard input.
        text: the text columns, joined with a line break.
        label: the label column; None when none is needed.
        group: the column whose equal values belong together.
        encoding: of a text file; guessed when None.
        rejected: where unusable rows go; when None they are counted only.
        of_model: the columns are those that a model was trained on, and no options; a missing one is said so.
    Raises:
        ColumnError: a column is not there, or the label is among the texts.
        DataError: as ``open_table``.
    """
    if label is not None and label in text:
        raise ColumnError(
            f"The column {label!r} is both text and label, so the text would hold its own answer.",
            hint="Name another column in --text or --label.",
        )
    rejected = rejected if rejected is not None else RejectedRows()
    with open_table(path, encoding=encoding) as table:
        require_columns(table.columns, text, option=None if of_model else "--text", file=str(path))
        require_columns(
            table.columns, [label] if label is not None else [], option=None if of_model else "--label", file=str(path)
        )
        require_columns(table.columns, [group] if group is not None else [], option="--group", file=str(path))
        return _read(table, text, label, group, rejected)


def _read(table: Table, text: Sequence[str], label: str | None, group: str | None, rejected: RejectedRows) -> Examples:
    texts: list[str] = []
    labels: list[str] = []
    groups: list[str] = []
    sources: list[str] = []
    reasons: Counter[str] = Counter()
    seen = _DistinctValues(table.columns)
    rows_read = 0
    for row in table.rows():
        rows_read += 1
        try:
            joined, label_name = _usable(row, text, label)
            group_name = cell_text(row.values.get(group)) if group is not None else ""
        except DataError as error:
            rejected.add(row.file, row.line, error.message, row.values)
            reasons[error.message.partition(": ")[0]] += 1
            continue
        source = f"{row.file}:{row.line}"
        texts.append(joined)
        sources.append(source)
        if label is not None:
            labels.append(label_name)
        if group is not None:
            groups.append(group_name or source)
        seen.add(row.values)
    return Examples(
        texts,
        labels,
        groups if group is not None else None,
        sources,
        rows_read,
        dict(reasons),
        table.encoding,
        seen.counts(),
        list(table.notes),
    )


def _usable(row: Row, text: Sequence[str], label: str | None) -> tuple[str, str]:
    """Text and label of a row; its message is the reason when it has none that can be used."""
    if row.problem is not None:
        raise DataError(row.problem)
    joined = text_of(row.values, text)
    if not joined:
        raise DataError("no text")
    label_name = cell_text(row.values.get(label)) if label is not None else ""
    if label is not None and not label_name:
        raise DataError("no label")
    return joined, label_name


def text_of(values: dict[str, Any], columns: Sequence[str]) -> str:
    """The text of a row: its text columns joined with line breaks, empty ones skipped; ``""`` when all are empty.

    Raises:
        DataError: a cell is no text (a list, bytes), or the text is over ``MAX_TEXT_CHARACTERS``. The message is the
            reason to reject the row with.
    """
    joined = "\n".join(filter(None, [cell_text(values.get(column)) for column in columns]))
    if len(joined) > MAX_TEXT_CHARACTERS:
        raise DataError(
            f"over the size limit: the text has {len(joined)} characters, {MAX_TEXT_CHARACTERS} are the most"
        )
    return joined


def cell_text(value: Any) -> str:
    """A cell as text, stripped; ``""`` for an empty one (None, NaN). Whole numbers have no point: 1.0 gives ``"1"``.

    Raises:
        DataError: the cell is a list, bytes or the like. The message is the reason to reject the row with.
    """
    if isinstance(value, str):
        return value.strip()
    if value is None:
        return ""
    if isinstance(value, float | Decimal):
        if math.isnan(value):
            return ""
        return str(int(value)) if math.isfinite(value) and value == int(value) else str(value)
    if isinstance(value, int | dt.date | dt.time | dt.timedelta):
        return str(value)
    raise DataError(f"not text: a cell holds a {type(value).__name__}")


class _DistinctValues:
    """How many different values each column has, as long as they are few."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._values: dict[str, set[str]] = {column: set() for column in columns[:_COUNTED_COLUMNS]}

    def add(self, values: dict[str, Any]) -> None:
        for column, seen in list(self._values.items()):
            seen.add(str(values.get(column)))
            if len(seen) > _COUNTED_VALUES:
                # Too many to be classes; forgetting the column keeps memory small.
                del self._values[column]

    def counts(self) -> dict[str, int]:
        return {column: len(seen) for column, seen in self._values.items()}
