"""Usage files in CSV, row by row."""

import csv
import threading
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from ...domain.text import abbreviated_repr
from .formats import MAX_ROW_BYTES, MalformedFile, Row, Utf8Text, invalid_row


def read_header(file: BinaryIO) -> list[str]:
    """Return the columns of a CSV file. Raises MalformedFile."""
    with Utf8Text(file) as text:
        return _header(csv.reader(text, strict=True))


def csv_rows(file: BinaryIO) -> Iterator[Row]:
    """Return the rows of a CSV file that is positioned at its start. Raises MalformedFile."""
    with Utf8Text(file) as text:
        reader = csv.reader(text, strict=True)
        names = _header(reader)
        line = reader.line_num + 1
        try:
            for cells in reader:
                size = sum(map(len, cells)) + len(cells)
                if len(cells) == len(names):
                    yield Row(line, dict(zip(names, cells, strict=True)), size)
                elif cells:
                    yield invalid_row(line, size, f"The row has {len(cells)} cells, the header has {len(names)}.")
                line = reader.line_num + 1
        except csv.Error as error:
            raise MalformedFile(f"it is not CSV: {error}", line) from error


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


def _header(reader: Any) -> list[str]:
    try:
        names: list[str] = next(reader)
    except StopIteration:
        raise MalformedFile("it is empty") from None
    except csv.Error as error:
        raise MalformedFile(f"it is not CSV: {error}", 1) from error
    duplicates = [name for name, count in Counter(names).items() if name and count > 1]
    if duplicates:
        raise MalformedFile(f"it has more than one column {abbreviated_repr(min(duplicates))}", 1)
    return names
