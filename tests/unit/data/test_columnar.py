import datetime as dt

import polars as pl
import pytest

from huiyan.core.errors import DataError
from huiyan.data import columnar
from huiyan.data.columnar import ParquetReader


def test_rows_keep_their_types_and_order(tmp_path):
    path = tmp_path / "a[1]*.parquet"  # no pattern, a name
    pl.DataFrame(
        {" text ": ["好", None], "label": [1.0, 2.5], "day": [dt.date(2024, 5, 1), None], "tags": [["a"], []]}
    ).write_parquet(path)
    reader = ParquetReader(str(path), name=path.name)
    assert reader.columns == ["text", "label", "day", "tags"]
    assert list(reader) == [
        (1, {"text": "好", "label": 1.0, "day": dt.date(2024, 5, 1), "tags": ["a"]}, None),
        (2, {"text": None, "label": 2.5, "day": None, "tags": []}, None),
    ]


@pytest.mark.parametrize("row_group_size", [100, 10_000])
def test_batches_of_any_size_give_every_row_once(tmp_path, monkeypatch, row_group_size):
    monkeypatch.setattr(columnar, "_FIRST_BATCH_ROWS", 7)
    monkeypatch.setattr(columnar, "_MAX_BATCH_ROWS", 130)
    path = tmp_path / "a.parquet"
    pl.DataFrame({"n": range(1000)}).write_parquet(path, row_group_size=row_group_size)
    rows = list(ParquetReader(str(path), name="a"))
    assert [row[1]["n"] for row in rows] == list(range(1000))
    assert [row[0] for row in rows] == list(range(1, 1001))


def test_wide_rows_come_a_few_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(columnar, "_FIRST_BATCH_ROWS", 2)
    monkeypatch.setattr(columnar, "_BATCH_BYTES", 1000)
    path = tmp_path / "a.parquet"
    pl.DataFrame({"text": ["x" * 400] * 9}).write_parquet(path)
    batches = [len(batch) for batch in ParquetReader(str(path), name="a")._batches()]
    assert batches == [2, 2, 2, 2, 1]


def test_a_table_without_rows_has_columns(tmp_path):
    path = tmp_path / "a.parquet"
    pl.DataFrame({"text": []}, schema={"text": pl.String}).write_parquet(path)
    reader = ParquetReader(str(path), name="a")
    assert (reader.columns, list(reader)) == (["text"], [])


@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_damaged_file_is_an_error(tmp_path, kept):
    path = tmp_path / "a.parquet"
    pl.DataFrame({"text": [f"text {n}" for n in range(1000)]}).write_parquet(path)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * kept)])
    with pytest.raises(DataError, match=r"a\.parquet cannot be read as Parquet"):
        list(ParquetReader(str(path), name="a.parquet"))


def test_damage_within_a_sound_frame_is_an_error(tmp_path):
    path = tmp_path / "a.parquet"
    pl.DataFrame({"text": [f"text {n} {n * 7919}" for n in range(5000)]}).write_parquet(path)
    raw = bytearray(path.read_bytes())
    raw[8:2000] = bytes(1992)
    path.write_bytes(raw)
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        list(ParquetReader(str(path), name="a.parquet"))
