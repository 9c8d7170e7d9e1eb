"""Plain text in pieces, and its tokens on disk: nothing is lost on the way."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from huiyan.core.errors import ArtifactError, DataError, EncodingError
from huiyan.data.plain import PIECE_CHARACTERS, PlainText, cut_at
from huiyan.data.token_file import Encoded, TokenFile, write_token_files

LINES = "one line\r\nanother 一行\rlast"


def test_files_are_read_one_behind_the_other(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + LINES.encode())
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress("中文文字，读得通顺，这里有很多常用的字。\n".encode("gb18030")))
    text = PlainText([tmp_path / "a.txt", tmp_path / "b.txt.gz"])
    assert "".join(text.pieces()) == "one line\nanother 一行\nlast\n中文文字，读得通顺，这里有很多常用的字。\n"
    assert text.encodings[1] == "gb18030"
    assert text.count_characters() == len("".join(text.pieces()))
    first = text.fingerprint()
    (tmp_path / "a.txt").write_text("other")
    assert text.fingerprint() != first


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r", " ", "\t", "  ", "\u3000"])
def test_large_files_come_in_pieces_that_lose_nothing(ending: str, tmp_path: Path) -> None:
    words = ending.join(f"word{number}" for number in range(30_000))
    (tmp_path / "a.txt").write_bytes(words.encode())
    pieces = list(PlainText([tmp_path / "a.txt"]).pieces())
    assert len(pieces) > 2 and max(map(len, pieces)) <= 2 * PIECE_CHARACTERS
    assert "".join(pieces) == words.replace("\r\n", "\n").replace("\r", "\n") + "\n"
    assert all(piece.endswith("\n") for piece in pieces) or ending not in ("\n", "\r\n", "\r")
    # No word is cut, and a space stays with the word behind it, as in the pieces that a tokenizer learns.
    assert [word for piece in pieces for word in piece.split()] == words.split()
    assert all(piece[0] in ending for piece in pieces[1:]) or ending in ("\n", "\r\n", "\r")


@pytest.mark.parametrize("text", ["x" * 300_000, " " * 300_000, "a b" + "x" * 200_000 + " c " * 50_000])
@pytest.mark.parametrize("before", ["", "a line\n" + "many words " * 5_000])
def test_a_word_without_end_is_cut(before: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(before + text, encoding="utf-8")
    pieces = list(PlainText([tmp_path / "a.txt"], encoding="utf-8").pieces())
    assert "".join(pieces) == before + text + "\n"
    assert all(pieces) and max(map(len, pieces)) <= 2 * PIECE_CHARACTERS


@pytest.mark.parametrize("places", [[0, 0], [3, 9], [6, 13], [100, 200], [2, 2], [5, 18]])
def test_a_cut_loses_nothing_and_falls_behind_a_line(places: list[int]) -> None:
    pieces = ["ab\ncd\n", "efghij", "kl\nm\n"]
    parts = list(cut_at(iter(pieces), places))
    assert "".join(text for _, text in parts) == "".join(pieces)
    assert [part for part, _ in parts] == sorted(part for part, _ in parts)
    whole = ["".join(text for part, text in parts if part == number) for number in range(3)]
    assert all(text == "" or text.endswith(("\n", "j", "g", "h")) for text in whole[:2])


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1xxxx")
    with pytest.raises(DataError, match="not plain text"):
        PlainText([tmp_path / "a.parquet"])
    with pytest.raises(DataError, match="read only once"):
        PlainText(["-"])
    with pytest.raises(DataError, match="not there"):
        PlainText([tmp_path / "no.txt"])
    (tmp_path / "empty.txt").write_bytes(b"")
    with pytest.raises(DataError, match="no text"):
        PlainText([tmp_path / "empty.txt"]).count_characters()
    (tmp_path / "nul.txt").write_bytes(b"a\xff\0b\n" + b"c" * 3000)
    assert "".join(PlainText([tmp_path / "nul.txt"], encoding="utf-8").pieces()).startswith("a\ufffd\ufffdb\n")


def test_bytes_that_are_no_text_are_told_and_many_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("一二三四五六七八九十\n".encode() * 100 + b"\xff\n")
    text = PlainText([path], encoding="utf-8")
    assert text.count_characters() and "0.09% of the characters are bytes that are no text in utf-8" in text.damage()
    path.write_bytes("一二三四五六七八九十\n".encode("gb18030") * 100)
    text = PlainText([path], encoding="utf-8")
    text.count_characters()
    with pytest.raises(EncodingError, match=r"no text in utf-8. Name the right --encoding"):
        text.damage()
    right = PlainText([path])
    assert right.count_characters() and right.damage() == ""


def encode(texts: list[str]) -> list[Encoded]:
    return [Encoded([ord(letter) for letter in text], [letter == " " for letter in text]) for text in texts]


@pytest.mark.parametrize("vocab_size", [60_000, 70_000])
def test_tokens_are_read_where_they_lie(vocab_size: int, tmp_path: Path) -> None:
    pieces = [(0, "a b"), (0, "é"), (1, "c")] * 40
    paths = [tmp_path / "train.bin", tmp_path / "test.bin"]
    ordered = sorted(pieces, key=lambda piece: piece[0])
    write_token_files(paths, ordered, encode, vocab_size=vocab_size, unknown_id=ord("b"))
    train, test = map(TokenFile, paths)
    assert isinstance(train.ids, np.memmap) and train.ids.dtype.itemsize == (2 if vocab_size <= 65_536 else 4)
    assert "".join(map(chr, train.ids)) == "a bé" * 40 and "".join(map(chr, test.ids)) == "c" * 40
    assert train.begins_word is not None and train.begins_word[:4].tolist() == [False, True, False, False]
    assert (len(train), train.counts.characters, train.counts.bytes, train.counts.unknown) == (160, 160, 200, 40)


def test_damage_is_told(tmp_path: Path) -> None:
    path = tmp_path / "train.bin"
    write_token_files([path], [(0, "abc")], encode, vocab_size=200, unknown_id=None)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="damaged"):
        TokenFile(path)
    with pytest.raises(DataError, match="the b part has no tokens"):
        write_token_files([path, tmp_path / "b"], [(0, "abc")], encode, vocab_size=200, unknown_id=None)
