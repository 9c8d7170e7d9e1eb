import csv
import gzip
import io
import json
import os
import threading
import tracemalloc

import polars as pl
import pytest
import xlsxwriter
import zstandard

from huiyan.core.errors import DataError, EncodingError
from huiyan.data import tables
from huiyan.data.tables import Row, open_table

ROWS = [("很好，下次再来", "pos"), ('said "never"\nagain', "neg"), ("ok, really", "mixed")]


def written(kind: str) -> bytes:
    if kind in ("csv", "tsv"):
        text = io.StringIO(newline="")
        csv.writer(text, delimiter="," if kind == "csv" else "\t").writerows([("text", "label"), *ROWS])
        return text.getvalue().encode()
    if kind == "jsonl":
        return "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS).encode()
    raw = io.BytesIO()
    if kind == "parquet":
        pl.DataFrame(ROWS, schema=["text", "label"], orient="row").write_parquet(raw)
    else:
        with xlsxwriter.Workbook(raw) as workbook:
            sheet = workbook.add_worksheet()
            for number, row in enumerate([("text", "label"), *ROWS]):
                sheet.write_row(number, 0, row)
    return raw.getvalue()


PACK = {"": lambda raw: raw, ".gz": gzip.compress, ".zst": zstandard.compress}
KINDS = ["csv", "tsv", "jsonl", "parquet", "xlsx"]


def values_of(table) -> list[tuple[str, str]]:
    return [(row.values["text"], row.values["label"]) for row in table.rows()]


@pytest.mark.parametrize("compression", PACK)
@pytest.mark.parametrize("kind", KINDS)
def test_every_format_and_compression_gives_the_same_rows(tmp_path, kind, compression):
    path = tmp_path / f"a.{kind}{compression}"
    path.write_bytes(PACK[compression](written(kind)))
    with open_table(path) as table:
        assert table.columns == ["text", "label"]
        assert values_of(table) == ROWS
        assert (table.encoding is None) == (kind in ("parquet", "xlsx"))


@pytest.mark.parametrize("compression", PACK)
@pytest.mark.parametrize("kind", KINDS)
def test_standard_input_is_told_by_its_content(monkeypatch, kind, compression):
    raw = io.BytesIO(PACK[compression](written(kind)))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(raw))
    with open_table("-") as table:
        assert table.format.kind == kind
        assert values_of(table) == ROWS
        assert table.bytes_total is None
    assert not raw.closed


def test_rows_know_where_they_stand(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(written("csv"))
    with open_table(str(path)) as table:
        rows = list(table.rows())
    assert rows[0] == Row(str(path), 2, {"text": ROWS[0][0], "label": "pos"})
    assert [row.line for row in rows] == [2, 3, 5]


def test_a_live_stream_gives_each_row_as_it_comes(tmp_path):
    path = tmp_path / "pipe.jsonl"
    os.mkfifo(path)
    answered = threading.Event()
    waited = []

    def write() -> None:
        with path.open("wb", buffering=0) as pipe:
            pipe.write(b'{"text": "first"}\n')
            waited.append(answered.wait(30))
            pipe.write(b'{"text": "second"}\n')

    writer = threading.Thread(target=write)
    writer.start()
    with open_table(path) as table:
        rows = table.rows()
        assert next(rows).values == {"text": "first"}
        answered.set()
        assert next(rows).values == {"text": "second"}
        assert next(rows, None) is None
    writer.join()
    assert waited == [True]


@pytest.mark.parametrize(
    ("encoding", "guessed"),
    [
        ("gb18030", "gb18030"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("utf-8-sig", "utf-8-sig"),
        ("utf-16", "utf-16"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_other_encodings_are_recognised(tmp_path, encoding, guessed, kind):
    rows = [("这家酒店的服务态度很好，房间也很干净", "好评"), ("快递太慢了，包装也破了", "差评")]
    text = (
        "text,label\n" + "".join(f"{text},{label}\n" for text, label in rows)
        if kind == "csv"
        else "".join(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n" for text, label in rows)
    )
    path = tmp_path / f"a.{kind}"
    path.write_bytes(text.encode(encoding))
    with open_table(path) as table:
        assert table.encoding is not None
        assert table.encoding.name == guessed
        assert table.columns == ["text", "label"]
        assert values_of(table) == rows


def test_a_named_encoding_overrides_the_guess(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("text,label\nとても良い,正\n".encode("shift_jis"))
    with open_table(path, encoding="shift_jis") as table:
        assert values_of(table) == [("とても良い", "正")]
    with pytest.raises(EncodingError, match="gb99"):
        open_table(path, encoding="gb99")


def test_the_first_text_above_ascii_decides_however_late(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "SAMPLE_BYTES", 1000)
    path = tmp_path / "a.csv"
    late = "这家酒店的服务态度很好，房间也很干净,pos\n"
    path.write_bytes(("text,label\n" + "plain ascii,neg\n" * 500 + late).encode("gb18030"))
    with open_table(path) as table:
        assert table.encoding is not None
        assert table.encoding.name == "gb18030"
        assert values_of(table)[-1] == ("这家酒店的服务态度很好，房间也很干净", "pos")


@pytest.mark.parametrize("place", ["within the sample", "after it"])
def test_one_bad_byte_in_a_large_utf8_file_costs_one_row(tmp_path, place):
    good = "这家酒店的服务态度很好，房间也很干净,pos\n".encode()
    n = 40_000 if place == "after it" else 2000
    bad = good[:3] + b"\xff" + good[3:]
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,label\n" + good * n + bad + good * 10)
    with open_table(path) as table:
        problems = [(row.line, row.problem) for row in table.rows() if row.problem]
        assert table.encoding is not None
        assert table.encoding.name == "utf-8"
    assert problems == [(n + 2, "undecodable: the byte 0xff is not text in the file's encoding")]


def test_progress_goes_from_nothing_to_all(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,label\n" + b"some longer text so that few rows fill a buffer,pos\n" * 80_000)
    with open_table(path) as table:
        seen = [table.bytes_read for _ in table.rows()]
    assert table.bytes_total == path.stat().st_size
    assert seen[0] < 0.6 * table.bytes_total
    assert seen[-1] == table.bytes_total
    assert seen == sorted(seen)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "csv.gz", "csv.zst"])
def test_memory_does_not_grow_with_the_file(tmp_path, kind):
    words = b"some words of a review " * 20
    row = b'{"text": "%06d ' + words + b'"}\n' if kind == "jsonl" else b"%06d " + words + b",pos\n"
    head = b"" if kind == "jsonl" else b"text,label\n"

    def peak_bytes(n_rows: int) -> int:
        raw = head + b"".join(row % n for n in range(n_rows))
        path = tmp_path / f"{n_rows}.{kind}"
        path.write_bytes(PACK[path.suffix](raw) if path.suffix in PACK else raw)
        del raw
        tracemalloc.start()
        try:
            with open_table(path) as table:
                assert sum(1 for _ in table.rows()) == n_rows
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small, large = peak_bytes(5000), peak_bytes(40_000)  # 2.4 and 19 MB; buffers of a mebibyte or two come and go
    assert large < small + 3 * 2**20


def test_a_name_that_is_not_what_the_file_is(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(written("xlsx"))
    with pytest.raises(DataError, match="named as csv, but is a zip archive or an Excel workbook"):
        open_table(path)


def test_a_file_is_closed_when_it_cannot_be_opened(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,text\n")
    # An unclosed file is a ResourceWarning, and warnings are errors.
    with pytest.raises(DataError, match="more than one column"):
        open_table(path)


def test_temporary_files_go_with_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    path = tmp_path / "a.parquet.gz"
    path.write_bytes(gzip.compress(written("parquet")))
    with open_table(path) as table:
        assert list((tmp_path / "temporary").iterdir())
        assert values_of(table) == ROWS
    assert not list((tmp_path / "temporary").iterdir())


def test_what_unpacks_to_too_much_is_not_spooled(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MAX_SPOOLED_BYTES", 100)
    path = tmp_path / "a.parquet.gz"
    path.write_bytes(gzip.compress(written("parquet")))
    with pytest.raises(DataError, match="unpacks to more than 100 bytes"):
        open_table(path)


def test_a_csv_bomb_stops_the_reading(tmp_path):
    path = tmp_path / "a.csv.gz"
    with gzip.open(path, "wb") as file:
        file.write(b"text,label\n")
        for _ in range(80):
            file.write(b"a,b\n" * 2**18)
    with pytest.raises(DataError, match="decompression bomb"), open_table(path) as table:
        for _ in table.rows():
            pass
