"""Labelled texts out of a table: what a model is trained and tested on."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from huiyan.core.errors import ColumnError, DataError
from huiyan.core.texts import Text, plain
from huiyan.data.cells import cell_of, cell_text, joined_text
from huiyan.data.columns import require_columns
from huiyan.data.encodings import EncodingGuess
from huiyan.data.labels import Kind, LabelReader, names_in, strata
from huiyan.data.limits import MAX_TEXT_CHARACTERS
from huiyan.data.rejected import RejectedRows
from huiyan.data.tables import Row, Table, open_table

_COUNTED_VALUES = 100
_COUNTED_COLUMNS = 100


@dataclass(frozen=True)
class Examples:
    """The usable rows of a table, and what is worth telling about how they were read.

    Args:
        texts: one a row, never empty, or two.
        labels: one a row, as ``huiyan.data.labels`` has them; empty when no label was asked for.
        groups: one a row, or None when no group was asked for; a row with an empty group is a group of its own.
        sources: ``file:line`` of each row.
        rows_read: rows in the table, the rejected included.
        rejected: how many were rejected, by reason.
        encoding: how the file was decoded; None for Parquet and XLSX.
        distinct: columns of few distinct values among the usable rows, with how many.
        notes: what the user should know about how the file was read.
        kind: of the labels.
    """

    texts: list[Text]
    labels: list[str]
    groups: list[str] | None
    sources: list[str]
    rows_read: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    encoding: EncodingGuess | None = None
    distinct: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    kind: Kind = "classify"

    @property
    def plain(self) -> list[str]:
        """The texts as people and word counters read them: of two, one below the other."""
        return list(map(plain, self.texts))

    @property
    def strata(self) -> list[str]:
        """What each row counts as when every split is to have its share of all."""
        return strata(self.labels, self.kind)

    def label_names(self) -> set[str]:
        """The names in all labels; none where labels are numbers."""
        return {name for label in set(self.labels) for name in names_in(label, self.kind)}

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
    text_pair: Sequence[str] = (),
    labels: LabelReader | None = None,
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
        text_pair: the columns of a second text that is read together with the first, joined likewise.
        labels: how labels are read; one of several by default.
        group: the column whose equal values belong together.
        encoding: of a text file; guessed when None.
        rejected: where unusable rows go; when None they are counted only.
        of_model: the columns are those that a model was trained on, and no options; a missing one is said so.
    Raises:
        ColumnError: a column is not there, or the label is among the texts.
        DataError: as ``open_table``.
    """
    if label is not None and label in (*text, *text_pair):
        raise ColumnError(
            f"The column {label!r} is both text and label, so the text would hold its own answer.",
            hint="Name another column in --text or --label.",
        )
    both = sorted(set(text) & set(text_pair))
    if both:
        raise ColumnError(
            f"The column {both[0]!r} is in the first text and in the second.",
            hint="Name another column in --text or --text-pair.",
        )
    rejected = rejected if rejected is not None else RejectedRows()
    with open_table(path, encoding=encoding) as table:
        require_columns(table.columns, text, option=None if of_model else "--text", file=str(path))
        require_columns(table.columns, text_pair, option=None if of_model else "--text-pair", file=str(path))
        require_columns(
            table.columns, [label] if label is not None else [], option=None if of_model else "--label", file=str(path)
        )
        require_columns(table.columns, [group] if group is not None else [], option="--group", file=str(path))
        return _read(table, (text, text_pair), label, labels or LabelReader("classify"), group, rejected)


def _read(
    table: Table,
    columns: tuple[Sequence[str], Sequence[str]],
    label: str | None,
    reader: LabelReader,
    group: str | None,
    rejected: RejectedRows,
) -> Examples:
    texts: list[Text] = []
    labels: list[str] = []
    groups: list[str] = []
    sources: list[str] = []
    reasons: Counter[str] = Counter()
    seen = _DistinctValues(table.columns)
    rows_read = 0
    for row in table.rows():
        rows_read += 1
        try:
            joined = _text_in(row, *columns)
            label_name = reader.read(cell_of(row.values, label)) if label is not None else ""
            group_name = cell_text(cell_of(row.values, group)) if group is not None else ""
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
        reader.kind,
    )


def _text_in(row: Row, columns: Sequence[str], pair: Sequence[str]) -> Text:
    """What a model reads of a row; the error's message is the reason when there is none that can be used."""
    if row.problem is not None:
        raise DataError(row.problem)
    return text_of(row.values, columns, pair)


def text_of(values: dict[str, Any], columns: Sequence[str], pair: Sequence[str] = ()) -> Text:
    """The text of a row, or the two: columns joined with line breaks, empty ones skipped.

    Raises:
        DataError: there is none, a cell is no text (an object, bytes), or a text is over ``MAX_TEXT_CHARACTERS``. The
            message is the reason to reject the row with.
    """
    first = _joined(values, columns)
    if not first:
        raise DataError("no text")
    if not pair:
        return first
    second = _joined(values, pair)
    if not second:
        raise DataError("no second text")
    return first, second


def _joined(values: dict[str, Any], columns: Sequence[str]) -> str:
    joined = "\n".join(filter(None, [joined_text(cell_of(values, column)) for column in columns]))
    if len(joined) > MAX_TEXT_CHARACTERS:
        raise DataError(
            f"over the size limit: the text has {len(joined)} characters, {MAX_TEXT_CHARACTERS} are the most"
        )
    return joined


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
