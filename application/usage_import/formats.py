"""What the formats of usage files have in common: options, rows and errors."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import msgspec

from ...domain.errors import InvalidImportFile

MAX_ROW_BYTES = 32 << 20
"""A longer line is not read into memory. The longest one takes about 600 MB while it is parsed as CSV."""


LINE_COLUMN, REASON_COLUMN = "rejected_line", "rejected_reason"
REASON_COLUMNS = frozenset({LINE_COLUMN, REASON_COLUMN})
"""The columns that a file of rejected rows has besides those of the file: see `error_rows.py`."""


class FileFormat(StrEnum):
    """The format of a usage file. TSV is CSV whose cells are separated by tabs."""

    CSV = "csv"
    TSV = "tsv"
    JSON = "json"
    JSONL = "jsonl"
    XLSX = "xlsx"
    PARQUET = "parquet"


TEXT_FORMATS = {FileFormat.CSV, FileFormat.TSV, FileFormat.JSON, FileFormat.JSONL}
TABLE_FORMATS = {FileFormat.CSV, FileFormat.TSV, FileFormat.XLSX}
"""The formats with a header row."""


@dataclass(frozen=True, slots=True)
class FileOptions:
    """How to read a file; what is None is determined from the file.

    `header_row` is the line of the header, from 1; rows before it are skipped. `sheet` is a sheet of a spreadsheet.
    """

    file_format: FileFormat | None = None
    encoding: str | None = None
    delimiter: str | None = None
    header_row: int | None = None
    sheet: str | None = None


@dataclass(frozen=True, slots=True)
class FileLimits:
    """How much a file may contain, so that a small one can't unpack to more than fits; None is no limit."""

    max_bytes: int | None = None
    max_rows: int | None = None


@dataclass(frozen=True, slots=True)
class FileDialect:
    """How a file is read: as given, or as it was determined from the file. What doesn't apply is None.

    `header_line` is the line, or in a spreadsheet the row, with the names of the columns.
    """

    file_format: FileFormat
    compression: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    header_line: int | None = None
    sheet: str | None = None


class Row(msgspec.Struct, frozen=True):
    """One row: its first line (in JSON, its number in the list), and its cells by column, or the error of the row.

    `size` is about the number of characters that it takes in memory. `raw` is what was read if it is not in `cells`:
    the text of a line, or a list of cells.
    """

    line: int
    cells: Mapping[str, object]
    size: int
    error: InvalidImportFile | None = None
    raw: str | list[str] | None = None


BATCH_ROWS = 5_000
MAX_BATCH_SIZE = 4_000_000
"""Long rows are read and recorded in smaller batches: of about this many characters, so that they fit in memory."""


class RowBatch:
    """Consecutive rows of a file."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @cached_property
    def rows(self) -> Sequence[Row]:
        """The rows, some of which may be invalid."""
        return self._rows

    @cached_property
    def has_errors(self) -> bool:
        """Whether a row is invalid."""
        return any(row.error is not None for row in self._rows)

    def column(self, name: str) -> Sequence[object]:
        """Return the cells of a column, if no row is invalid. Raises KeyError."""
        return [row.cells[name] for row in self._rows]


def row_batches(rows: Iterable[Row]) -> Iterator[RowBatch]:
    """Yield the rows in batches that fit in memory."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += row.size
        if len(batch) == BATCH_ROWS or size >= MAX_BATCH_SIZE:
            yield RowBatch(batch)
            batch, size = [], 0
    if batch:
        yield RowBatch(batch)


class ColumnPattern:
    """A pattern that all cells of a column match: together, in a third of the time that it takes one by one.

    The pattern doesn't match a line break.
    """

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = re.compile(f"(?:(?:{pattern.pattern})\n)*+")

    def matches(self, cells: Sequence[str]) -> bool:
        """Return whether the pattern matches each cell; False if one is no text."""
        try:
            lines = "\n".join([*cells, ""])
        except TypeError:
            return False
        return lines.count("\n") == len(cells) and self._pattern.fullmatch(lines) is not None


class MalformedFile(ValueError):
    """The file is not valid in its format. `line` is where, if it is known."""

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.line = line


class UnclearCell(Exception):
    """A base of errors of cells that another option of the import may read, so that no row is recorded before."""


def invalid_row(line: int, size: int, message: str, field: str = "row", raw: str | list[str] | None = None) -> Row:
    """Return a row that is rejected with a message."""
    return Row(line, {}, size, InvalidImportFile(message, field=field), raw)
