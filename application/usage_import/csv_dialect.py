"""The dialect of a usage file in CSV: its encoding, delimiter and columns."""

import csv
import io
import threading
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, NamedTuple, TextIO

from ...domain.text import abbreviated_repr
from .encodings import DecodedText
from .formats import MAX_ROW_BYTES, MalformedFile

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
"""The delimiters that are recognized."""
_SAMPLE_LINES, _SAMPLE_CHARACTERS = 100, 1 << 20
"""What the delimiter is found in: so many lines, or fewer if they are longer."""
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
        sample = start + _read_sample(text, _SAMPLE_CHARACTERS - len(start))
    used = delimiter or _find_delimiter(sample)
    reader = csv_reader(io.StringIO(sample, newline=""), used)
    columns = read_header(reader)
    return CsvDialect(encoding, used, skipped, skipped + reader.line_num, columns)


def _read_sample(text: TextIO, characters: int) -> str:
    """Return the next lines: at most _SAMPLE_LINES, of about so many characters together."""
    lines: list[str] = []
    while characters > 0 and len(lines) < _SAMPLE_LINES and (line := text.readline()):
        lines.append(line)
        characters -= len(line)
    return "".join(lines)


def csv_lines(file: BinaryIO, encoding: str) -> Iterator[tuple[int, set[str]]]:
    """Return the texts of the cells of each line, divided by each of the delimiters, with its number."""
    with DecodedText(file, encoding) as text:
        for line, content in enumerate(text, 1):
            names: set[str] = set()
            for delimiter in DELIMITERS:
                with suppress(csv.Error):
                    for cells in csv_reader(io.StringIO(content), delimiter):
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


def csv_reader(text: Iterable[str], delimiter: str) -> Any:
    """Return a reader of Python's csv module."""
    return csv.reader(text, delimiter=delimiter, strict=True)


def read_header(reader: Any) -> list[str]:
    """Return the columns in the first row with any text. Raises MalformedFile."""
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
        counts += (len(cells) for cells in csv_reader(io.StringIO(sample, newline=""), delimiter) if any(cells))
    return counts
