import io

import pytest

from huiyan.core.errors import DataError
from huiyan.data import delimited, lines
from huiyan.data.delimited import DelimitedReader
from huiyan.data.lines import Lines, text_of_bytes


def reader_of(text: str | bytes, *, is_tsv: bool = False, encoding: str = "utf-8") -> DelimitedReader:
    raw = text if isinstance(text, bytes) else text.encode(encoding)
    stream = Lines(text_of_bytes(io.BufferedReader(io.BytesIO(raw)), encoding))
    return DelimitedReader(stream, is_tsv=is_tsv, name="a.csv")


def rows_of(text: str | bytes, **options) -> list:
    return list(reader_of(text, **options))


def test_plain_rows_have_their_line_and_values():
    assert rows_of("text,label\ngood,1\nbad,0\n") == [
        (2, {"text": "good", "label": "1"}, None),
        (3, {"text": "bad", "label": "0"}, None),
    ]


def test_quoted_cells_may_hold_delimiters_quotes_and_line_ends():
    rows = rows_of('text,label\n"a, ""b""\nc",1\nnext,0\n')
    assert rows == [(2, {"text": 'a, "b"\nc', "label": "1"}, None), (4, {"text": "next", "label": "0"}, None)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_is_understood(end):
    assert [row[1]["label"] for row in rows_of(f"text,label{end}a,1{end}{end}b,2")] == ["1", "2"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_header_tells_the_delimiter(delimiter):
    other = ";" if delimiter == "," else ","
    text = f'text{delimiter}"a {other}{other}{other} name"\nx{delimiter}y\n'
    assert rows_of(text) == [(2, {"text": "x", f"a {other}{other}{other} name": "y"}, None)]


def test_one_column_is_a_table():
    assert rows_of("text\nhello\n\nworld\n") == [(2, {"text": "hello"}, None), (4, {"text": "world"}, None)]


def test_a_byte_order_mark_is_no_part_of_the_first_name():
    assert reader_of("\ufefftext,label\n").columns == ["text", "label"]


def test_spaces_before_quotes_are_skipped_where_the_header_has_them():
    assert rows_of('"text", "label"\n"a, b", "1"\n') == [(2, {"text": "a, b", "label": "1"}, None)]


@pytest.mark.parametrize(("row", "count"), [("a", 1), ("a,b,c", 3)])
def test_ragged_rows_are_set_aside(row, count):
    rows = rows_of(f"text,label\n{row}\ngood,1\n")
    assert rows[0][2] == f"not the header's number of cells: {count} instead of 2"
    assert rows[1] == (3, {"text": "good", "label": "1"}, None)


def test_an_unclosed_quote_costs_only_its_own_row():
    body = "".join(f"text {n},{n}\n" for n in range(500))
    rows = rows_of(f'text,label\n1,a\n"never closed,b\n{body}')
    assert [row[0] for row in rows if row[2]] == [3]
    assert rows[1][2].startswith("unpaired quote: ")
    assert rows[1][1]["text"] == '"never closed'
    assert [row[1]["label"] for row in rows[2:]] == [str(n) for n in range(500)]


def test_a_quote_within_a_cell_is_a_character():
    assert rows_of('text,label\n5" screen,1\nthe "best",2\n') == [
        (2, {"text": '5" screen', "label": "1"}, None),
        (3, {"text": 'the "best"', "label": "2"}, None),
    ]


def test_two_unclosed_quotes_do_not_swallow_what_is_between():
    rows = rows_of('text,label\n"one,1\ntwo,2\n"three,3\nfour,4\n')
    assert [(row[0], row[2] is None) for row in rows] == [(2, False), (3, True), (4, False), (5, True)]


def test_an_open_quote_is_followed_no_further_than_the_limits(monkeypatch):
    monkeypatch.setattr(delimited, "MAX_ROW_LINES", 10)
    closed_late = '"' + "x\n" * 20 + '",1\n'
    rows = rows_of("text,label\n" + closed_late + "good,2\n")
    assert rows[0][2].startswith("unpaired quote")
    assert rows[-1] == (23, {"text": "good", "label": "2"}, None)


def test_a_file_of_unpaired_quotes_is_refused(monkeypatch):
    monkeypatch.setattr(delimited, "MAX_REREAD_CHARACTERS", 50)
    with pytest.raises(DataError, match=r"a\.csv has too many rows whose quotes do not pair"):
        rows_of("text,label\n" + 'a"b,"c\n' * 10)


def test_tsv_takes_lone_quotes_as_they_are():
    rows = rows_of('text\tlabel\n"never closed\t1\n5" screen\t2\n"a\tb"\t3\n', is_tsv=True)
    assert rows == [
        (2, {"text": '"never closed', "label": "1"}, None),
        (3, {"text": '5" screen', "label": "2"}, None),
        (4, {"text": "a\tb", "label": "3"}, None),
    ]


def test_tsv_rows_between_two_lone_quotes_are_not_merged():
    rows = rows_of('text\tlabel\n"great\tpos\nfine\tpos\n5"\tneg\n"two\nlines"\tpos\n', is_tsv=True)
    assert [row[1]["text"] for row in rows] == ['"great', "fine", '5"', "two\nlines"]
    assert [row[2] for row in rows] == [None] * 4


def test_a_huge_row_is_set_aside_and_the_next_is_read(monkeypatch):
    monkeypatch.setattr(lines, "MAX_ROW_CHARACTERS", 1000)
    monkeypatch.setattr(delimited, "MAX_ROW_CHARACTERS", 1000)
    rows = rows_of(f'text,label\n{"x" * 5000},1\ngood,2\n"{"y" * 5000}",3\nbest,4\n')
    assert [row[0] for row in rows] == [2, 3, 4, 5]
    assert rows[0][2] == "over the size limit: a row of more than 1000 characters"
    assert rows[2][2] is not None
    assert [row[1]["text"] for row in (rows[1], rows[3])] == ["good", "best"]


def test_a_nul_costs_its_row():
    rows = rows_of("text,label\na\0b,1\ngood,2\n")
    assert [row[2] for row in rows] == ["damaged: it holds a NUL character", None]


def test_undecodable_bytes_cost_their_row_and_are_named():
    rows = rows_of(b"text,label\nbad \xff\xfe byte,1\ngood,2\ncut \xe4\xbd,3\n")
    assert [row[2] for row in rows] == [
        "undecodable: the byte 0xff is not text in the file's encoding",
        None,
        "undecodable: the byte 0xe4 is not text in the file's encoding",
    ]
    assert rows[0][1]["text"] == "bad \ufffd\ufffd byte"


@pytest.mark.parametrize("encoding", ["gb18030", "big5"])
def test_a_lead_byte_at_the_end_of_a_line_does_not_eat_the_line_end(encoding):
    raw = "text,label\n好\n".encode(encoding)[:-1] + b"\x81\n" + "很好,1\n".encode(encoding)
    rows = rows_of(raw, encoding=encoding)
    assert [row[0] for row in rows] == [2, 3]
    assert rows[0][2].startswith("undecodable: the byte 0x81")
    assert rows[1] == (3, {"text": "很好", "label": "1"}, None)


@pytest.mark.parametrize("text", ["", "\n\n", "\r\n"])
def test_an_empty_file_is_refused(text):
    with pytest.raises(DataError, match=r"a\.csv is empty"):
        reader_of(text)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("text,text", "more than one column named 'text'"),
        ('"text,label', "unpaired quote"),
        (b"te\xffxt,label", "undecodable.*--encoding"),
    ],
)
def test_a_header_that_cannot_be_used_is_refused(header, message):
    with pytest.raises(DataError, match=message):
        reader_of(header)
