"""Small hostile spreadsheets: the file is rejected, and the process that imports it stays small."""

import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tallybook.application.usage_import.files import open_usage_file
from tallybook.application.usage_import.formats import FileLimits, MalformedFile
from tallybook.application.usage_import.table_rows import read_sheet_dialect
from tallybook.domain.errors import InvalidImportFile

from ..sampling import sample

openpyxl: Any = import_module("openpyxl")


@pytest.mark.usefixtures("without_processes")
def test_a_spreadsheet_with_a_row_far_away(tmp_path: Path) -> None:
    """The empty rows before it aren't read: a file of 1 kB would take hours."""
    workbook = openpyxl.Workbook()
    workbook.active.append(["timestamp", "event_name"])
    workbook.active.append(["2026-01-01", "tokens"])
    workbook.save(tmp_path / "near.xlsx")
    with zipfile.ZipFile(tmp_path / "near.xlsx") as near, zipfile.ZipFile(tmp_path / "usage.xlsx", "w") as far:
        for name in near.namelist():
            far.writestr(name, near.read(name).replace(b'r="2"', b'r="1048577"').replace(b'"A2"', b'"A1048577"'))
    with (
        pytest.raises(InvalidImportFile, match="after the 1,048,576"),
        open_usage_file(tmp_path / "usage.xlsx") as file,
    ):
        sum(1 for _ in file.rows())


SHEET = "xl/worksheets/sheet1.xml"


def sheet(rows: str) -> str:
    """Return a sheet with these rows."""
    namespace = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    return f'<worksheet xmlns="{namespace}"><sheetData>{rows}</sheetData></worksheet>'


STYLES = "xl/styles.xml"
LIMITS = FileLimits(max_bytes=64 << 20, max_memory_bytes=150 << 20)


TOO_LARGE = r"over 150 MB of memory to read\. Save its sheet as CSV|has ended \(SIG"
"""A library may also end the process when it gets no memory."""
HOSTILE = {
    "rows": (SHEET, sheet('<row r="1"/>' * (1 << 20)), TOO_LARGE),
    "cells": (SHEET, sheet("<row>" + "<c/>" * 500_000 + "</row>"), TOO_LARGE),
    "others": (SHEET, sheet(("<row/>" + "<a/>" * 1_000) * 500), TOO_LARGE),
    "styles": (STYLES, f"<styleSheet>{'<xf/>' * 500_000}</styleSheet>", TOO_LARGE),
    "size": (STYLES, "<styleSheet>" + " " * (65 << 20), "over 67,108,864 bytes when it is unpacked"),
}


@pytest.mark.parametrize("case", sample(list(HOSTILE), 3))
def test_a_spreadsheet_that_takes_much_memory(tmp_path: Path, case: str) -> None:
    """Its library makes objects of it: 700 bytes for a style of 5 bytes. The process that reads it has a limit."""
    name, content, message = HOSTILE[case]
    path = tmp_path / "usage.xlsx"
    workbook = openpyxl.Workbook()
    workbook.active.append(["a"])
    workbook.save(tmp_path / "small.xlsx")
    with (
        zipfile.ZipFile(tmp_path / "small.xlsx") as small,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as large,
    ):
        for part in small.namelist():
            large.writestr(part, content if part == name else small.read(part))
    assert path.stat().st_size < 500_000
    with pytest.raises(InvalidImportFile, match=message), open_usage_file(path, limits=LIMITS) as file:
        assert not list(file.rows())


def test_a_spreadsheet_may_take_the_limit(tmp_path: Path) -> None:
    """When it is unpacked, as its directory says."""
    workbook = openpyxl.Workbook()
    workbook.active.append(["event_name", "x" * 5_000])
    workbook.save(tmp_path / "usage.xlsx")
    with zipfile.ZipFile(tmp_path / "usage.xlsx") as file:
        size = sum(member.file_size for member in file.infolist())
    with (tmp_path / "usage.xlsx").open("rb") as file:
        assert len(read_sheet_dialect(file, None, None, size).columns) == 2
        with pytest.raises(MalformedFile, match=f"over {size - 1:,} bytes when it is unpacked"):
            read_sheet_dialect(file, None, None, size - 1)
