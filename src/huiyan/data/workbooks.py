"""Rows out of the first sheet of an Excel workbook (.xlsx)."""

import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from huiyan.core.errors import DataError, MissingExtraError
from huiyan.data.columns import require_good_names
from huiyan.data.delimited import Record
from huiyan.data.limits import MAX_XLSX_BYTES, MAX_XLSX_CELLS, MAX_XLSX_UNPACKED_BYTES

_CELL_REFERENCE = re.compile(rb"""\br=["']([A-Z]{1,3})([0-9]{1,7})["']""")
_CHUNK_BYTES = 2**20
_TOO_LARGE_HINT = "Save the sheet as CSV, which has no such limit."


class WorkbookReader:
    """The rows of a workbook's first sheet, numbered as Excel numbers them. A workbook is read whole.

    Args:
        path: the file on disk.
        name: the file as the user wrote it, for messages.
    Raises:
        DataError: the file is damaged, locked with a password, empty or too large.
        MissingExtraError: the Excel reader is not installed.
    """

    def __init__(self, path: str, *, name: str) -> None:
        try:
            import python_calamine
        except ImportError:
            raise MissingExtraError(f"Reading {name} (Excel)", extra="excel") from None
        _refuse_too_large(path, name)
        try:
            with python_calamine.CalamineWorkbook.from_path(path) as workbook:
                sheets = list(workbook.sheet_names)
                sheet = workbook.get_sheet_by_index(0)
                # Numbered from the sheet's first row, however far down the table begins.
                self._rows = enumerate(sheet.iter_rows(), start=1)
        except (python_calamine.CalamineError, OSError, IndexError) as error:
            raise DataError(f"{name} cannot be read as an Excel workbook: {error}.") from error
        self.notes = (
            [f"{name} has {len(sheets)} sheets; only the first, {sheets[0]!r}, was read."] if sheets[1:] else []
        )
        header = next((cells for _, cells in self._rows if _is_filled(cells)), None)
        if header is None:
            raise DataError(f"The first sheet of {name} is empty.", hint="Its first row must name the columns.")
        self.columns = require_good_names([str(cell) for cell in header], file=name)

    def __iter__(self) -> Iterator[Record]:
        """Every row below the header; rows without any cell filled are no rows."""
        for number, cells in self._rows:
            if _is_filled(cells):
                yield number, dict(zip(self.columns, map(_as_shown, cells), strict=False)), None


def _as_shown(cell: Any) -> Any:
    # A workbook holds every number as a float; the sheet shows a whole one without a point, and so does the output.
    return int(cell) if isinstance(cell, float) and cell.is_integer() else cell


def _is_filled(cells: list[Any]) -> bool:
    return any(cell != "" for cell in cells)


def _refuse_too_large(path: str, name: str) -> None:
    """Look at a workbook's parts before the reader unpacks them all, and makes every cell up to the last one."""
    size = Path(path).stat().st_size
    if size > MAX_XLSX_BYTES:
        raise DataError(f"{name} has {size:,} bytes; {MAX_XLSX_BYTES:,} are read at most.", hint=_TOO_LARGE_HINT)
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(part.file_size for part in archive.infolist())
            if unpacked > MAX_XLSX_UNPACKED_BYTES:
                raise DataError(
                    f"{name} unpacks to {unpacked:,} bytes; {MAX_XLSX_UNPACKED_BYTES:,} are read at most.",
                    hint=_TOO_LARGE_HINT,
                )
            for part in archive.namelist():
                if part.startswith("xl/worksheets/") and part.endswith(".xml"):
                    with archive.open(part) as sheet:
                        _refuse_too_many_cells(sheet, name)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{name} cannot be read as an Excel workbook: {error}.") from error


def _refuse_too_many_cells(sheet: IO[bytes], name: str) -> None:
    last_row = last_column = 0
    rest = b""
    while chunk := sheet.read(_CHUNK_BYTES):
        for letters, digits in _CELL_REFERENCE.findall(rest + chunk):
            last_row = max(last_row, int(digits))
            last_column = max(last_column, _column_number(letters))
        rest = chunk[-32:]  # a reference may lie across two chunks
    if last_row * last_column > MAX_XLSX_CELLS:
        raise DataError(
            f"A sheet of {name} spans {last_row:,} rows × {last_column:,} columns; "
            f"{MAX_XLSX_CELLS:,} cells are read at most.",
            hint=f"Delete stray cells far from the table. {_TOO_LARGE_HINT}",
        )


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - ord("A") + 1
    return number
