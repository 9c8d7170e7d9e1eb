"""Bytes in: a file, a pipe or standard input, unpacked while it is read, with a guard against decompression bombs."""

import contextlib
import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from huiyan.core.errors import DataError, MissingExtraError
from huiyan.data.formats import Compression
from huiyan.data.limits import EXPANSION_CHECKED_FROM_BYTES, MAX_EXPANSION

_CHUNK_BYTES = 2**20
# One byte of zstd can stand for 32 KiB of output; a kibibyte at a time bounds what one call can unpack.
_ZSTD_INPUT_BYTES = 1024
_ZSTD_MAX_WINDOW_BYTES = 128 * 2**20


class CountedReader(io.RawIOBase):
    """A binary stream that counts the bytes read from it: how far a progress bar has come."""

    def __init__(self, stream: IO[bytes], *, close: bool = True) -> None:
        super().__init__()
        self._stream = stream
        self._close = close
        # A pipe gives what has arrived (read1); a plain read would wait for a full block.
        self._read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
        self.bytes_read = 0

    def readable(self) -> bool:
        """Always true."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` with what is there; 0 at the end."""
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        self.bytes_read += len(data)
        return len(data)

    def close(self) -> None:
        """Close the stream below, unless it is not ours (standard input)."""
        if self._close and not self.closed:
            self._stream.close()
        super().close()


class _Unpacked(io.RawIOBase):
    """Unpacked bytes, as a stream.

    Raises:
        DataError: the compressed bytes are damaged, cut off, or expand as no table does.
    """

    def __init__(self, pieces: Iterator[bytes], below: CountedReader, name: str) -> None:
        super().__init__()
        self._pieces = pieces
        self._below = below
        self._name = name
        self._rest = memoryview(b"")
        self._bytes_given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        n = min(len(buffer), len(self._rest))
        buffer[:n] = self._rest[:n]
        self._rest = self._rest[n:]
        self._bytes_given += n
        if self._bytes_given > max(EXPANSION_CHECKED_FROM_BYTES, MAX_EXPANSION * self._below.bytes_read):
            raise DataError(
                f"{self._name} expands to more than {MAX_EXPANSION} times its size, as a decompression bomb does.",
                hint="If it is yours and sound, unpack it first.",
            )
        return n

    def close(self) -> None:
        self._below.close()
        super().close()


def is_stream(path: str) -> bool:
    """Whether ``path`` can be read only once: ``-`` for standard input, a pipe, a device."""
    file = Path(path)
    return path == "-" or (file.exists() and not file.is_file() and not file.is_dir())


def open_counted(path: str) -> CountedReader:
    """Open a file, a pipe or ``-`` (standard input) for reading bytes.

    Raises:
        DataError: it is not there, is a folder, or may not be read.
    """
    if path == "-":
        return CountedReader(sys.stdin.buffer, close=False)
    try:
        # Unbuffered: the reader above buffers, and the count then follows what was really asked for.
        return CountedReader(Path(path).open("rb", buffering=0))
    except FileNotFoundError:
        raise DataError(f"{path} is not there.", hint=_neighbours(Path(path))) from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder; a file was expected.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def buffered(counted: CountedReader) -> io.BufferedReader:
    """A buffer over a counted stream, as ``unpack`` wants it."""
    return io.BufferedReader(counted, _CHUNK_BYTES)


def unpack(
    packed: io.BufferedReader, counted: CountedReader, compression: Compression | None, name: str
) -> io.BufferedReader:
    """The bytes of ``packed`` unpacked; damage surfaces as a DataError when it is reached.

    Args:
        packed: the file's bytes, buffered (the caller may have looked at the first).
        counted: the stream below ``packed``, to see how much was read of it.
        compression: None gives ``packed`` itself.
        name: the file, for messages.
    """
    if compression is None:
        return packed
    pieces = _gzip_pieces(packed, name) if compression == "gzip" else _zstd_pieces(packed, name)
    return io.BufferedReader(_Unpacked(pieces, counted, name), _CHUNK_BYTES)


def telling_bytes(path: str, compression: Compression | None, n: int) -> bytes:
    """What to guess a file's encoding from: its first `n` bytes, or if it begins in ASCII the first that are not.

    Raises:
        DataError: it is not there, or damaged.
    """
    counted = open_counted(path)
    with unpack(buffered(counted), counted, compression, path) as stream:
        sample = stream.read(n)
        while sample.isascii() and b"\0" not in sample and (following := stream.read(n)):
            sample = following
    return sample


def _gzip_pieces(packed: io.BufferedReader, name: str) -> Iterator[bytes]:
    with _damage_named(name, "gzip"), gzip.GzipFile(fileobj=packed) as unpacked:
        while piece := unpacked.read1(_CHUNK_BYTES):
            yield piece


def _zstd_pieces(packed: io.BufferedReader, name: str) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError:
        raise MissingExtraError(f"Reading {name} (zstd)", extra="zstd") from None

    def new_frame() -> Any:
        return zstandard.ZstdDecompressor(max_window_size=_ZSTD_MAX_WINDOW_BYTES).decompressobj()

    # Not zstandard's own stream_reader: it ends silently where a file is cut off.
    with _damage_named(name, "zstd", zstandard.ZstdError):
        frame = new_frame()
        untouched = True
        while piece := packed.read1(_ZSTD_INPUT_BYTES):
            while piece:
                if frame.eof:
                    frame = new_frame()
                unpacked = frame.decompress(piece)
                untouched = False
                if unpacked:
                    yield unpacked
                piece = frame.unused_data if frame.eof else b""
        if not frame.eof and not untouched:
            raise EOFError


@contextlib.contextmanager
def _damage_named(name: str, what: str, *more: type[Exception]) -> Iterator[None]:
    try:
        yield
    except EOFError:
        raise DataError(f"{name} is cut off: its {what} stream has no end.", hint="Fetch or copy it again.") from None
    except (gzip.BadGzipFile, zlib.error, *more) as error:
        raise DataError(f"{name} is damaged or is not {what}: {error}.", hint="Fetch or copy it again.") from error


def _neighbours(path: Path) -> str:
    import difflib

    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f"The folder {path.parent} is not there either." if not path.parent.exists() else ""
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"Did you mean {str(path.parent / near[0])!r}?" if near else ""
