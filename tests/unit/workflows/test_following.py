"""How far the answering of a table has come, told in rows."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from huiyan.data.tables import open_table
from huiyan.workflows import following as module
from huiyan.workflows.following import following


def test_a_log_has_a_line_now_and_then(
    write_reviews: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    shown = io.StringIO()
    with open_table(write_reviews(tmp_path / "in.csv", 400)) as table, following(table, Console(file=shown)) as told:
        rows = list(table.rows())
        told.read(rows[:100])
        told.answered(60)
        assert shown.getvalue() == ""
        now[0] += 40
        told.answered(40)
        # The whole file has been read into a buffer; the rows that were seen tell how many there may be.
        said, about = shown.getvalue().split(" of about ")
        assert said == "answered 100" and 350 < int(about.split(" rows")[0]) < 450 and "2 a second" in about
        told.read(rows[100:])
        told.all_read()
        now[0] += 40
        told.answered(100)
        assert shown.getvalue().splitlines()[-1] == "answered 200 of 400 rows, 2 a second"


def test_without_a_console_nobody_is_told(write_reviews: Callable[..., Path], tmp_path: Path) -> None:
    with open_table(write_reviews(tmp_path / "in.csv", 5)) as table, following(table, None) as told:
        told.read([])
        told.answered(5)
        told.all_read()
