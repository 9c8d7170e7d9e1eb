"""Which kind of file a table is: told by its name, or by its first bytes where there is no name to go by."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huiyan.core.errors import DataError

Kind = Literal["csv", "tsv", "jsonl", "parquet", "xlsx"]
Compression = Literal["gzip", "zstd"]

_KINDS: dict[str, Kind] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".xlsx": "xlsx",
}
_COMPRESSIONS: dict[str, Compression] = {".gz": "gzip", ".zst": "zstd"}
_READABLE = (
    "Readable are .csv, .tsv, .jsonl, .ndjson, .json (an object a line), .parquet, .xlsx, each also with .gz or .zst."
)

# First bytes of files that are often given a wrong name: (bytes, what the file then is).
_SIGNATURES = (
    (b"PAR1", "a Parquet file"),
    (b"PK\x03\x04", "a zip archive or an Excel workbook (.xlsx)"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls)"),
    (b"\x1f\x8b", "compressed with gzip"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    (b"%PDF-", "a PDF document"),
    (b"\x89PNG", "a PNG image"),
)


@dataclass(frozen=True)
class Format:
    """The kind of a table and how its file is compressed (None: not at all)."""

    kind: Kind
    compression: Compression | None = None

    @property
    def is_text(self) -> bool:
        """Whether the file is lines of text, which have an encoding."""
        return self.kind in ("csv", "tsv", "jsonl")


def format_of_name(name: str) -> Format | None:
    """The format that a file's name tells, in any case (``Reviews.CSV.gz``); None when it tells none."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    compression = _COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    if compression:
        suffixes = suffixes[:-1]
    kind = _KINDS.get(suffixes[-1]) if suffixes else None
    return Format(kind, compression) if kind else None


def require_format_of_name(name: str) -> Format:
    """As ``format_of_name``.

    Raises:
        DataError: the name tells no format we read.
    """
    found = format_of_name(name)
    if found is not None:
        return found
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    if ".xls" in suffixes:
        hint = "Save it as .xlsx or .csv."
    else:
        hint = _READABLE
    raise DataError(f"{name} has a name that tells no format of a table.", hint=hint)


def compression_of_bytes(start: bytes) -> Compression | None:
    """The compression that a file's first bytes tell."""
    if start.startswith(b"\x1f\x8b"):
        return "gzip"
    return "zstd" if start.startswith(b"\x28\xb5\x2f\xfd") else None


def kind_of_bytes(start: bytes) -> Kind | None:
    """Parquet or XLSX, when the (unpacked) first bytes say so; None for anything else."""
    if start.startswith(b"PAR1"):
        return "parquet"
    return "xlsx" if start.startswith(b"PK\x03\x04") else None


def kind_of_text(start: str, name: str) -> Kind:
    """JSONL, TSV or CSV, from the first lines of a text.

    Raises:
        DataError: it is a JSON array.
    """
    start = start.removeprefix("\ufeff")
    first = next((line for line in start.splitlines() if line.strip()), "")
    if first.lstrip().startswith("{"):
        return "jsonl"
    if first.lstrip().startswith("["):
        try:
            json.loads(start)
            is_json = True
        except ValueError:
            is_json = first.lstrip()[1:].lstrip()[:1] in ("", "{", "[")
        if is_json:
            raise DataError(f"{name} holds a JSON array.", hint="Write one JSON object a line instead (JSONL).")
    return "tsv" if first.count("\t") > first.count(",") else "csv"


def refuse_other_content(start: bytes, expected: Kind, name: str) -> None:
    """Stop when the (unpacked) first bytes are plainly another kind of file than the name says.

    Raises:
        DataError: what the file really is.
    """
    if expected == "jsonl" and start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        raise DataError(f"{name} holds a JSON array.", hint="Write one JSON object a line instead (JSONL).")
    signature = {"parquet": b"PAR1", "xlsx": b"PK\x03\x04"}.get(expected)
    if signature is not None and start.startswith(signature):
        return
    for known, what in _SIGNATURES:
        if start.startswith(known):
            raise DataError(f"{name} is named as {expected}, but is {what}.", hint="Give it the name of what it is.")
    if signature is not None:
        raise DataError(f"{name} is named as {expected}, but does not begin as such a file does.", hint=_READABLE)
