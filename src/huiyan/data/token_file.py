"""Token ids on disk, read where they lie: a text of any size, in the memory of a page."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from huiyan.core.errors import ArtifactError, DataError
from huiyan.core.files import atomic_path, write_json
from huiyan.core.json_files import read_object

_AT_ONCE = 64  # pieces that are handed to the tokenizer together


class Encoded(NamedTuple):
    """The tokens of a piece of text, and which of them begin a word; None where nobody asks."""

    ids: Sequence[int]
    begins_word: "Sequence[bool] | np.ndarray[Any, Any] | None" = None


Encode = Callable[[list[str]], Sequence[Encoded]]


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What a text has.

    Args:
        tokens: of the tokenizer.
        characters: Unicode code points.
        bytes: of UTF-8.
        unknown: tokens that stand for what the vocabulary does not have.
    """

    tokens: int = 0
    characters: int = 0
    bytes: int = 0
    unknown: int = 0


class TokenFile:
    """The tokens of a text, in order, on disk.

    Args:
        path: of the ids; ``path.json`` says of what kind they are, ``path.words`` which begin a word.
    Raises:
        ArtifactError: a file is not there or is not what it says.
    """

    def __init__(self, path: Path) -> None:
        described = read_object(_beside(path, "json"), ArtifactError, hint="Start again with --overwrite.")
        try:
            self.counts = Counts(**described["counts"])
            dtype = np.dtype(described["dtype"])
            self.ids = _mapped(path, dtype, self.counts.tokens)
            words = _beside(path, "words")
            self.begins_word = _mapped(words, np.dtype(np.bool_), self.counts.tokens) if words.exists() else None
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise ArtifactError(
                f"The tokens in {path} are damaged: {error}.", hint="Start again with --overwrite."
            ) from error

    def __len__(self) -> int:
        """Tokens."""
        return self.counts.tokens


def write_token_files(
    paths: Sequence[Path], pieces: Iterable[tuple[int, str]], encode: Encode, *, vocab_size: int, unknown_id: int | None
) -> None:
    """Write the tokens of a text that comes in parts, a file for each part.

    Args:
        paths: of the parts.
        pieces: each with the number of its part.
        encode: gives the tokens of several pieces.
        vocab_size: ids are below it.
        unknown_id: of the token that stands for what the vocabulary does not have.
    Raises:
        DataError: a part has no tokens.
    """
    dtype = np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)
    with ExitStack() as stack:
        parts = [_Part(path, dtype, unknown_id, stack) for path in paths]
        waiting: list[tuple[int, str]] = []
        for piece in pieces:
            waiting.append(piece)
            if len(waiting) == _AT_ONCE:
                _write(parts, waiting, encode)
                waiting = []
        _write(parts, waiting, encode)
        for part in parts:
            if not part.counts["tokens"]:
                which = f"the {part.path.name} part" if len(parts) > 1 else "it"
                raise DataError(f"There is too little text: {which} has no tokens.", hint="Give it more text.")
            write_json(_beside(part.path, "json"), {"format": 1, "dtype": dtype.name, "counts": part.counts})


class _Part:
    """A file that is being written."""

    def __init__(self, path: Path, dtype: np.dtype[Any], unknown_id: int | None, stack: ExitStack) -> None:
        self.path, self.dtype, self.unknown_id = path, dtype, unknown_id
        self.counts = asdict(Counts())
        self._stack = stack
        self._ids = stack.enter_context(stack.enter_context(atomic_path(path)).open("wb"))
        self._words: IO[bytes] | None = None

    def add(self, text: str, encoded: Encoded) -> None:
        ids = np.asarray(encoded.ids, dtype=self.dtype)
        self._ids.write(ids.tobytes())
        if encoded.begins_word is not None:
            if self._words is None:
                path = self._stack.enter_context(atomic_path(_beside(self.path, "words")))
                self._words = self._stack.enter_context(path.open("wb"))
            self._words.write(np.asarray(encoded.begins_word, dtype=np.bool_).tobytes())
        counts = self.counts
        counts["tokens"] += len(ids)
        counts["characters"] += len(text)
        counts["bytes"] += len(text.encode())
        counts["unknown"] += 0 if self.unknown_id is None else int((ids == self.unknown_id).sum())


def _write(parts: Sequence[_Part], pieces: list[tuple[int, str]], encode: Encode) -> None:
    texts = [text for _, text in pieces]
    for (number, text), encoded in zip(pieces, encode(texts) if texts else [], strict=True):
        parts[number].add(text, encoded)


def _mapped(path: Path, dtype: np.dtype[Any], n: int) -> np.ndarray[Any, Any]:
    if path.stat().st_size != n * dtype.itemsize:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes and should have {n * dtype.itemsize}")
    return np.memmap(path, dtype=dtype, mode="r") if n else np.zeros(0, dtype)


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.name}.{ending}")
