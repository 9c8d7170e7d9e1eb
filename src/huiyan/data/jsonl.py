"""Rows out of JSON Lines text: one object a line."""

import json
from collections.abc import Iterator
from typing import Any

from huiyan.core.errors import DataError
from huiyan.data.delimited import Record
from huiyan.data.limits import MAX_ROW_CHARACTERS
from huiyan.data.lines import Lines, text_problem


class JsonLinesReader:
    """The rows of a JSON Lines text. Keys may differ from row to row; a key that is not there is an empty cell.

    Args:
        lines: the text.
        name: the file, for messages.
        look_ahead: rows read at once to learn the columns; 1 on a live stream, whose second row may be long in coming.
    Raises:
        DataError: none of these first rows is a JSON object.
    """

    def __init__(self, lines: Lines, *, name: str, look_ahead: int = 100) -> None:
        self.notes: list[str] = []
        self._lines = lines
        self._first: list[Record] = []
        names: dict[str, None] = {}
        problems: list[str] = []
        for record in self._records():
            self._first.append(record)
            names.update(dict.fromkeys(record[1]))
            if record[2] is not None:
                problems.append(f"line {record[0]}: {record[2]}")
            if len(self._first) >= look_ahead:
                break
        if not names:
            found = f" ({problems[0]})" if problems else ""
            raise DataError(f"{name} holds no JSON object{found}.", hint="Write one JSON object a line.")
        self.columns = list(names)

    def __iter__(self) -> Iterator[Record]:
        """Every row; blank lines are no rows."""
        yield from self._first
        self._first = []
        yield from self._records()

    def _records(self) -> Iterator[Record]:
        for number, line in self._lines:
            if line.strip():
                yield number, *_parsed(line)


def _parsed(line: str) -> tuple[dict[str, Any], str | None]:
    if len(line) > MAX_ROW_CHARACTERS:
        return {}, f"over the size limit: a row of more than {MAX_ROW_CHARACTERS} characters"
    problem = text_problem(line)
    if problem is not None:
        return {}, problem
    try:
        value: Any = json.loads(line)
    except json.JSONDecodeError as error:
        return {}, f"malformed JSON: {error.msg} at character {error.pos + 1}"
    except (ValueError, RecursionError) as error:  # a number of too many digits, brackets nested too deeply
        return {}, f"malformed JSON: {error}"
    if not isinstance(value, dict):
        return {}, f"malformed JSON: an object was expected, got {type(value).__name__}"
    # The line itself was sound, so only an escape can bring in half a character or a NUL.
    return value, _strings_problem(value) if "\\u" in line else None


def _strings_problem(value: Any) -> str | None:
    """The first problem of any string within a JSON value, keys included."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting.extend((*item.keys(), *item.values()))
        elif isinstance(item, list):
            waiting.extend(item)
        elif isinstance(item, str) and (problem := text_problem(item)) is not None:
            return problem
    return None
