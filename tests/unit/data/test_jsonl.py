import io
import sys

import pytest

from huiyan.core.errors import DataError
from huiyan.data import jsonl, lines
from huiyan.data.jsonl import JsonLinesReader
from huiyan.data.lines import Lines, text_of_bytes


def reader_of(text: str | bytes, *, look_ahead: int = 100) -> JsonLinesReader:
    raw = text if isinstance(text, bytes) else text.encode()
    stream = Lines(text_of_bytes(io.BufferedReader(io.BytesIO(raw)), "utf-8"))
    return JsonLinesReader(stream, name="a.jsonl", look_ahead=look_ahead)


def test_rows_keep_their_types():
    rows = list(reader_of('{"text": "很好", "label": 1, "score": 1.5, "ok": true, "x": null}\n'))
    assert rows == [(1, {"text": "很好", "label": 1, "score": 1.5, "ok": True, "x": None}, None)]


def test_columns_are_those_of_the_first_rows():
    reader = reader_of('{"text": "a"}\n\n{"label": "b", "text": "c"}\n{"late": 1}\n', look_ahead=2)
    assert reader.columns == ["text", "label"]
    assert [row[0] for row in reader] == [1, 3, 4]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"text": "a"', "malformed JSON: Expecting ',' delimiter at character"),
        ("[1, 2]", "malformed JSON: an object was expected, got list"),
        ('"text"', "malformed JSON: an object was expected, got str"),
        ('{"n": ' + "9" * (sys.get_int_max_str_digits() + 1) + "}", "malformed JSON: "),
        ('{"n": ' + "[" * 100_000 + "}", "malformed JSON: "),
        ('{"text": "a\\ud83d"}', "undecodable: \\ud83d is half a character"),
        ('{"deep": [{"a\\udc80": 1}]}', "undecodable: "),
        ('{"text": "a\\u0000b"}', "damaged: it holds a NUL character"),
        ('{"text": "a\0b"}', "damaged: it holds a NUL character"),
    ],
)
def test_lines_that_are_no_good_object_are_set_aside(line, problem):
    rows = list(reader_of(f'{{"text": "first"}}\n{line}\n{{"text": "last \\u4f60 \\ud83d\\ude00"}}\n'))
    assert rows[1][0] == 2
    assert rows[1][2].startswith(problem)
    assert rows[2] == (3, {"text": "last 你 😀"}, None)


def test_undecodable_bytes_cost_their_row():
    rows = list(reader_of(b'{"text": "a"}\n{"text": "\xff"}\n{"text": "b"}'))
    assert [row[2] is None for row in rows] == [True, False, True]


def test_a_huge_line_is_set_aside(monkeypatch):
    monkeypatch.setattr(lines, "MAX_ROW_CHARACTERS", 100)
    monkeypatch.setattr(jsonl, "MAX_ROW_CHARACTERS", 100)
    rows = list(reader_of('{"text": "a"}\n{"text": "' + "x" * 1000 + '"}\n{"text": "b"}\n'))
    assert [(row[0], row[2] is None) for row in rows] == [(1, True), (2, False), (3, True)]
    assert rows[1][2].startswith("over the size limit: ")


@pytest.mark.parametrize("text", ["", "\n", "text,label\na,b\n"])
def test_a_file_without_any_object_is_refused(text):
    with pytest.raises(DataError, match=r"a\.jsonl holds no JSON object"):
        reader_of(text)
