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


_BYTES_PER_CPU_SECOND = 100_000
"""Files of programs take at most a tenth of the time: compressed, a megabyte may have 100,000 rows."""
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
    """How much a file may contain, so that a small one can't unpack to more than fits; None is no limit.

    `max_memory_bytes` is what the process may take that reads it. With a limit of bytes or rows, as for files of
    others, that process has a limit of processor time too: `min_cpu_seconds`, and more for a large file.
    """

    max_bytes: int | None = None
    max_rows: int | None = None
    max_memory_bytes: int = 1 << 30
    min_cpu_seconds: int = 60

    @property
    def is_limited(self) -> bool:
        """Whether bytes or rows are limited."""
        return self.max_bytes is not None or self.max_rows is not None

    def cpu_seconds(self, size: int) -> int | None:
        """Return the processor time that may be spent on reading a file of this size; None is no limit."""
        return self.min_cpu_seconds + size // _BYTES_PER_CPU_SECOND if self.is_limited else None


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


OBJECTS_PER_COLLECTION = 50_000
"""How rarely to search for reference cycles: a batch has many objects and no cycles. It takes a fifth of the time."""
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

    @cached_property
    def names(self) -> list[str] | None:
        """The columns, if all rows have the same in the same order, and none is invalid or has its text."""
        names = list(self._rows[0].cells) if self._rows else []
        is_regular = all(list(row.cells) == names and row.error is None and row.raw is None for row in self._rows)
        return names if is_regular else None

    @property
    def lines(self) -> list[int]:
        """The number of the line of each row."""
        return [row.line for row in self._rows]

    def column(self, name: str) -> Sequence[object]:
        """Return the cells of a column, if no row is invalid. Raises KeyError."""
        return [row.cells[name] for row in self._rows]


class ColumnBatch(RowBatch):
    """Consecutive rows with the same columns, none of them invalid. A `Row` of each is made only if it is needed."""

    def __init__(self, names: Sequence[str], lines: list[int], columns: Sequence[Sequence[object]]) -> None:
        self._lines = lines
        self._columns = dict(zip(names, columns, strict=True))

    def __len__(self) -> int:
        return len(self._lines)

    @cached_property
    def rows(self) -> Sequence[Row]:
        """The rows."""
        cells_of_rows = zip(*self._columns.values(), strict=True)
        return [
            Row(line, dict(zip(self._columns, cells, strict=True)), _size(cells))
            for line, cells in zip(self._lines, cells_of_rows, strict=True)
        ]

    @cached_property
    def has_errors(self) -> bool:
        """Whether a row is invalid."""
        return False

    @cached_property
    def names(self) -> list[str] | None:
        """The columns."""
        return list(self._columns)

    @property
    def lines(self) -> list[int]:
        """The number of the line of each row."""
        return self._lines

    def column(self, name: str) -> Sequence[object]:
        """Return the cells of a column. Raises KeyError."""
        return self._columns[name]


def _size(cells: Iterable[object]) -> int:
    return sum(len(cell) if isinstance(cell, str) else 8 for cell in cells)


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
