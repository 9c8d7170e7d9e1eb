import json
from collections import Counter

import pytest

from huiyan.core.errors import OutputError
from huiyan.data.rejected import RejectedRows


def test_rows_are_on_disk_as_soon_as_they_are_added(tmp_path):
    path = tmp_path / "runs" / "rejected.jsonl"
    rejected = RejectedRows(path)
    rejected.add("a.csv", 3, "no text", {"text": "", "label": "好评"})
    # Read before it is closed: an interrupted run loses nothing.
    assert [json.loads(line) for line in path.read_text("utf-8").splitlines()] == [
        {"file": "a.csv", "line": 3, "reason": "no text", "values": {"text": "", "label": "好评"}}
    ]
    rejected.close()


def test_reasons_are_counted_by_kind(tmp_path):
    with RejectedRows(tmp_path / "rejected.jsonl") as rejected:
        rejected.add("a.csv", 2, "undecodable: the byte 0xff is not text")
        rejected.add("a.csv", 3, "undecodable: the byte 0xfe is not text")
        rejected.add("a.csv", 4, "no text")
    assert rejected.count == 3
    assert rejected.reasons == Counter({"undecodable": 2, "no text": 1})


def test_any_value_can_be_written(tmp_path):
    path = tmp_path / "rejected.jsonl"
    with RejectedRows(path) as rejected:
        rejected.add(
            "a", 1, "r", {"half": "a\udc80", "list": [1], "nan": float("nan"), "n": 1, "none": None, "b": b"x"}
        )
    values = json.loads(path.read_text("utf-8"))["values"]
    assert values == {"half": "a\udc80", "list": "[1]", "nan": "nan", "n": 1, "none": None, "b": "b'x'"}


def test_long_cells_are_cut(tmp_path):
    path = tmp_path / "rejected.jsonl"
    with RejectedRows(path) as rejected:
        rejected.add("a", 1, "r", {"text": "x" * 1_000_000})
    assert path.stat().st_size < 500


def test_a_file_of_an_earlier_run_is_replaced(tmp_path):
    path = tmp_path / "rejected.jsonl"
    path.write_text("old\n")
    RejectedRows(path).close()
    assert path.read_text() == ""


def test_without_a_file_rows_are_counted():
    with RejectedRows() as rejected:
        rejected.add("a", 1, "no label")
    assert rejected.count == 1


def test_a_place_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        RejectedRows(tmp_path / "file" / "rejected.jsonl")
