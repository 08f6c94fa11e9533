"""Usage files of programs: spreadsheets (xlsx), row by row. Their library is in the extra `files`."""

import zipfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from importlib import import_module
from typing import Any, BinaryIO, NamedTuple

from ...domain.errors import InvalidParameter, TallybookError
from .csv_dialect import column_names
from .formats import MAX_ROW_BYTES, MalformedFile, Row
from .json_rows import UnusableCell

MAX_UNPACKED_BYTES = 4 << 30
"""A spreadsheet that takes more when it is unpacked is rejected."""
MAX_SHEET_ROWS = 1 << 20
_SPREADSHEET_DIGITS = 15
"""Spreadsheets show at most as many significant digits of their binary numbers, which are exact then."""


class SheetDialect(NamedTuple):
    """The sheet of a spreadsheet, the row of its header, and its columns."""

    sheet: str
    header_line: int
    columns: Sequence[str]


def read_sheet_dialect(
    file: BinaryIO, sheet: str | None, header_row: int | None, max_bytes: int | None = None
) -> SheetDialect:
    """Return the sheet to read and its columns.

    Raises MalformedFile if several sheets have contents, and if the file takes over `max_bytes` unpacked.
    """
    limit = MAX_UNPACKED_BYTES if max_bytes is None else min(MAX_UNPACKED_BYTES, max_bytes)
    with _open_workbook(file, limit) as workbook:
        names = [name for name in workbook.sheetnames if hasattr(workbook[name], "iter_rows")]
        if sheet is not None and sheet not in names:
            raise MalformedFile(f"it has no sheet {sheet!r}; there are {', '.join(map(repr, names[:10]))}")
        used = sheet or _only_filled_sheet(workbook, names)
        first = next((row for row in _filled_rows(workbook[used], header_row or 1)), None)
        if first is None:
            raise MalformedFile("it is empty")
        line, cells = first
        while cells and cells[-1] is None:
            cells = cells[:-1]
        return SheetDialect(used, line, column_names(cells))


def _only_filled_sheet(workbook: Any, names: Sequence[str]) -> str:
    """Return the only sheet with contents. Raise MalformedFile."""
    filled = [name for name in names if any(_filled_rows(workbook[name]))]
    if len(filled) > 1:
        shown = ", ".join(map(repr, filled[:10]))
        raise MalformedFile(f"it has {len(filled)} sheets: {shown}. Name one with sheet='{filled[0]}'")
    if not filled:
        raise MalformedFile("it is empty")
    return filled[0]


def sheet_rows(file: BinaryIO, dialect: SheetDialect) -> Iterator[Row]:
    """Return the rows of a sheet. Raises MalformedFile. Rows without contents are skipped."""
    names, count = dialect.columns, len(dialect.columns)
    with _open_workbook(file) as workbook:
        for line, cells in _filled_rows(workbook[dialect.sheet], dialect.header_line + 1):
            padded = (*cells[:count], *(None,) * (count - len(cells)))
            row = dict(zip(names, map(_sheet_cell, padded), strict=True))
            yield Row(line, row, sum(len(cell) if isinstance(cell, str) else 8 for cell in row.values()))


def sheet_lines(file: BinaryIO, sheet: str) -> Iterator[tuple[int, set[str]]]:
    """Return the texts of the cells of each row of a sheet, with its number."""
    with _open_workbook(file) as workbook:
        for line, cells in _filled_rows(workbook[sheet]):
            yield line, {str(cell).strip() for cell in cells if cell is not None}


def _filled_rows(sheet: Any, first: int = 1) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Yield the rows with any content from row `first` on, with their numbers."""
    sheet.reset_dimensions()  # programs write wrong ones
    for line, cells in enumerate(sheet.iter_rows(min_row=first, values_only=True), first):
        if line > MAX_SHEET_ROWS:  # a small file can name any row, and all empty ones before it would be read
            raise MalformedFile(f"it has a row after the {MAX_SHEET_ROWS:,} that a sheet can have", line)
        if any(cell is not None and cell != "" for cell in cells):
            if sum(len(cell) for cell in cells if isinstance(cell, str)) > MAX_ROW_BYTES:
                raise MalformedFile(f"it has a row of over {MAX_ROW_BYTES:,} characters", line)
            yield line, cells


@contextmanager
def _open_workbook(file: BinaryIO, max_bytes: int | None = None) -> Generator[Any]:
    """Open a spreadsheet. With `max_bytes`, MalformedFile is raised if it takes more unpacked."""
    openpyxl: Any = import_library("openpyxl")
    file.seek(0)
    with reported_as_malformed("it is no spreadsheet in the format xlsx, or it is corrupted"):
        if max_bytes is not None:
            with zipfile.ZipFile(file) as archive:
                if sum(member.file_size for member in archive.infolist()) > max_bytes:
                    raise MalformedFile(f"it takes over {max_bytes:,} bytes when it is unpacked. Save its sheet as CSV")
        file.seek(0)
        workbook = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
        try:
            yield workbook
        finally:
            workbook.close()


@contextmanager
def reported_as_malformed(problem: str) -> Generator[None]:
    """Raise MalformedFile for every error of a library but MemoryError: those of corrupted files are of many types."""
    try:
        yield
    except (MalformedFile, TallybookError, MemoryError):
        raise
    except Exception as error:
        if "out of memory" in str(error):  # an error of the XML parser, which is not a MemoryError
            raise MemoryError from error
        raise MalformedFile(f"{problem}: {str(error).rstrip('.') or type(error).__name__}") from error


def import_library(name: str) -> Any:
    """Return a module of the extra `files`. Raise InvalidParameter if it is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        raise InvalidParameter(
            f"This format needs additional packages ({error}): pip install 'tallybook[files]'.", field="format"
        ) from error


def _sheet_cell(value: object) -> object:
    """Return the value of a cell of a spreadsheet: text, an exact number, a date or a naive datetime."""
    if isinstance(value, float):
        return Decimal(format(value, f".{_SPREADSHEET_DIGITS}g"))
    if isinstance(value, datetime) and value.time() == time():
        return value.date()
    return value if value is None or isinstance(value, str | int | date) else UnusableCell("a duration or time of day")
