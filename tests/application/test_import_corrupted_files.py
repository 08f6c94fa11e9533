"""Corrupted spreadsheets and Parquet files: the file is rejected, whatever error its library raises."""

import io
import zipfile
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from tallybook.application.usage_import.files import open_usage_file
from tallybook.domain.errors import InvalidImportFile

arrow: Any = import_module("pyarrow")
parquet: Any = import_module("pyarrow.parquet")
SHEET = "xl/worksheets/sheet1.xml"
ROWS = 2_000


@cache
def whole_xlsx() -> bytes:
    """Return a spreadsheet whose rows are parsed in several parts."""
    workbook: Any = openpyxl.Workbook(write_only=True)
    sheet = workbook.create_sheet()
    sheet.append(["identifier", "value"])
    for number in range(ROWS):
        sheet.append([f"r{number}", number])
    file = io.BytesIO()
    workbook.save(file)
    return file.getvalue()


def xlsx(corrupt: Callable[[bytes], bytes]) -> bytes:
    """Return a spreadsheet whose sheet is corrupted."""
    corrupted = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole_xlsx())) as source, zipfile.ZipFile(corrupted, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, corrupt(content) if name == SHEET else content)
    return corrupted.getvalue()


def parquet_with_a_time_that_python_lacks() -> bytes:
    """Return a file with a time in the year 294246."""
    file = io.BytesIO()
    times = arrow.array([0, 2**63 - 1], arrow.int64()).cast(arrow.timestamp("us"))
    parquet.write_table(arrow.table({"identifier": ["a", "b"], "timestamp": times}), file)
    return file.getvalue()


CORRUPTED: dict[str, Callable[[], bytes]] = {
    "entity.xlsx": lambda: xlsx(lambda sheet: sheet.replace(b"<v>1999</v>", b"<v>&unknown;</v>")),
    "first.xlsx": lambda: xlsx(lambda sheet: sheet.replace(b"<sheetData>", b"<sheetData>&unknown;")),
    "truncated.xlsx": lambda: xlsx(lambda sheet: sheet[:-100]),
    "empty.xlsx": lambda: xlsx(lambda _: b""),
    "time.parquet": parquet_with_a_time_that_python_lacks,
}


def read(path: Path) -> None:
    """Read all rows, and before them those that may be a header."""
    with open_usage_file(path) as file:
        file.find_header_line(["missing"])
        list(file.rows())


@pytest.mark.usefixtures("without_processes")
@pytest.mark.parametrize("name", CORRUPTED)
def test_a_corrupted_file_is_rejected(tmp_path: Path, name: str) -> None:
    """While it is opened, or at the row that can't be read; also when the line of its header is looked for."""
    path = tmp_path / name
    path.write_bytes(CORRUPTED[name]())
    with pytest.raises(InvalidImportFile, match="or it is corrupted: ") as raised:
        read(path)
    assert raised.value.field == "file"
