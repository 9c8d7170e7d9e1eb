"""Lines of text out of bytes, streamed: bytes that are not text are marked where they stand, and no line is endless."""

import codecs
import io
from collections.abc import Iterator

from huiyan.data.limits import MAX_ROW_CHARACTERS

# A byte that does not decode becomes one of these half surrogates, which no encoding gives for real text.
_MARK = 0xDC00
_HANDLER = "huiyan-mark"


def _mark_undecodable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(_MARK + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(_HANDLER, _mark_undecodable)


def text_of_bytes(stream: io.BufferedReader, encoding: str) -> io.TextIOWrapper:
    """The stream as text with its line ends kept; bytes that do not decode are marked (see ``undecodable_problem``)."""
    return io.TextIOWrapper(stream, encoding=encoding, errors=_HANDLER, newline="")


class Lines:
    """The lines of a text, one by one, each with its number from 1; lines can be put back to be read again.

    A line longer than ``MAX_ROW_CHARACTERS`` is cut there and the rest is dropped, so that memory stays bounded;
    its reader sees that it is over the limit.
    """

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._put_back: list[tuple[int, str]] = []
        self._number = 0

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """Each line with its number."""
        while (line := self.next_line()) is not None:
            yield line

    def next_line(self) -> tuple[int, str] | None:
        """The next line and its number; None at the end."""
        if self._put_back:
            return self._put_back.pop()
        # One more than allowed, so that a cut line is seen to be over the limit.
        line = self._text.readline(MAX_ROW_CHARACTERS + 1)
        if not line:
            return None
        if len(line) > MAX_ROW_CHARACTERS:
            self._skip_rest(line)
        self._number += 1
        if self._number == 1:
            line = line.removeprefix("\ufeff")
        return self._number, line

    def put_back(self, lines: list[tuple[int, str]]) -> None:
        """Have these lines, in their order, come next again."""
        self._put_back.extend(reversed(lines))

    def _skip_rest(self, line: str) -> None:
        while line and not line.endswith(("\n", "\r")):
            line = self._text.readline(MAX_ROW_CHARACTERS)


def text_problem(text: str) -> str | None:
    """Why a piece of a file cannot be used as text: undecodable bytes, a NUL; None when it can."""
    # Encoding is the quickest way to find a half surrogate: this runs for every row.
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        if _MARK <= code <= _MARK + 0xFF:
            return f"undecodable: the byte 0x{code - _MARK:02x} is not text in the file's encoding"
        return f"undecodable: \\u{code:04x} is half a character"
    if "\0" in text:
        return "damaged: it holds a NUL character"
    return None


def readable(text: str) -> str:
    """The text with every half surrogate replaced, so that it can be shown and written."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
