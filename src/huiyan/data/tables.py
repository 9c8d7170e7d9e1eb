"""Tables of any format we read, as a stream of rows: ``with open_table(path) as table: for row in table.rows(): …``."""

import contextlib
import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from huiyan.core.errors import DataError
from huiyan.data.columnar import ParquetReader
from huiyan.data.delimited import DelimitedReader, Record
from huiyan.data.encodings import SAMPLE_BYTES, EncodingGuess, guess_encoding, named_encoding
from huiyan.data.formats import (
    Format,
    Kind,
    compression_of_bytes,
    format_of_name,
    kind_of_bytes,
    kind_of_text,
    refuse_other_content,
    require_format_of_name,
)
from huiyan.data.jsonl import JsonLinesReader
from huiyan.data.limits import MAX_SPOOLED_BYTES
from huiyan.data.lines import Lines, text_of_bytes
from huiyan.data.streams import CountedReader, buffered, is_stream, open_counted, telling_bytes, unpack
from huiyan.data.workbooks import WorkbookReader

_CHUNK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Args:
        file: the file as the user named it.
        line: the line it begins on, the header being 1; in Parquet its number from 1, in XLSX the sheet's.
        values: cells by column. CSV gives strings; the other formats give what they hold (numbers, dates, None).
        problem: why the row cannot be used, or None. Its values are then what could be made out. The part before the
            first ``": "`` names the kind of problem, and is the same for all rows of that kind.
    """

    file: str
    line: int
    values: dict[str, Any]
    problem: str | None = None


class _Reader(Protocol):
    columns: list[str]
    notes: list[str]

    def __iter__(self) -> Iterator[Record]: ...


class Table:
    """An open table, from ``open_table``. Its rows can be had once; close it, or use it in a ``with``.

    Attributes:
        path: the file as the user named it; ``-`` is standard input.
        format: its kind and compression.
        columns: the names in the header. For JSONL those of the first rows: later rows may have others.
        encoding: how a text file was decoded, and why; None for Parquet and XLSX.
        bytes_total: the file's size as it lies on disk; None where progress in bytes means nothing.
        notes: what the user should know about how the file was read.
    """

    def __init__(
        self,
        path: str,
        format: Format,  # noqa: A002 - the word a user knows it by
        reader: _Reader,
        *,
        encoding: EncodingGuess | None,
        counted: CountedReader | None,
        resources: contextlib.ExitStack,
    ) -> None:
        self.path = path
        self.format = format
        self.columns = reader.columns
        self.encoding = encoding
        self.bytes_total = _size_of(path) if counted is not None else None
        self.notes: list[str] = reader.notes
        self._reader = reader
        self._counted = counted
        self._resources = resources

    @property
    def bytes_read(self) -> int | None:
        """How many of ``bytes_total`` have been read so far; None where that means nothing."""
        return None if self._counted is None else self._counted.bytes_read

    def rows(self) -> Iterator[Row]:
        """Every row below the header, in order, those with a problem included.

        Raises:
            DataError: the file turns out damaged, cut off or a decompression bomb.
        """
        for line, values, problem in self._reader:
            yield Row(self.path, line, values, problem)

    def close(self) -> None:
        """Close the file; temporary files go."""
        self._resources.close()

    def __enter__(self) -> Self:
        """The table itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


def open_table(path: str | Path, *, encoding: str | None = None) -> Table:
    """Open a CSV, TSV, JSONL, Parquet or XLSX file, plain or compressed with gzip or zstd.

    The format is that of the name. Standard input (``-``) and pipes have none, so there the first bytes tell it.

    Args:
        path: the file; ``-`` is standard input.
        encoding: of a text file; guessed when None.
    Raises:
        DataError: the file is not there, not a table, damaged, or its header cannot be used.
        EncodingError: no such encoding is known.
        MissingExtraError: the format needs an optional dependency.
    """
    asked = named_encoding(encoding) if encoding is not None else None
    name = str(path)
    with contextlib.ExitStack() as resources:
        counted = resources.enter_context(open_counted(name))
        packed = buffered(counted)
        found = format_of_name(name) if is_stream(name) else require_format_of_name(name)
        compression = found.compression if found else compression_of_bytes(packed.peek())
        stream = resources.enter_context(unpack(packed, counted, compression, name))
        if found is None:
            found = Format(_kind_of(stream, asked, name), compression)
        refuse_other_content(stream.peek(), found.kind, name)
        if found.is_text:
            guess = asked or guess_encoding(_sample(stream, found, name))
            reader = _text_reader(stream, found, guess.name, name)
            return Table(name, found, reader, encoding=guess, counted=counted, resources=resources.pop_all())
        on_disk = name if not is_stream(name) and compression is None else _spooled(stream, resources, name)
        reader = ParquetReader(on_disk, name=name) if found.kind == "parquet" else WorkbookReader(on_disk, name=name)
        return Table(name, found, reader, encoding=None, counted=None, resources=resources.pop_all())


def _size_of(path: str) -> int | None:
    return None if is_stream(path) else Path(path).stat().st_size


def _text_reader(stream: io.BufferedReader, found: Format, encoding: str, name: str) -> _Reader:
    lines = Lines(text_of_bytes(stream, encoding))
    if found.kind == "jsonl":
        return JsonLinesReader(lines, name=name, look_ahead=1 if is_stream(name) else 100)
    return DelimitedReader(lines, is_tsv=found.kind == "tsv", name=name)


def _kind_of(stream: io.BufferedReader, asked: EncodingGuess | None, name: str) -> Kind:
    """The kind of a table without a name, from what has arrived of it."""
    start = stream.peek()
    known = kind_of_bytes(start)
    if known is not None:
        return known
    encoding = (asked or guess_encoding(start)).name
    return kind_of_text(start.decode(encoding, "replace"), name)


def _sample(stream: io.BufferedReader, found: Format, name: str) -> bytes:
    """What to guess an encoding from; a pipe is read only once and may be live, so there it is what has arrived."""
    return stream.peek() if is_stream(name) else telling_bytes(name, found.compression, SAMPLE_BYTES)


def _spooled(stream: io.BufferedReader, resources: contextlib.ExitStack, name: str) -> str:
    """The path of a temporary copy of what can be read only from a file on disk; it goes with ``resources``."""
    folder = resources.enter_context(tempfile.TemporaryDirectory(prefix="huiyan-"))
    path = Path(folder, "table")
    with path.open("wb") as copy:
        while chunk := stream.read(_CHUNK_BYTES):
            copy.write(chunk)
            if copy.tell() > MAX_SPOOLED_BYTES:
                raise DataError(f"{name} unpacks to more than {MAX_SPOOLED_BYTES:,} bytes.", hint="Unpack it first.")
    return str(path)
