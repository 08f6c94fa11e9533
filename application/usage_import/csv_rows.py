"""Usage files in CSV, in batches of rows."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain, compress
from typing import BinaryIO, NamedTuple, TextIO

from ..spreadsheet_text import unescape_formulas
from .csv_dialect import CsvDialect, csv_reader, read_header
from .encodings import DecodedText
from .formats import (
    BATCH_ROWS,
    MAX_BATCH_SIZE,
    REASON_COLUMNS,
    MalformedFile,
    Row,
    RowBatch,
    invalid_row,
)  # fmt: skip

_BLOCK_CHARACTERS = 1 << 16
"""How many characters are parsed together, and up to a line more."""


class CsvBatch(RowBatch):
    """Consecutive rows of a CSV file. A `Row` of each is made only if it is needed, which takes longer than to read it.

    `lines` are the numbers of their lines, `cells` the cells of each, and `invalid` those with a wrong number of them.
    """

    def __init__(self, names: list[str], lines: list[int], cells: list[list[str]]) -> None:
        self._lines = lines
        self.cells = cells
        self._names = names

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def lines(self) -> list[int]:
        """The number of the line of each row."""
        return self._lines

    @cached_property
    def names(self) -> list[str] | None:
        """The columns, if no row is invalid."""
        return None if self.has_errors else self._names

    @cached_property
    def rows(self) -> Sequence[Row]:
        """The rows, some of which may be invalid."""
        return list(map(self._row, self.lines, self.cells))

    @cached_property
    def has_errors(self) -> bool:
        """Whether a row is invalid."""
        return {*map(len, self.cells)} != {len(self._names)}

    def column(self, name: str) -> Sequence[str]:
        """Return the cells of a column, if no row is invalid. Raises KeyError."""
        return self._columns[name]

    @cached_property
    def _columns(self) -> Mapping[str, Sequence[str]]:
        return dict(zip(self._names, zip(*self.cells, strict=True), strict=True))

    def _row(self, line: int, cells: list[str]) -> Row:
        count, size = len(self._names), sum(map(len, cells)) + len(cells)
        if len(cells) == count:
            return Row(line, dict(zip(self._names, cells, strict=True)), size)
        return invalid_row(line, size, f"The row has {len(cells)} cells, the header has {count}.", raw=cells)


def csv_batches(file: BinaryIO, dialect: CsvDialect) -> Iterator[CsvBatch]:
    """Yield the rows of a CSV file that is positioned at its start, in batches. Raises MalformedFile.

    Rows without any text, which spreadsheets write below a table, are skipped.
    """
    with DecodedText(file, dialect.encoding) as text:
        for _ in range(dialect.skipped_lines):
            text.readline()
        reader = csv_reader(text, dialect.delimiter)
        names = read_header(reader)
        is_escaped = REASON_COLUMNS.issubset(names)  # a file of rejected rows
        lines: list[int] = []
        rows: list[list[str]] = []
        size = 0
        for block in _row_blocks(text, dialect.delimiter, dialect.skipped_lines + reader.line_num + 1):
            lines += block.lines
            rows += [list(map(unescape_formulas, cells)) for cells in block.rows] if is_escaped else block.rows
            size += block.size
            while rows and (len(rows) >= BATCH_ROWS or size >= MAX_BATCH_SIZE):
                yield CsvBatch(names, lines[:BATCH_ROWS], rows[:BATCH_ROWS])
                lines, rows, size = lines[BATCH_ROWS:], rows[BATCH_ROWS:], 0
        if rows:
            yield CsvBatch(names, lines, rows)


class _RowBlock(NamedTuple):
    """Consecutive rows with any text, the number of the first line of each, and about their size in characters."""

    lines: list[int]
    rows: list[list[str]]
    size: int


def _row_blocks(text: TextIO, delimiter: str, first_line: int) -> Iterator[_RowBlock]:
    """Yield the rows of a text whose next line has the number `first_line`. Raises MalformedFile.

    A block of lines is parsed at once, in two thirds of the time that it takes row by row. The numbers of the lines of
    its rows are known if each line is a row; otherwise the block is parsed again row by row.
    """
    while block := text.readlines(_BLOCK_CHARACTERS):
        next_line = first_line + len(block)
        lines, size = list(range(first_line, next_line)), sum(map(len, block))
        rows = _parse_lines(block, delimiter)
        if len(rows) != len(block):
            lines, rows, next_line = _read_rows(chain(block, text), delimiter, first_line, next_line)
            size = sum(len("".join(cells)) + len(cells) for cells in rows)
        if not all(map(any, rows)):
            lines, rows = list(compress(lines, map(any, rows))), list(filter(any, rows))
        yield _RowBlock(lines, rows, size)
        first_line = next_line


def _parse_lines(lines: Iterable[str], delimiter: str) -> list[list[str]]:
    """Return the rows in these lines; none if the last one isn't complete, or if they aren't CSV."""
    try:
        return list(csv_reader(lines, delimiter))
    except csv.Error:
        return []


def _read_rows(
    text: Iterable[str], delimiter: str, first_line: int, end: int
) -> tuple[list[int], list[list[str]], int]:
    """Return the rows from the line `first_line` to the line before `end`, or a later one that the last row ends in.

    They are returned with the first line of each, and the line after them. Raises MalformedFile.
    """
    reader = csv_reader(text, delimiter)
    lines: list[int] = []
    rows: list[list[str]] = []
    line = first_line
    try:
        for cells in reader:
            lines.append(line)
            rows.append(cells)
            line = first_line + reader.line_num
            if line >= end:
                break
    except csv.Error as error:
        raise MalformedFile(f"it is not CSV: {error}", line) from error
    return lines, rows, line
