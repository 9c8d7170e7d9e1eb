"""How far the answering of a table has come: a bar on a terminal, a line now and then in a log."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from huiyan.data.tables import Row, Table

LOG_EVERY_S = 30.0


class Follower(Protocol):
    """Is told what has been read and answered, from any thread."""

    def read(self, rows: Sequence[Row]) -> None:
        """So many rows more have been read."""
        ...

    def all_read(self) -> None:
        """There are no more rows."""
        ...

    def answered(self, rows: int) -> None:
        """So many rows more have been answered, or can have no answer."""
        ...


class Nobody:
    """A follower who does not look."""

    def read(self, rows: Sequence[Row]) -> None:
        """Nothing."""

    def all_read(self) -> None:
        """Nothing."""

    def answered(self, rows: int) -> None:
        """Nothing."""


class _Counting:
    """Rows read and answered, and about how many there are."""

    def __init__(self, table: Table) -> None:
        self._table, self._row_bytes = table, 0.0
        self.rows_read, self.done, self.exact = 0, 0, False

    def read(self, rows: Sequence[Row]) -> None:
        if not self._row_bytes and rows and self._table.format.compression is None:
            cells = sum(len(str(cell).encode("utf-8", "replace")) + 1 for row in rows for cell in row.values.values())
            self._row_bytes = cells / len(rows)
        self.rows_read += len(rows)

    def all_read(self) -> None:
        self.exact = True

    def total(self) -> int | None:
        """How many rows there are, as far as one can tell."""
        size, read = self._table.bytes_total, self._table.bytes_read
        if self.exact:
            return self.rows_read
        if not size or not read:
            return None
        # What has been read lies in a buffer in part: of a file that fits into it the rows seen say more.
        by_bytes = self.rows_read * size / read
        by_rows = size / self._row_bytes if self._row_bytes else by_bytes
        return int(max(by_bytes, self.rows_read, by_rows if read >= size else 0))


class _Bar(_Counting):
    def __init__(self, table: Table, bar: Progress) -> None:
        super().__init__(table)
        self._bar = bar
        self._task = bar.add_task("predicting", total=None, rows=0)

    def all_read(self) -> None:
        super().all_read()
        self.answered(0)  # with one core all may be answered by now, of a number that was a guess

    def answered(self, rows: int) -> None:
        self.done += rows
        self._bar.update(self._task, completed=self.done, total=self.total(), rows=self.done)


class _Log(_Counting):
    def __init__(self, table: Table, console: Console) -> None:
        super().__init__(table)
        self._console, self._began = console, time.monotonic()
        self._told = self._began

    def answered(self, rows: int) -> None:
        self.done += rows
        now = time.monotonic()
        if now - self._told < LOG_EVERY_S:
            return
        self._told = now
        total = self.total()
        of = "" if total is None else f" of {'' if self.exact else 'about '}{total:,}"
        rate = self.done / (now - self._began)
        self._console.print(f"answered {self.done:,}{of} rows, {rate:,.0f} a second", highlight=False, markup=False)


@contextmanager
def following(table: Table, console: Console | None) -> Iterator[Follower]:
    """Follow the answering of a table on a console; on none, nobody does."""
    if console is None:
        yield Nobody()
        return
    if not console.is_terminal:
        yield _Log(table, console)
        return
    columns = (
        TextColumn("predicting"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]:,} rows"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield _Bar(table, bar)
