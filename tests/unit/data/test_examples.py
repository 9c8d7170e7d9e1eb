import datetime as dt
import json
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from huiyan.core.errors import ColumnError, DataError
from huiyan.data import examples
from huiyan.data.examples import Examples, cell_text, read_examples, text_of
from huiyan.data.rejected import RejectedRows

CSV = """\
id,title,review,stars,user
1,Great,Fits well,5,ann
2,, Only a review ,1,bob
3,Only a title,,5,ann
4,,,1,bob
5,No label,at all,,ann
6,too,short
7,Bad,Broke,1,
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text(CSV, encoding="utf-8")
    return path


def test_texts_labels_groups_and_sources(path):
    found = read_examples(path, text=["title", "review"], label="stars", group="user")
    assert found.texts == ["Great\nFits well", "Only a review", "Only a title", "Bad\nBroke"]
    assert found.labels == ["5", "1", "5", "1"]
    assert found.sources == [f"{path}:{line}" for line in (2, 3, 4, 8)]
    # A row without a group belongs to nobody else's.
    assert found.groups == ["ann", "bob", "ann", f"{path}:8"]
    assert len(found) == 4


def test_rejected_rows_are_written_with_their_reasons(path, tmp_path):
    with RejectedRows(tmp_path / "rejected.jsonl") as rejected:
        found = read_examples(path, text=["title", "review"], label="stars", rejected=rejected)
    lines = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text("utf-8").splitlines()]
    assert [(line["file"], line["line"], line["reason"]) for line in lines] == [
        (str(path), 5, "no text"),
        (str(path), 6, "no label"),
        (str(path), 7, "not the header's number of cells: 3 instead of 5"),
    ]
    assert lines[1]["values"]["title"] == "No label"
    assert found.rows_read == len(found) + rejected.count == 7
    assert found.rejected == {"no text": 1, "no label": 1, "not the header's number of cells": 1}


def test_without_a_label_nothing_is_missing(path):
    found = read_examples(path, text=["title", "review"], label=None)
    assert len(found) == 5
    assert (found.labels, found.groups) == ([], None)


def test_what_is_told_about_the_file(path):
    found = read_examples(path, text=["review", "title"], label="stars")
    assert found.encoding is not None
    assert found.encoding.name == "utf-8"
    assert found.distinct["stars"] == 2
    assert found.texts[0] == "Fits well\nGreat"


def test_columns_of_many_values_are_not_counted(path, monkeypatch):
    monkeypatch.setattr(examples, "_COUNTED_VALUES", 3)
    found = read_examples(path, text=["title", "review"], label=None)
    assert "id" not in found.distinct
    assert found.distinct["user"] == 3  # ann, bob and none


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_labels_are_the_same_from_every_format(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    if suffix == "csv":
        path.write_text("text,label\na,1\nb, 0\n")
    elif suffix == "jsonl":
        path.write_text('{"text": "a", "label": 1}\n{"text": "b", "label": 0.0}\n{"text": "c"}\n')
    else:
        pl.DataFrame({"text": ["a", "b", "c"], "label": [1.0, 0.0, None]}).write_parquet(path)
    assert read_examples(path, text=["text"], label="label").labels == ["1", "0"]


@pytest.mark.parametrize(
    ("option", "columns"),
    [
        ("--text", {"text": ["titel"], "label": "stars"}),
        ("--label", {"text": ["title"], "label": "star"}),
        ("--group", {"text": ["title"], "label": "stars", "group": "users"}),
    ],
)
def test_a_missing_column_names_its_option_and_the_closest(path, option, columns):
    with pytest.raises(ColumnError, match=f"option {option}.*Did you mean"):
        read_examples(path, **columns)


def test_a_label_that_is_also_text_is_refused(path):
    with pytest.raises(ColumnError, match="'stars' is both text and label"):
        read_examples(path, text=["title", "stars"], label="stars")


def test_taking_rows_keeps_what_belongs_together(path):
    found = read_examples(path, text=["title", "review"], label="stars", group="user")
    taken = found.take([3, 0])
    assert taken.texts == ["Bad\nBroke", "Great\nFits well"]
    assert taken.labels == ["1", "5"]
    assert taken.groups == [f"{path}:8", "ann"]
    assert taken.sources == [f"{path}:8", f"{path}:2"]
    assert taken.rows_read == 7
    bare = Examples(["a", "b"], [], None, ["f:1", "f:2"]).take([1])
    assert (bare.texts, bare.labels, bare.groups) == (["b"], [], None)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (" a ", "a"),
        ("1.0", "1.0"),
        (None, ""),
        (float("nan"), ""),
        (1, "1"),
        (1.0, "1"),
        (-0.0, "0"),
        (2.5, "2.5"),
        (1e20, "100000000000000000000"),
        (float("inf"), "inf"),
        (Decimal("3.00"), "3"),
        (Decimal("3.10"), "3.10"),
        (True, "True"),
        (dt.date(2024, 5, 1), "2024-05-01"),
    ],
)
def test_cells_as_text(value, text):
    assert cell_text(value) == text


@pytest.mark.parametrize("value", [{"a": 1}, b"a"])
def test_cells_that_are_no_text(value):
    with pytest.raises(DataError, match=f"not text: a cell holds a {type(value).__name__}"):
        text_of({"text": value}, ["text"])


def test_a_text_over_the_limit_is_refused(monkeypatch):
    monkeypatch.setattr(examples, "MAX_TEXT_CHARACTERS", 10)
    assert text_of({"a": "x" * 10}, ["a"]) == "x" * 10
    with pytest.raises(DataError, match="over the size limit: the text has 11 characters, 10"):
        text_of({"a": "x" * 5, "b": "y" * 5}, ["a", "b"])


def test_lists_of_texts_are_joined_and_objects_are_reached_by_path() -> None:
    row = {"words": ["a", " b", "", 3], "target": {"text": "x", "deep": {"er": "y"}}}
    assert text_of(row, ["words", "target.text"]) == "a; b; 3\nx"
    assert text_of(row, ["target.deep.er"], ["words"]) == ("y", "a; b; 3")
    with pytest.raises(DataError, match="no text"):
        text_of(row, ["target.nothing"])


def test_a_second_text_must_be_there_and_be_another_column(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": "x", "b": "y", "l": 1}\n{"a": "x", "b": " ", "l": 1}\n')
    examples = read_examples(path, text=["a"], text_pair=["b"], label="l")
    assert examples.texts == [("x", "y")] and examples.plain == ["x\ny"]
    assert examples.rejected == {"no second text": 1}
    with pytest.raises(ColumnError, match="in the first text and in the second"):
        read_examples(path, text=["a"], text_pair=["a"], label="l")
    with pytest.raises(ColumnError, match="option --text-pair"):
        read_examples(path, text=["a"], text_pair=["c"], label="l")


def test_a_json_array_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('[{"a": 1}]')
    with pytest.raises(DataError, match="holds a JSON array"):
        read_examples(tmp_path / "t.json", text=["a"], label=None)
