import datetime as dt
import zipfile

import pytest
import xlsxwriter

from huiyan.core.errors import DataError, MissingExtraError
from huiyan.data import workbooks
from huiyan.data.workbooks import WorkbookReader


def write_workbook(path, *sheets: dict) -> str:
    """Sheets are cells by (row, column), counted from 0."""
    with xlsxwriter.Workbook(str(path), {"default_date_format": "yyyy-mm-dd"}) as workbook:
        for cells in sheets:
            sheet = workbook.add_worksheet()
            for (row, column), value in cells.items():
                sheet.write(row, column, value)
    return str(path)


HEADER = {(0, 0): "评论", (0, 1): "label", (0, 2): "day"}


def test_rows_keep_their_types_and_sheet_numbers(tmp_path):
    cells = {**HEADER, (1, 0): "很好", (1, 1): 1, (1, 2): dt.date(2024, 5, 1), (3, 0): "差", (3, 1): 2.5}
    reader = WorkbookReader(write_workbook(tmp_path / "a.xlsx", cells), name="a.xlsx")
    assert reader.columns == ["评论", "label", "day"]
    assert list(reader) == [
        (2, {"评论": "很好", "label": 1.0, "day": dt.date(2024, 5, 1)}, None),
        (4, {"评论": "差", "label": 2.5, "day": ""}, None),
    ]
    assert reader.notes == []


def test_a_table_that_begins_lower_keeps_its_sheet_numbers(tmp_path):
    cells = {(4, 1): "text", (4, 2): "label", (5, 1): "good", (5, 2): "pos"}
    reader = WorkbookReader(write_workbook(tmp_path / "a.xlsx", cells), name="a.xlsx")
    assert list(reader) == [(6, {"text": "good", "label": "pos"}, None)]


def test_other_sheets_are_mentioned(tmp_path):
    reader = WorkbookReader(write_workbook(tmp_path / "a.xlsx", HEADER, HEADER), name="a.xlsx")
    assert reader.notes == ["a.xlsx has 2 sheets; only the first, 'Sheet1', was read."]


def test_an_empty_sheet_is_refused(tmp_path):
    with pytest.raises(DataError, match="first sheet of a.xlsx is empty"):
        WorkbookReader(write_workbook(tmp_path / "a.xlsx", {}), name="a.xlsx")


def test_one_stray_cell_far_away_does_not_fill_the_memory(tmp_path):
    path = write_workbook(tmp_path / "a.xlsx", {**HEADER, (1_000_000, 16_000): "stray"})
    with pytest.raises(DataError, match=r"spans 1,000,001 rows × 16,001 columns.*stray cells"):
        WorkbookReader(path, name="a.xlsx")


def test_parts_that_unpack_to_too_much_are_refused(tmp_path, monkeypatch):
    path = write_workbook(tmp_path / "a.xlsx", HEADER)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/sharedStrings2.xml", bytes(3 * 2**20))
    monkeypatch.setattr(workbooks, "MAX_XLSX_UNPACKED_BYTES", 2 * 2**20)
    with pytest.raises(DataError, match="unpacks to"):
        WorkbookReader(path, name="a.xlsx")


def test_a_file_that_is_too_large_is_refused_unopened(tmp_path, monkeypatch):
    path = write_workbook(tmp_path / "a.xlsx", HEADER)
    monkeypatch.setattr(workbooks, "MAX_XLSX_BYTES", 100)
    with pytest.raises(DataError, match="100 are read at most.*CSV"):
        WorkbookReader(path, name="a.xlsx")


@pytest.mark.parametrize("raw", [b"PK\x03\x04 but no archive", b""])
def test_a_file_that_is_no_workbook_is_an_error(tmp_path, raw):
    path = tmp_path / "a.xlsx"
    path.write_bytes(raw)
    with pytest.raises(DataError, match="cannot be read as an Excel workbook"):
        WorkbookReader(str(path), name="a.xlsx")


def test_an_archive_that_is_no_workbook_is_an_error(tmp_path):
    path = tmp_path / "a.xlsx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(DataError, match="cannot be read as an Excel workbook"):
        WorkbookReader(str(path), name="a.xlsx")


def test_without_its_package_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "python_calamine", None)
    with pytest.raises(MissingExtraError, match=r"huiyan\[excel\]"):
        WorkbookReader(str(tmp_path / "a.xlsx"), name="a.xlsx")
