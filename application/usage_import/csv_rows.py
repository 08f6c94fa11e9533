"""Usage files in CSV, in batches of rows."""

import csv
import io
import threading
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import chain, compress, islice
from typing import Any, BinaryIO, NamedTuple, TextIO

from ...domain.text import abbreviated_repr
from ..spreadsheet_text import unescape_formulas
from .encodings import DecodedText
from .formats import (
    BATCH_ROWS,
    MAX_BATCH_SIZE,
    MAX_ROW_BYTES,
    REASON_COLUMNS,
    MalformedFile,
    Row,
    RowBatch,
    invalid_row,
)  # fmt: skip

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
"""The delimiters that are recognized."""
_SAMPLE_LINES = 100
_BLOCK_CHARACTERS = 1 << 16
"""How many characters are parsed together, and up to a line more."""
_EXCEL_DELIMITER = "sep="
"""Excel reads the delimiter from a first line such as `sep=;`."""


class CsvDialect(NamedTuple):
    """How a CSV file is read: its encoding and delimiter, the lines before its header, and its columns."""

    encoding: str
    delimiter: str
    skipped_lines: int
    header_line: int
    columns: Sequence[str]


def read_csv_dialect(file: BinaryIO, encoding: str, delimiter: str | None, header_row: int | None) -> CsvDialect:
    """Return the dialect of a CSV file. Raises MalformedFile if the delimiter is unclear or the header invalid."""
    with DecodedText(file, encoding) as text:
        skipped = (header_row or 1) - 1
        for _ in range(skipped):
            if not text.readline():
                raise MalformedFile(f"it has no line {header_row}, which 'header_row' names")
        start = text.readline()
        if header_row is None and start.lower().startswith(_EXCEL_DELIMITER):
            skipped, delimiter = 1, delimiter or _named_delimiter(start)
            start = ""
        sample = start + "".join(islice(text, _SAMPLE_LINES))
    used = delimiter or _find_delimiter(sample)
    reader = _reader(io.StringIO(sample, newline=""), used)
    columns = _header(reader)
    return CsvDialect(encoding, used, skipped, skipped + reader.line_num, columns)


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
        reader = _reader(text, dialect.delimiter)
        names = _header(reader)
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

    Lines of which each is a row are parsed together, in two thirds of the time that it takes row by row.
    """
    while block := text.readlines(_BLOCK_CHARACTERS):
        next_line = first_line + len(block)
        lines, rows, size = list(range(first_line, next_line)), _parse_lines(block, delimiter), sum(map(len, block))
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
        return list(_reader(lines, delimiter))
    except csv.Error:
        return []


def _read_rows(
    text: Iterable[str], delimiter: str, first_line: int, end: int
) -> tuple[list[int], list[list[str]], int]:
    """Return the rows from the line `first_line` to the line before `end`, or a later one that the last row ends in.

    They are returned with the first line of each, and the line after them. Raises MalformedFile.
    """
    reader = _reader(text, delimiter)
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


def csv_lines(file: BinaryIO, encoding: str) -> Iterator[tuple[int, set[str]]]:
    """Return the texts of the cells of each line, divided by each of the delimiters, with its number."""
    with DecodedText(file, encoding) as text:
        for line, content in enumerate(text, 1):
            names: set[str] = set()
            for delimiter in DELIMITERS:
                with suppress(csv.Error):
                    for cells in _reader(io.StringIO(content), delimiter):
                        names.update(cell.strip() for cell in cells)
            yield line, names


class _CellLimit:
    """The length of a cell up to which Python's CSV parser works: 131,072 characters, and global in the process."""

    def __init__(self, max_characters: int) -> None:
        self._max_characters = max_characters
        self._lock = threading.Lock()
        self._blocks = 0
        self._limit_before = 0

    @contextmanager
    def raised(self) -> Generator[None]:
        """Allow longer cells until the block ends. The last of several blocks restores the limit of the program.

        If the program sets another limit meanwhile, that one stays.
        """
        with self._lock:
            if not self._blocks:
                self._limit_before = csv.field_size_limit(self._max_characters)
            self._blocks += 1
        try:
            yield
        finally:
            with self._lock:
                self._blocks -= 1
                if not self._blocks and csv.field_size_limit() == self._max_characters:
                    csv.field_size_limit(self._limit_before)


long_cells_allowed = _CellLimit(MAX_ROW_BYTES).raised
"""Allows cells as long as a row in a `with` block."""


def column_names(cells: Sequence[object]) -> list[str]:
    """Return the names of the columns in a header, without spaces around them. Raises MalformedFile."""
    names = ["" if cell is None else str(cell).strip() for cell in cells]
    duplicates = [name for name, count in Counter(names).items() if name and count > 1]
    if duplicates:
        raise MalformedFile(f"it has more than one column {abbreviated_repr(min(duplicates))}", 1)
    return names


def _reader(text: Iterable[str], delimiter: str) -> Any:
    return csv.reader(text, delimiter=delimiter, strict=True)


def _header(reader: Any) -> list[str]:
    """Return the columns in the first row with any text."""
    try:
        return column_names(next(cells for cells in reader if any(cells)))
    except StopIteration:
        raise MalformedFile("it is empty") from None
    except csv.Error as error:
        raise MalformedFile(f"it is not CSV: {error}", 1) from error


def _named_delimiter(line: str) -> str | None:
    """Return the delimiter that a first line `sep=;` names; None if it names none. Raises MalformedFile."""
    named = line.rstrip("\r\n")[len(_EXCEL_DELIMITER) :]
    if len(named) > 1 or named == '"':
        raise MalformedFile(
            f"its first line names the delimiter {abbreviated_repr(named)}, which must be one character. Name it with "
            "delimiter=','",
            1,
        )
    return named or None


def _find_delimiter(sample: str) -> str:
    """Return the only delimiter in the header, or else the only one that divides all rows into as many cells."""
    widths = {delimiter: _widths(sample, delimiter) for delimiter in DELIMITERS}
    candidates = [delimiter for delimiter, counts in widths.items() if counts and counts[0] > 1]
    if len(candidates) > 1:
        candidates = [delimiter for delimiter in candidates if len(set(widths[delimiter])) == 1] or candidates
    if len(candidates) > 1:
        names = " or ".join(DELIMITERS[delimiter] for delimiter in candidates)
        raise MalformedFile(f"its cells may be separated by {names}. Name it with delimiter='{candidates[0]}'", 1)
    return candidates[0] if candidates else ","


def _widths(sample: str, delimiter: str) -> list[int]:
    """Return the number of cells of each row with any text. What follows an error is ignored."""
    counts: list[int] = []
    with suppress(csv.Error):
        counts += (len(cells) for cells in _reader(io.StringIO(sample, newline=""), delimiter) if any(cells))
    return counts
