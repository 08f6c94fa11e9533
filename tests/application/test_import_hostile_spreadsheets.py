"""Small hostile spreadsheets: the file is rejected before its library makes objects of it."""

import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tallybook.application.usage_import.files import open_usage_file
from tallybook.application.usage_import.formats import FileLimits
from tallybook.domain.errors import InvalidImportFile

openpyxl: Any = import_module("openpyxl")


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


TYPES = "application/vnd.openxmlformats-officedocument.spreadsheetml"
SHEET = "xl/worksheets/sheet1.xml"


def sheet(rows: str) -> str:
    """Return a sheet with these rows."""
    namespace = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    return f'<worksheet xmlns="{namespace}"><sheetData>{rows}</sheetData></worksheet>'


@pytest.mark.parametrize(
    ("name", "kind", "content", "message"),
    [
        (SHEET, "worksheet", sheet('<row r="1"/>' * ((1 << 20) + 1)), "more than the 1,048,576 rows"),
        (SHEET, "worksheet", "\ufeff" + sheet('<row r="1"/>' * ((1 << 20) + 1)), "more than the 1,048,576 rows"),
        (SHEET, "worksheet", sheet("<row>" + "<c/>" * 300_000 + "</row>"), "of over 200,000 elements"),
        (SHEET, "worksheet", sheet(("<row/>" + "<a/>" * 1_000) * 300), "of over 200,000 elements"),
        (SHEET, "worksheet", sheet(("<row/><a>" + "<b/>" * 1_000 + "</a>") * 300), "of over 200,000 elements"),
        (SHEET, "worksheet", sheet('<row xmlns="other"/>' * 300_000), "of over 200,000 elements"),
        (SHEET, "styles", '<row r="1"/>' * 100_000, "its part xl/worksheets/sheet1.xml takes"),
        (SHEET, None, '<row r="1"/>' * 100_000, "its part xl/worksheets/sheet1.xml takes"),
        ("xl/styles.xml", "styles", "<xf/>" * 300_000, "its part xl/styles.xml takes 1,500,000 bytes"),
        ("xl/styles.xml", "worksheet", "<xf/>" * 300_000, "its part xl/styles.xml takes 1,500,000 bytes"),
        ("docProps/core.xml", "worksheet", sheet("<row/>" * 200_000), "its part docProps/core.xml takes"),
        ("docProps/core.xml", "sharedStrings", "<x/>" * 300_000, "its part docProps/core.xml takes"),
        ("xl/_rels/workbook.xml.rels", "worksheet", "<x/>" * 300_000, "its part xl/_rels/workbook.xml.rels takes"),
        ("xl/media/picture.png", None, "\n<x/>" * 300_000, "its part xl/media/picture.png takes"),
    ],
)
def test_a_spreadsheet_with_a_large_part(
    tmp_path: Path, name: str, kind: str | None, content: str, message: str
) -> None:
    """The parts are checked before the library makes objects of them: 700 bytes for a style of 5 bytes."""
    override = "" if kind is None else f'<Override PartName="/{name}" ContentType="{TYPES}.{kind}+xml"/>'
    namespace = "http://schemas.openxmlformats.org/package/2006/content-types"
    with zipfile.ZipFile(tmp_path / "usage.xlsx", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.writestr("[Content_Types].xml", f'<Types xmlns="{namespace}">{override}</Types>')
        file.writestr(name, content.encode("utf-16-le" if content.startswith("\ufeff") else "utf-8"))
    with pytest.raises(InvalidImportFile, match=message), open_usage_file(tmp_path / "usage.xlsx"):
        pass


def test_a_spreadsheet_with_many_texts_and_a_picture(tmp_path: Path) -> None:
    """Sheets and pictures may be large."""
    workbook = openpyxl.Workbook()
    for number in range(2_000):
        workbook.active.append([f"text-{number:03}" * 100])
    workbook.save(tmp_path / "usage.xlsx")
    with zipfile.ZipFile(tmp_path / "usage.xlsx", "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("xl/media/picture.png", b"\x89PNG" + b"<" * (2 << 20))
    with open_usage_file(tmp_path / "usage.xlsx") as usage_file:
        assert len(list(usage_file.rows())) == 1_999


def test_a_spreadsheet_may_take_a_quarter_of_the_limit(tmp_path: Path) -> None:
    """Its texts are in memory before the first row, and a text takes more there than in the file."""
    workbook = openpyxl.Workbook()
    workbook.active.append(["event_name", "x" * 5_000])
    workbook.save(tmp_path / "usage.xlsx")
    with zipfile.ZipFile(tmp_path / "usage.xlsx") as file:
        size = sum(member.file_size for member in file.infolist())
    with open_usage_file(tmp_path / "usage.xlsx", limits=FileLimits(max_bytes=4 * size)) as usage_file:
        assert usage_file.columns is not None
    with (
        pytest.raises(InvalidImportFile, match=f"over {size - 1:,} bytes when it is unpacked"),
        open_usage_file(tmp_path / "usage.xlsx", limits=FileLimits(max_bytes=4 * size - 1)),
    ):
        pass
