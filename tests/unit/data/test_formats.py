import pytest

from huiyan.core.errors import DataError
from huiyan.data.formats import Format, format_of_name, kind_of_text, refuse_other_content, require_format_of_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.csv", Format("csv")),
        ("dir.v2/Reviews.2024.CSV.GZ", Format("csv", "gzip")),
        ("a.tsv.zst", Format("tsv", "zstd")),
        ("a.jsonl", Format("jsonl")),
        ("a.ndjson.gz", Format("jsonl", "gzip")),
        ("a.parquet", Format("parquet")),
        ("a.xlsx.zst", Format("xlsx", "zstd")),
        ("评论.xlsx", Format("xlsx")),
        ("a.gz", None),
        ("csv", None),
        ("-", None),
    ],
)
def test_the_name_tells_the_format(name, expected):
    assert format_of_name(name) == expected


@pytest.mark.parametrize(("name", "hint"), [("a.txt", "Readable are .csv"), ("a.xls", "as .xlsx")])
def test_a_name_that_tells_none_is_refused_with_the_next_step(name, hint):
    with pytest.raises(DataError, match="tells no format") as caught:
        require_format_of_name(name)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        ('\ufeff\n{"text": "a, b"}\n', "jsonl"),
        ("id\ttext\tlabel, really\n1\ta\tb\n", "tsv"),
        ("text,label\na\tb\n", "csv"),
        ("[text],label\na,b\n", "csv"),
        ("text\n", "csv"),
        ("", "csv"),
    ],
)
def test_text_without_a_name_is_told_by_its_first_line(start, kind):
    assert kind_of_text(start, "-") == kind


@pytest.mark.parametrize("start", ['[{"text": "a"}]', "[\n", '[ {"text":'])
def test_a_json_array_is_refused(start):
    with pytest.raises(DataError, match="JSON array"):
        kind_of_text(start, "-")


@pytest.mark.parametrize(
    ("start", "expected", "what"),
    [
        (b"PK\x03\x04...", "csv", "zip archive or an Excel"),
        (b"\x1f\x8b\x08", "jsonl", "compressed with gzip"),
        (b"\xd0\xcf\x11\xe0", "xlsx", "old Excel"),
        (b"text,label\n", "parquet", "does not begin as such a file does"),
        (b"PAR1", "xlsx", "a Parquet file"),
    ],
)
def test_other_content_than_the_name_says_is_refused(start, expected, what):
    with pytest.raises(DataError, match=what):
        refuse_other_content(start, expected, "a")


@pytest.mark.parametrize(
    ("start", "kind"), [(b"PAR1", "parquet"), (b"PK\x03\x04", "xlsx"), (b"text,label", "csv"), (b"", "tsv")]
)
def test_content_that_fits_passes(start, kind):
    refuse_other_content(start, kind, "a")
