"""Rows that cannot be used, each written down with where it stands and why: nothing is lost silently."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Self

from huiyan.core.errors import OutputError

_SHOWN_CHARACTERS = 200


class RejectedRows:
    """A JSON Lines file of rejected rows: ``{"file", "line", "reason", "values"}``, and their count by reason.

    Every line is flushed when it is added, so that an interrupted run loses none. A file that is there is replaced.

    Args:
        path: the file; its folder is made. None only counts.
    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.reasons: Counter[str] = Counter()
        self._file: IO[str] | None = None
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                # Half a character (an undecodable byte) becomes the JSON escape of itself.
                self._file = path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n")
            except OSError as error:
                raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error

    @property
    def count(self) -> int:
        """How many rows have been rejected."""
        return self.reasons.total()

    def add(self, file: str, line: int, reason: str, values: Mapping[str, Any] | None = None) -> None:
        """Set one row aside.

        Args:
            file: the table it stands in.
            line: where in the table.
            reason: what is wrong; what comes before the first ``": "`` names the kind and is what is counted.
            values: its cells, of which the beginnings are kept.
        """
        self.reasons[reason.partition(": ")[0]] += 1
        if self._file is None:
            return
        record: dict[str, Any] = {"file": file, "line": line, "reason": reason}
        if values:
            record["values"] = {column: _shown(value) for column, value in values.items()}
        self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        """The collection itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()


def _shown(value: Any) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    text = str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
