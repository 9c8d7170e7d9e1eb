"""Tokenizers that are learnt from text: what they read they give back."""

import tracemalloc
from collections.abc import Iterator

import pytest

from huiyan.core.errors import ConfigError, DataError
from huiyan.text.learn import FRAME, UNITS, Unit, learn_tokenizer
from huiyan.text.tokenise import Tokenizer

TEXT = "In the beginning was the word.\nAnd the  word was here: 起初，神创造天地。\n"
LOSSLESS = ("bytes", "chars", "bpe", "unigram")


def learnt(unit: Unit, *, framed: bool = False, vocab_size: int | None = None) -> Tokenizer:
    size = vocab_size or (300 if unit in ("bpe", "unigram") else None)
    return learn_tokenizer(unit, [TEXT[:13], TEXT[13:]] * 20, vocab_size=size, framed=framed)


@pytest.mark.parametrize("framed", [False, True])
@pytest.mark.parametrize("unit", LOSSLESS)
def test_a_text_comes_back(unit: Unit, framed: bool) -> None:
    tokenizer = learnt(unit, framed=framed)
    (ids,) = tokenizer.encode_batch([TEXT], max_length=1000)
    assert tokenizer.decode(ids) == TEXT
    assert max(ids) < tokenizer.vocab_size
    if framed:
        names = tokenizer.pieces(TEXT, max_length=1000)
        assert (names[0].name, names[-1].name) == (FRAME["cls_token"], FRAME["sep_token"])
        assert tokenizer.pad_id == 0


def test_bytes_are_their_own_numbers() -> None:
    (ids,) = learnt("bytes").encode_batch([TEXT], max_length=1000)
    assert ids == list(TEXT.encode())


def test_words_are_what_stands_between_spaces_and_frequent_ones_come_first() -> None:
    tokenizer = learnt("words")
    (ids,) = tokenizer.encode_batch(["the word was new\nthe"], max_length=1000)
    assert tokenizer.decode(ids) == "the word was <unk>\nthe"
    names = [piece.name for piece in tokenizer.pieces("the word was new\nthe", max_length=1000)]
    assert names == ["the", "word", "was", "<unk>", "<eol>", "the"]
    assert ids[0] == 1 and ids[3] == tokenizer.unknown_id == 0


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_words_do_not_depend_on_how_the_text_is_cut(size: int) -> None:
    text = "the\tword\u3000was the\nword\x85here \tthe\x1cend" * 3
    found = learn_tokenizer("words", [text[at : at + size] for at in range(0, len(text), size)])
    # The tokenizer takes U+001C for no space, so the words that it will meet are learnt.
    (ids,) = found.encode_batch([text], max_length=1000)
    assert found.unknown_id not in ids
    assert ids[:4] == [found.encode_batch([word], max_length=9)[0][0] for word in ("the", "word", "was", "the")]


def test_words_without_end_are_left_out_and_not_kept_in_memory() -> None:
    piece, n_pieces = "第一二三" * 16_384, 200

    def pieces() -> Iterator[str]:
        yield "some words\tand "
        for _ in range(n_pieces):
            yield piece
        yield " some others\n"

    tracemalloc.start()
    found = learn_tokenizer("words", pieces())
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # 13 million characters of two bytes; a piece has 130 kB.
    assert most < 3_000_000
    (ids,) = found.encode_batch([f"some words and {piece} some others\n"], max_length=99)
    assert [number for number, token in enumerate(ids) if token == found.unknown_id] == [3]
    assert found.vocab_size == 6  # <unk>, <eol>, and a word twice
    with pytest.raises(DataError, match="No word of this text has 1,000 characters or fewer"):
        learn_tokenizer("words", [piece])


def test_rare_characters_are_left_out_of_a_small_vocabulary() -> None:
    tokenizer = learnt("chars", vocab_size=12)
    assert tokenizer.vocab_size == 12
    (ids,) = tokenizer.encode_batch(["神e"], max_length=10)
    assert ids[0] == tokenizer.unknown_id != ids[1]


@pytest.mark.parametrize("unit", UNITS)
def test_what_cannot_be_is_told(unit: Unit) -> None:
    with pytest.raises(ConfigError, match="vocab_size"):
        learn_tokenizer(unit, [TEXT], vocab_size=2)
    if unit != "bytes":
        with pytest.raises(DataError, match="no text"):
            learn_tokenizer(unit, [])
