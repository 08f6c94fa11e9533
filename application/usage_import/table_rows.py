"""Usage files of programs: spreadsheets (xlsx) and Parquet, row by row. Their libraries are in the extra `files`."""

import re
import zipfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from importlib import import_module
from typing import IO, Any, BinaryIO, NamedTuple, cast

from ...domain.errors import InvalidParameter, TallybookError
from .csv_rows import column_names
from .formats import MAX_ROW_BYTES, MalformedFile, Row
from .json_rows import NestedCell, UnusableCell

MAX_UNPACKED_BYTES = 4 << 30
"""A spreadsheet that takes more when it is unpacked is rejected."""
MAX_SHEET_ROWS = 1 << 20
_FEW_ROWS_BYTES = MAX_SHEET_ROWS * len("<row/>")
"""A part of a spreadsheet that isn't longer can't have more rows."""
_CHUNK_BYTES = 1 << 20
_MAX_TAG_BYTES = 1 << 10
_ROW_TAG = re.compile(rb"<(?:[^\s<>/]*:)?row[\s/>]")
_UTF_16_BEGINNINGS = b"\xff\xfe", b"\xfe\xff", b"<\0", b"\0<"
_BATCH_ROWS = 1_000
_SPREADSHEET_DIGITS = 15
"""Spreadsheets show at most as many significant digits of their binary numbers, which are exact then."""


class SheetDialect(NamedTuple):
    """The sheet of a spreadsheet, the row of its header, and its columns."""

    sheet: str
    header_line: int
    columns: Sequence[str]


def read_sheet_dialect(file: BinaryIO, sheet: str | None, header_row: int | None) -> SheetDialect:
    """Return the sheet to read and its columns. Raises MalformedFile if several sheets have contents."""
    with _open_workbook(file) as workbook:
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


def read_parquet_columns(file: BinaryIO, max_bytes: int | None = None) -> list[str]:
    """Return the columns of a Parquet file. Raises MalformedFile, also if it takes more bytes unpacked."""
    with _open_parquet(file) as parquet:
        metadata = parquet.metadata
        unpacked = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
        if max_bytes is not None and unpacked > max_bytes:
            raise MalformedFile(f"it takes {unpacked:,} bytes when it is unpacked; the limit is {max_bytes:,}")
        if unpacked > MAX_ROW_BYTES * metadata.num_rows:
            raise MalformedFile(f"it has a row of over {MAX_ROW_BYTES:,} bytes")
        return column_names(parquet.schema_arrow.names)


def parquet_rows(file: BinaryIO) -> Iterator[Row]:
    """Return the rows of a Parquet file. Raises MalformedFile. They are converted column by column, which is faster.

    Columns of text are read as dictionaries: a text that many rows share is in memory once, as it is in the file.
    """
    arrow: Any = _import_library("pyarrow")
    number = 0
    with _open_parquet(file) as parquet:
        schema, types = parquet.schema_arrow, arrow.types
        texts = [field.name for field in schema if types.is_string(field.type) or types.is_large_string(field.type)]
    with _open_parquet(file, read_dictionary=texts) as parquet:
        names = column_names(schema.names)
        for batch in parquet.iter_batches(batch_size=_BATCH_ROWS):
            columns = [_parquet_cells(arrow, column) for column in batch.columns]
            size = sum(map(_total_size, columns)) // batch.num_rows + 1 if batch.num_rows else 1
            for values in zip(*columns, strict=True):
                number += 1
                yield Row(number, dict(zip(names, values, strict=False)), size)


def _total_size(cells: Sequence[object]) -> int:
    """Return the size of the cells of a column. Raise MalformedFile if one is longer than a row may be."""
    sizes = [len(cell) if isinstance(cell, str) else 8 for cell in cells]
    if max(sizes) > MAX_ROW_BYTES:
        raise MalformedFile(f"it has a row of over {MAX_ROW_BYTES:,} bytes")
    return sum(sizes)


def _parquet_cells(arrow: Any, column: Any) -> list[object]:
    """Return the cells of a column. Times are truncated to microseconds, as Python has them."""
    types, column_type = arrow.types, column.type
    if types.is_dictionary(column_type):
        used = column.indices.unique()
        cells = dict(zip(used.to_pylist(), _parquet_cells(arrow, column.dictionary.take(used)), strict=True))
        return list(map(cells.get, column.indices.to_pylist()))
    if types.is_timestamp(column_type) and column_type.unit == "ns":
        column = column.cast(arrow.timestamp("us", tz=column_type.tz), safe=False)
    values: list[object] = column.to_pylist()
    is_cell = types.is_string, types.is_large_string, types.is_integer, types.is_decimal, types.is_timestamp
    return values if any(check(column_type) for check in is_cell) else list(map(_parquet_cell, values))


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


def _check_row_count(part: IO[bytes]) -> None:
    """Raise MalformedFile if a part of a spreadsheet has more rows than a sheet can have.

    openpyxl reads all of them when it opens the file, also the empty ones: a file of 2 MB can have 100 million.
    """
    rows, rest = 0, b""
    while chunk := part.read(_CHUNK_BYTES):
        if not rows and not rest and chunk.startswith(_UTF_16_BEGINNINGS):
            raise MalformedFile("a large sheet is in UTF-16; save it with a program that writes UTF-8")
        chunk = rest + chunk
        end = max(chunk.rfind(b"<"), len(chunk) - _MAX_TAG_BYTES)  # a tag may go on in the next chunk
        rows += len(_ROW_TAG.findall(chunk, 0, end))
        rest = chunk[end:]
        if rows > MAX_SHEET_ROWS:
            raise MalformedFile(f"it has more than the {MAX_SHEET_ROWS:,} rows that a sheet can have")


@contextmanager
def _open_workbook(file: BinaryIO) -> Generator[Any]:
    openpyxl: Any = _import_library("openpyxl")
    file.seek(0)
    with _reported_as_malformed("it is no spreadsheet in the format xlsx, or it is corrupted"):
        with zipfile.ZipFile(file) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_UNPACKED_BYTES:
                raise MalformedFile(f"it takes over {MAX_UNPACKED_BYTES:,} bytes when it is unpacked")
            for member in archive.infolist():
                if member.file_size > _FEW_ROWS_BYTES:
                    with archive.open(member) as part:
                        _check_row_count(part)
        file.seek(0)
        workbook = openpyxl.load_workbook(file, read_only=True, data_only=True)
        try:
            yield workbook
        finally:
            workbook.close()


@contextmanager
def _open_parquet(file: BinaryIO, read_dictionary: Sequence[str] = ()) -> Generator[Any]:
    parquet = _import_library("pyarrow.parquet")
    file.seek(0)
    with _reported_as_malformed("it is no Parquet file, or it is corrupted"):
        # Without pre_buffer: its threads abort a process that ends soon (pyarrow 26).
        yield parquet.ParquetFile(file, pre_buffer=False, read_dictionary=read_dictionary)


@contextmanager
def _reported_as_malformed(problem: str) -> Generator[None]:
    """Raise MalformedFile for every error of a library: those of corrupted files are of many types."""
    try:
        yield
    except (MalformedFile, TallybookError):
        raise
    except Exception as error:
        raise MalformedFile(f"{problem}: {str(error).rstrip('.') or type(error).__name__}") from error


def _import_library(name: str) -> Any:
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


def _parquet_cell(value: object) -> object:
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, dict):
        return NestedCell(cast(dict[str, object], value))
    return value if value is None or isinstance(value, str | int | Decimal | date) else UnusableCell("another type")
