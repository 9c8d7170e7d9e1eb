"""Plain text out of files, streamed: to learn a language from, not a table."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from huiyan.core.errors import DataError, EncodingError
from huiyan.core.files import sha256_of
from huiyan.core.texts import SPACES
from huiyan.data.encodings import SAMPLE_BYTES, guess_encoding, named_encoding
from huiyan.data.formats import Compression, compression_of_bytes, kind_of_bytes
from huiyan.data.lines import readable, text_of_bytes, text_problem
from huiyan.data.streams import buffered, is_stream, open_counted, telling_bytes, unpack

PIECE_CHARACTERS = 1 << 16
"""Characters that are read at a time."""
MOST_DAMAGED = 0.01
"""The share of characters that may be in the place of bytes that are no text."""


class PlainText:
    """The text of files, one behind the other, as often as it is wanted.

    Lines end with a line feed; a file that does not end with one is given one. Bytes that are not text become U+FFFD,
    and so does NUL.

    Args:
        paths: files, also packed with gzip or zstd.
        encoding: of all of them; guessed for each when None.
    Raises:
        DataError: a file is not there, cannot be read twice, or is no text.
        EncodingError: no such encoding is known.
    """

    def __init__(self, paths: Sequence[str | Path], *, encoding: str | None = None) -> None:
        self.paths = [str(path) for path in paths]
        asked = named_encoding(encoding) if encoding is not None else None
        self._files: list[tuple[str, Compression | None]] = [(path, _looked_at(path)) for path in self.paths]
        guesses = (
            (asked or guess_encoding(telling_bytes(path, packing, SAMPLE_BYTES))).name for path, packing in self._files
        )
        self.encodings = list(guesses)
        self._n, self._n_damaged = 0, 0

    def pieces(self) -> Iterator[str]:
        """The text, piece by piece: each ends at the end of a line, or where none ends within it, before a space.

        A word of more than ``PIECE_CHARACTERS`` is cut.

        Raises:
            DataError: a file is damaged.
        """
        self._n, self._n_damaged = 0, 0
        for (path, packing), encoding in zip(self._files, self.encodings, strict=True):
            for piece in _ended(_pieces_of(path, packing, encoding)):
                self._n, self._n_damaged = self._n + len(piece), self._n_damaged + piece.count("\ufffd")
                yield piece

    def damage(self) -> str:
        """What to say of bytes that are no text, once the pieces were read; empty where there are none.

        Raises:
            EncodingError: there are so many that the encoding cannot be right.
        """
        if not self._n_damaged:
            return ""
        share = self._n_damaged / self._n
        told = f"{share:.2%} of the characters are bytes that are no text in {', '.join(sorted(set(self.encodings)))}"
        if share > MOST_DAMAGED:
            raise EncodingError(
                f"{', '.join(self.paths)}: {told}.", hint="Name the right --encoding, or mend the file."
            )
        return f"{told}; each is read as \ufffd"

    def count_characters(self) -> int:
        """Of all the text.

        Raises:
            DataError: a file is damaged, or there is no text.
        """
        n = sum(map(len, self.pieces()))
        if not n:
            raise DataError(f"There is no text in {', '.join(self.paths)}.")
        return n

    def fingerprint(self) -> str:
        """SHA-256 of the files' own hashes, in order."""
        import hashlib

        return hashlib.sha256("\n".join(sha256_of(Path(path)) for path in self.paths).encode()).hexdigest()


def cut_at(pieces: Iterator[str], places: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Each piece with the number of its part: a text cut near these places, counted in characters, ascending.

    A cut falls behind the next end of a line where there is one in the piece, and else just there.
    """
    part, seen = 0, 0
    for piece in pieces:
        rest = piece
        while part < len(places) and seen + len(rest) >= places[part]:
            at = max(0, places[part] - seen)
            end = rest.find("\n", max(0, at - 1)) + 1
            at = end if end > 0 else at
            if at:
                yield part, rest[:at]
            seen, rest, part = seen + at, rest[at:], part + 1
        if rest:
            yield part, rest
            seen += len(rest)


def _looked_at(path: str) -> Compression | None:
    if path == "-" or is_stream(path):
        raise DataError(
            f"{path} can be read only once, and a language model reads its text several times.",
            hint="Write it to a file first.",
        )
    counted = open_counted(path)
    packed = buffered(counted)
    packing = compression_of_bytes(packed.peek())
    with unpack(packed, counted, packing, path) as stream:
        start = stream.peek()
    if kind_of_bytes(start) is not None or start.startswith((b"%PDF-", b"\x89PNG", b"\xd0\xcf\x11\xe0")):
        raise DataError(f"{path} is not plain text.", hint="Save it as .txt, UTF-8.")
    return packing


def _pieces_of(path: str, packing: Compression | None, encoding: str) -> Iterator[str]:
    counted = open_counted(path)
    with unpack(buffered(counted), counted, packing, path) as stream:
        text, rest, first = text_of_bytes(stream, encoding), "", True
        while chunk := text.read(PIECE_CHARACTERS):
            chunk = chunk.removeprefix("\ufeff") if first else chunk
            first = False
            chunk = rest + chunk
            end = _end_of_piece(chunk)
            yield _clean(chunk[:end])
            rest = chunk[end:]
        if rest:
            yield _clean(rest)


def _end_of_piece(chunk: str) -> int:
    """Where to cut; what is behind it, a piece at most, goes with the next one."""
    # The last character may be half an end of a line, "\r" of "\r\n".
    end = max(chunk.rfind("\n"), chunk.rfind("\r", 0, len(chunk) - 1)) + 1
    if end:
        return end
    # A space goes with the word behind it, as in the pieces that tokenizers learn.
    end = max(chunk.rfind(space, 1) for space in SPACES)
    return end if len(chunk) - end <= PIECE_CHARACTERS and end > 0 else len(chunk) - chunk.endswith("\r")


def _clean(text: str) -> str:
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return readable(text).replace("\0", "\ufffd") if text_problem(text) else text


def _ended(pieces: Iterator[str]) -> Iterator[str]:
    waiting = ""
    for piece in pieces:
        if waiting:
            yield waiting
        waiting = piece
    if waiting:
        yield waiting if waiting.endswith("\n") else f"{waiting}\n"
