"""The file of rejected rows: the rows in the format and with the columns of the file, to correct and import again.

Two columns say where a row was and why it was rejected; an import ignores them. So the corrected file is imported like
the first one. In CSV, text that a spreadsheet would evaluate gets an apostrophe, which the import removes again.
"""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

import msgspec

from ..spreadsheet_text import escape_formulas
from ..storage.private_files import private_opener
from .formats import LINE_COLUMN, REASON_COLUMN, REASON_COLUMNS, FileDialect, FileFormat, Row
from .json_rows import NestedCell, UnusableCell

TEXT_COLUMN = "rejected_text"
"""In JSON, a row that is no object is stored as text under this key."""
_encoder = msgspec.json.Encoder(decimal_format="number")


class ErrorFile:
    """Writes rejected rows. An error of writing doesn't end the import; it is in `error`."""

    def __init__(self, path: Path, dialect: FileDialect, columns: Sequence[str] | None) -> None:
        """Create the file. Raise OSError."""
        self.error: OSError | None = None
        open(path, "w", opener=private_opener).close()
        self._writer = _writer_of(path, dialect, columns)

    def write(self, row: Row, reason: str) -> None:
        """Write a row, unless an earlier one could not be written."""
        if self.error is None:
            self._try(lambda: self._writer.write(row, reason))

    def close(self) -> None:
        """Complete and close the file."""
        self._try(self._writer.close)

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as error:
            self.error = self.error or error


def _writer_of(
    path: Path, dialect: FileDialect, columns: Sequence[str] | None
) -> "_CsvErrors | _JsonErrors | _SheetErrors":
    match dialect.file_format:
        case FileFormat.CSV | FileFormat.TSV:
            return _CsvErrors(_open(path, dialect.encoding), columns or (), dialect.delimiter or ",")
        case FileFormat.XLSX:
            return _SheetErrors(path, columns or ())
        case _:
            is_list = dialect.file_format is FileFormat.JSON
            return _JsonErrors(_open(path, dialect.encoding), is_list=is_list)


def _open(path: Path, encoding: str | None) -> TextIO:
    used = "utf-8" if encoding in (None, "utf-8") else encoding
    return path.open("w", encoding=used, errors="backslashreplace", newline="")


class _CsvErrors:
    """Writes CSV. The two columns come first, so that a row with too many cells stays as it was."""

    def __init__(self, file: TextIO, columns: Sequence[str], delimiter: str) -> None:
        self._file = file
        self._columns = [column for column in columns if column not in REASON_COLUMNS]
        self._reason_indexes = {index for index, column in enumerate(columns) if column in REASON_COLUMNS}
        self._writer = csv.writer(file, delimiter=delimiter)
        self._writer.writerow((LINE_COLUMN, REASON_COLUMN, *self._columns))

    def write(self, row: Row, reason: str) -> None:
        """Write a row."""
        if isinstance(row.raw, list):
            cells: list[object] = [cell for index, cell in enumerate(row.raw) if index not in self._reason_indexes]
        else:
            cells = [row.cells.get(column) for column in self._columns]
        texts = ("" if cell is None else escape_formulas(str(cell)) for cell in cells)
        self._writer.writerow((row.line, escape_formulas(reason), *texts))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _JsonErrors:
    """Writes JSON, a list of objects, or JSONL, an object on each line. The payload is in columns `payload_KEY`."""

    def __init__(self, file: TextIO, *, is_list: bool) -> None:
        self._file = file
        self._is_list = is_list
        self._is_empty = True

    def write(self, row: Row, reason: str) -> None:
        """Write a row."""
        values: dict[str, object] = {LINE_COLUMN: row.line, REASON_COLUMN: reason}
        if isinstance(row.raw, str):
            values[TEXT_COLUMN] = row.raw.rstrip("\r\n")
        else:
            values |= {column: _json_value(cell) for column, cell in row.cells.items() if column not in REASON_COLUMNS}
        start = ("[\n" if self._is_empty else ",\n") if self._is_list else ""
        self._file.write(start + _to_json(values) + ("" if self._is_list else "\n"))
        self._is_empty = False

    def close(self) -> None:
        """Complete and close the file."""
        if self._is_list:
            self._file.write("[]\n" if self._is_empty else "\n]\n")
        self._file.close()


class _SheetErrors:
    """Writes a spreadsheet, whose cells keep their types."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        openpyxl: Any = import_module("openpyxl")
        self._cell: Any = import_module("openpyxl.cell").WriteOnlyCell
        self._path = path
        self._columns = [column for column in columns if column not in REASON_COLUMNS]
        self._workbook = openpyxl.Workbook(write_only=True)
        self._sheet = self._workbook.create_sheet("rejected")
        self._sheet.append([self._plain(text) for text in (LINE_COLUMN, REASON_COLUMN, *self._columns)])

    def write(self, row: Row, reason: str) -> None:
        """Write a row."""
        cells = [row.cells.get(column) for column in self._columns]
        self._sheet.append([row.line, self._plain(reason), *map(self._plain, cells)])

    def close(self) -> None:
        """Write the file."""
        self._workbook.save(self._path)

    def _plain(self, cell: object) -> object:
        """Return a cell in which text is no formula."""
        if not isinstance(cell, str | UnusableCell):
            return cell
        plain = self._cell(self._sheet, value=str(cell))
        plain.data_type = "s"
        return plain


def _json_value(cell: object) -> object:
    if isinstance(cell, NestedCell):
        return dict(cell.values)
    return None if isinstance(cell, UnusableCell) else cell


def _to_json(values: Mapping[str, object]) -> str:
    """Return an object as JSON in which numbers have all their digits. Invalid Unicode is escaped."""
    try:
        return _encoder.encode(values).decode()
    except (UnicodeEncodeError, RecursionError, ValueError, TypeError):
        return json.dumps(values, default=_to_text)


def _to_text(value: object) -> object:
    if isinstance(value, Decimal):
        return str(value)
    return value.isoformat() if isinstance(value, date) else repr(value)
