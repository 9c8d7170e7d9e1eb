"""One cell of a table: where it is, and what it is as text."""

import datetime as dt
import math
from decimal import Decimal
from typing import Any, cast

from huiyan.core.errors import DataError


def cell_of(values: dict[str, Any], column: str) -> Any:
    """The cell of a column; of one within a nested object by its path, ``target.text``. None where there is none."""
    if column in values or "." not in column:
        return values.get(column)
    found: Any = values
    for part in column.split("."):
        found = cast("dict[str, Any]", found).get(part) if isinstance(found, dict) else None
    return found


def joined_text(value: Any) -> str:
    """A cell as text, of a list its texts with "; " between them.

    Raises:
        DataError: as ``cell_text``.
    """
    if isinstance(value, list):
        return "; ".join(filter(None, map(cell_text, cast("list[Any]", value))))
    return cell_text(value)


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
