"""Rows out of CSV and TSV text.

The parser is the standard library's, in its strict mode, handed one record's lines at a time. A quote that never closes
therefore costs the one row it stands in: the lines after it are put back and read again.
"""

import csv
from collections.abc import Iterator, Sequence
from typing import Any

from huiyan.core.errors import DataError
from huiyan.data.columns import require_good_names
from huiyan.data.limits import MAX_REREAD_CHARACTERS, MAX_ROW_CHARACTERS, MAX_ROW_LINES
from huiyan.data.lines import Lines, readable, text_problem

# The row is what we limit, and one cell may be as large. The csv module has this setting for the whole process only.
csv.field_size_limit(MAX_ROW_CHARACTERS + 1)

Record = tuple[int, dict[str, Any], str | None]
"""What every reader of a format gives: line number, values by column, and why the row cannot be used (or None)."""


class DelimitedReader:
    """The rows of a CSV or TSV text, after its header.

    Args:
        lines: the text.
        is_tsv: tabs separate cells and quotes need not mean anything; else the header decides among , ; and tab.
        name: the file, for messages.
    Raises:
        DataError: there is no header, or its names are empty or not unique; later, when the file is not CSV at all.
    """

    def __init__(self, lines: Lines, *, is_tsv: bool, name: str) -> None:
        self.notes: list[str] = []
        self._lines = lines
        self._is_tsv = is_tsv
        self._name = name
        self._reread_characters = 0
        self.columns: list[str] = []
        header = lines.next_line()
        while header is not None and not header[1].strip():
            header = lines.next_line()
        if header is None:
            raise DataError(f"{name} is empty.", hint="Its first line must name the columns.")
        self._delimiter = "\t" if is_tsv else _delimiter_of(header[1])
        # `"a", "b"` needs the space skipped for the quote to be seen; elsewhere a space is part of its cell.
        self._skip_space = f'{self._delimiter} "' in header[1]
        lines.put_back([header])
        _, fields, problem = self._next_record() or (1, [], "no header")
        if problem is not None:
            hint = "Name the right one with --encoding." if problem.startswith(("undecodable", "damaged")) else ""
            raise DataError(f"The header of {name} cannot be used: {problem}.", hint=hint)
        self.columns = require_good_names(fields, file=name)

    def __iter__(self) -> Iterator[Record]:
        """Every row; blank lines are no rows."""
        width = len(self.columns)
        while (record := self._next_record()) is not None:
            line, fields, problem = record
            if len(fields) <= 1 and not "".join(fields).strip() and problem is None:
                continue
            if problem is None and len(fields) != width:
                problem = f"not the header's number of cells: {len(fields)} instead of {width}"
            values = dict(zip(self.columns, fields, strict=False))
            if problem is not None:
                values = {column: readable(value) for column, value in values.items()}
            yield line, values, problem

    def _next_record(self) -> tuple[int, list[str], str | None] | None:
        """First line, cells and problem of the next record; None at the end."""
        taken: list[tuple[int, str]] = []
        try:
            fields = next(self._parser(self._feed(taken)))
        except StopIteration:
            return None
        except csv.Error:
            return self._without_quotes(taken)
        if self._is_tsv and len(taken) > 1 and len(self._plain(taken[0][1])) == len(self.columns):
            # A whole row that happens to begin a cell with a quote, not the first line of a longer one.
            return self._without_quotes(taken)
        return taken[0][0], fields, _problem_of("".join(line for _, line in taken))

    def _feed(self, taken: list[tuple[int, str]]) -> Iterator[str]:
        """Lines for one record, noted in ``taken``; stops where an open quote has run too far."""
        n_characters = 0
        while (line := self._lines.next_line()) is not None:
            taken.append(line)
            n_characters += len(line[1])
            yield line[1]
            if n_characters > MAX_ROW_CHARACTERS or len(taken) >= MAX_ROW_LINES:
                return

    def _without_quotes(self, taken: list[tuple[int, str]]) -> tuple[int, list[str], str | None]:
        """The first line of a record whose quotes do not pair, cells split plainly; the other lines are put back."""
        (number, line), *others = taken
        self._lines.put_back(others)
        self._reread_characters += sum(len(other) for _, other in others)
        if self._reread_characters > MAX_REREAD_CHARACTERS:
            raise DataError(
                f"{self._name} has too many rows whose quotes do not pair (the last on line {number}): it is not CSV.",
                hint="Write it again with a CSV writer, or as JSONL.",
            )
        fields = self._plain(line)
        if self._is_tsv:
            # Most TSV is written without quoting, so there a lone quote is just a character.
            return number, fields, _problem_of(line)
        return number, fields, _problem_of(line) or "unpaired quote: a quoted cell does not end where it should"

    def _plain(self, line: str) -> list[str]:
        """The cells of one line when quotes mean nothing."""
        return line.rstrip("\r\n").split(self._delimiter)

    def _parser(self, lines: Iterator[str]) -> Iterator[list[str]]:
        return csv.reader(lines, delimiter=self._delimiter, strict=True, skipinitialspace=self._skip_space)


def _problem_of(text: str) -> str | None:
    if len(text) > MAX_ROW_CHARACTERS:
        return f"over the size limit: a row of more than {MAX_ROW_CHARACTERS} characters"
    return text_problem(text)


def _delimiter_of(header: str) -> str:
    """The most frequent of comma, semicolon and tab outside quotes; a comma when there is none."""
    outside = "".join(header.split('"')[::2])
    candidates: Sequence[str] = (",", ";", "\t")
    return max(candidates, key=outside.count)
