"""A tokenizer from the texts it is to read: bytes, characters, words, or pieces of words that are learnt."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, processors, trainers

from huiyan.core.config import require
from huiyan.core.errors import DataError
from huiyan.core.texts import SPACES
from huiyan.text.tokenise import Tokenizer
from huiyan.text.units import UNITS, Unit
from huiyan.text.whole_words import whole_words

UNKNOWN, END_OF_LINE = "<unk>", "<eol>"
FRAME = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
"""The special tokens of an encoder, by what they are for."""
PIECES = 8_000
"""Pieces that are learnt where nobody says how many."""
_SAMPLE_CHARACTERS = 50_000_000
_LONGEST_PIECE = 16
_LONGEST_WORD = 1_000  # characters
_BETWEEN_WORDS = re.compile(f"[\n\r{SPACES}]+")


def learn_tokenizer(
    unit: Unit, texts: Iterable[str], *, vocab_size: int | None = None, framed: bool = False
) -> Tokenizer:
    """The tokenizer that reads texts in these units; frequent ones have low numbers.

    | unit | tokens |
    |---|---|
    | bytes | the 256 bytes of UTF-8, each its own number |
    | chars | the characters of the texts; others are unknown |
    | words | what stands between spaces, and the end of a line; others are unknown |
    | bpe | pieces of words over bytes: nothing is unknown. Source: Sennrich et al. 2016; Radford et al. 2019 |
    | unigram | pieces of the likeliest segmentation. Source: Kudo 2018 |

    Words and characters that are left out of ``vocab_size`` are unknown, and so is what is longer than 1,000 characters
    without a space; bpe and unigram learn from the first 50 million characters.

    Args:
        unit: what a token is.
        texts: to learn from, in pieces of any size; bytes do not look at them.
        vocab_size: tokens at most; None is all words or characters, and ``PIECES`` pieces.
        framed: whether the tokenizer has the special tokens of an encoder, and frames texts by them: ``FRAME``.
    Raises:
        ConfigError: an unknown unit, or a vocabulary too small for it.
        DataError: the texts hold nothing, or no word.
    """
    require(unit in UNITS, "tokens", "one of " + ", ".join(UNITS), unit)
    special = list(FRAME.values()) if framed else []
    least = len(special) + (257 if unit in ("bytes", "bpe") else 3)
    require(vocab_size is None or vocab_size >= least, "vocab_size", f"{least} or more for {unit}", vocab_size)
    backend = _LEARN[unit](texts, vocab_size, special)
    settings: dict[str, Any] = {}
    if framed:
        settings |= FRAME
        backend.add_special_tokens([AddedToken(token, special=True) for token in special])
        ids = [(FRAME[role], backend.token_to_id(FRAME[role])) for role in ("cls_token", "sep_token")]
        (cls, _), (sep, _) = ids
        backend.post_processor = processors.TemplateProcessing(
            single=f"{cls} $A {sep}", pair=f"{cls} $A {sep} $B:1 {sep}:1", special_tokens=ids
        )
    elif unit not in ("bytes", "bpe"):
        settings["unk_token"] = UNKNOWN
    return Tokenizer(backend, settings)


def _unknown(special: list[str]) -> str:
    return FRAME["unk_token"] if special else UNKNOWN


def _bytes(texts: Iterable[str], vocab_size: int | None, special: list[str]) -> tokenizers.Tokenizer:
    del texts, vocab_size
    names = [*special, *_names_of_bytes()]
    backend = tokenizers.Tokenizer(models.BPE({name: number for number, name in enumerate(names)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.decoder = decoders.ByteLevel()
    return backend


def _names_of_bytes() -> list[str]:
    """How byte-level tokenizers spell each byte, 0 first: printable ones as they are, others from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def _chars(texts: Iterable[str], vocab_size: int | None, special: list[str]) -> tokenizers.Tokenizer:
    counted = Counter[str]()
    for text in texts:
        counted.update(text)
    vocabulary = _numbered(counted, vocab_size, special or [UNKNOWN])
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=_unknown(special)))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    return backend


def _words(texts: Iterable[str], vocab_size: int | None, special: list[str]) -> tokenizers.Tokenizer:
    counted, begun, any_ = Counter[str](), "", False
    for text in texts:  # a word may go on in the next piece
        any_ = any_ or bool(text)
        *words, begun = _BETWEEN_WORDS.split((begun + text).replace("\n", f" {END_OF_LINE} "))
        counted.update(word for word in words if len(word) <= _LONGEST_WORD)
        begun = begun[: _LONGEST_WORD + 1]  # enough to see that it is too long, in a text without spaces too
    counted.update([begun] if len(begun) <= _LONGEST_WORD else [])
    del counted[""]  # before a first space and behind a last one
    if any_ and not counted:
        raise DataError(
            f"No word of this text has {_LONGEST_WORD:,} characters or fewer.",
            hint="Where no spaces stand between words, learn chars, bpe or unigram.",
        )
    vocabulary = _numbered(counted, vocab_size, special or [UNKNOWN])
    return whole_words(vocabulary, unknown=_unknown(special), end_of_line=END_OF_LINE)


def _numbered(counted: Counter[str], vocab_size: int | None, special: list[str]) -> dict[str, int]:
    """The special tokens, then the others, the most frequent first."""
    for token in special:
        counted.pop(token, None)
    if not counted:
        raise DataError("There is no text to learn a vocabulary from.")
    kept = sorted(counted, key=lambda token: (-counted[token], token))
    kept = kept if vocab_size is None else kept[: vocab_size - len(special)]
    return {token: number for number, token in enumerate([*special, *kept])}


def _bpe(texts: Iterable[str], vocab_size: int | None, special: list[str]) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size or PIECES,
        special_tokens=special,
        initial_alphabet=_names_of_bytes(),
        show_progress=False,
    )
    backend.train_from_iterator(_lines(texts), trainer)
    return backend


def _unigram(texts: Iterable[str], vocab_size: int | None, special: list[str]) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=True)
    backend.decoder = decoders.Metaspace(prepend_scheme="never", split=True)
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size or PIECES,
        special_tokens=special or [UNKNOWN],
        unk_token=_unknown(special),
        max_piece_length=_LONGEST_PIECE,
        show_progress=False,
    )
    backend.train_from_iterator(_lines(texts), trainer)
    return backend


def _lines(texts: Iterable[str]) -> Iterator[str]:
    """Lines of the first of the texts, each with its end: a trainer takes as long as its longest text is."""
    left, any_ = _SAMPLE_CHARACTERS, False
    for text in texts:
        for line in text[:left].splitlines(keepends=True):
            any_ = True
            yield line
        left -= len(text)
        if left <= 0:
            break
    if not any_:
        raise DataError("There is no text to learn a vocabulary from.")


_LEARN = {"bytes": _bytes, "chars": _chars, "words": _words, "bpe": _bpe, "unigram": _unigram}
