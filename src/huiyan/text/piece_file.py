"""SentencePiece's model files (spiece.model, spm.model, tokenizer.model, source.spm …), read without its library.

The file is a protocol buffer, `ModelProto` of sentencepiece_model.proto; what is not needed to encode is passed over.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from huiyan.core.errors import SourceError

_LARGEST = 256 << 20
_MOST_PIECES = 2_000_000
_UNIGRAM, _BPE = 1, 2


class Kind(IntEnum):
    """What a piece is for, by its number in the file."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class PieceFile:
    """What a file holds.

    Args:
        pieces: each with its score, in the order of their ids.
        kinds: of the pieces, one each.
        is_bpe: whether pieces are merged by rank (BPE); else the most probable ones are taken (Unigram).
        byte_fallback: whether unknown characters are spelled in bytes.
        replaced: SentencePiece's compiled map of characters; empty where none are replaced.
        space_before: whether a space is put before a text.
        spaces_joined: whether spaces at both ends go, and runs of them become one.
        splits_at_spaces: whether no piece goes over a space.
    """

    pieces: list[tuple[str, float]]
    kinds: list[Kind]
    is_bpe: bool
    byte_fallback: bool
    replaced: bytes
    space_before: bool
    spaces_joined: bool
    splits_at_spaces: bool

    def of_kind(self, kind: Kind) -> list[str]:
        """The pieces of a kind, in the order of their ids."""
        return [piece for (piece, _), own in zip(self.pieces, self.kinds, strict=True) if own is kind]


def read_pieces(path: Path) -> PieceFile:
    """Read a file.

    Source: https://github.com/google/sentencepiece, src/sentencepiece_model.proto.

    Raises:
        SourceError: it is no such file, it is damaged or too large, or it is of a kind we do not read (words,
            characters, spaces at the end of words).
    """
    size = path.stat().st_size
    if size > _LARGEST:
        raise SourceError(f"{path} has {size:,} bytes. Files of pieces have at most {_LARGEST:,}.")
    try:
        return _read(path.read_bytes(), path)
    except (struct.error, IndexError, TypeError, ValueError) as error:
        raise SourceError(
            f"{path} is not a SentencePiece model: {error or 'it ends too early'}.", hint="Fetch the model again."
        ) from error


def _read(data: bytes, path: Path) -> PieceFile:
    pieces: list[tuple[str, float]] = []
    kinds: list[Kind] = []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            piece = dict(_fields(value))
            pieces.append((_text(piece.get(1, b"")), struct.unpack("<f", _bytes(piece.get(2, b"\0\0\0\0")))[0]))
            kinds.append(Kind(_number(piece.get(3, Kind.NORMAL))))
            if len(pieces) > _MOST_PIECES:
                raise ValueError(f"it has more than {_MOST_PIECES:,} pieces")
        elif number in (2, 3) and isinstance(value, bytes):
            (trainer if number == 2 else normalizer).update(_fields(value))
    if not pieces:
        raise ValueError("it has no pieces")
    if not all(math.isfinite(score) for _, score in pieces):
        raise ValueError("a score of it is no number")
    algorithm = _number(trainer.get(3, _UNIGRAM))
    if algorithm not in (_UNIGRAM, _BPE):
        raise SourceError(
            f"{path} cuts texts into {'words' if algorithm == 3 else 'characters'}. Unigram and BPE are read."
        )
    if _number(trainer.get(24, 0)):
        raise SourceError(f"{path} has the spaces at the end of words. Files with spaces before words are read.")
    return PieceFile(
        pieces,
        kinds,
        is_bpe=algorithm == _BPE,
        byte_fallback=bool(_number(trainer.get(35, 0))),
        replaced=_bytes(normalizer.get(2, b"")),
        space_before=bool(_number(normalizer.get(3, 1))),
        spaces_joined=bool(_number(normalizer.get(4, 1))),
        splits_at_spaces=bool(_number(trainer.get(22, 1))),
    )


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message, each with its number. Source: https://protobuf.dev/programming-guides/encoding."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
        else:
            if kind == 2:
                size, at = _varint(data, at)
            elif kind in (1, 5):
                size = 8 if kind == 1 else 4
            else:
                raise ValueError(f"a field of the kind {kind} at byte {at}")
            if at + size > len(data):
                raise ValueError("it ends too early")
            value, at = data[at : at + size], at + size
        yield key >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError(f"a number without an end at byte {at}")


def _number(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise TypeError("text stands where a number belongs")
    return value


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise TypeError("a number stands where text belongs")
    return value


def _text(value: int | bytes) -> str:
    return _bytes(value).decode()
