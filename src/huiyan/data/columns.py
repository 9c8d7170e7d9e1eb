"""Columns by name: the names a table may have, and those a user asks for."""

from collections import Counter
from collections.abc import Sequence

from huiyan.core.errors import ColumnError, DataError, closest
from huiyan.data.limits import MAX_COLUMNS


def require_columns(available: Sequence[str], wanted: Sequence[str], *, option: str | None, file: str) -> None:
    """Check that a table has the columns that an option names; with None, those that a model was trained on.

    Raises:
        ColumnError: one is not there; the closest that is there is named.
    """
    for name in wanted:
        # The head of a path is the column: what is in its objects differs from row to row.
        if name not in available and name.partition(".")[0] not in available:
            place = "standard input" if file == "-" else file
            asked = "that the model was trained on" if option is None else f"(option {option})"
            raise ColumnError(f"{place} has no column {name!r} {asked}.", hint=closest(name, available))


def require_good_names(names: Sequence[str], *, file: str) -> list[str]:
    """The column names of a header, stripped of surrounding whitespace.

    A column without a name is called after its place, ``column 1``: pandas writes its index so.

    Raises:
        DataError: a name stands twice, or there are more than ``MAX_COLUMNS``.
    """
    stripped = [name.strip() or f"column {place}" for place, name in enumerate(names, start=1)]
    if len(stripped) > MAX_COLUMNS:
        raise DataError(f"{file} has {len(stripped)} columns; {MAX_COLUMNS} are the most that is read.")
    twice = [name for name, count in Counter(stripped).items() if count > 1]
    if twice:
        shown = ", ".join(repr(name) for name in twice[:5])
        raise DataError(f"{file} has more than one column named {shown}.", hint="Give every column its own name.")
    return stripped
