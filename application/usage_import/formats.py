"""What the formats of usage files have in common: rows, errors and the decoding of text."""

import io
from collections.abc import Mapping
from enum import StrEnum
from typing import BinaryIO, NamedTuple

from ...domain.errors import InvalidImportFile

MAX_ROW_BYTES = 32 << 20
"""A longer line is not read into memory. The longest one takes about 600 MB while it is parsed as CSV."""


class FileFormat(StrEnum):
    """The format of a usage file."""

    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"


class Row(NamedTuple):
    """One row: its first line (in JSON, its number in the list), and its cells by column, or the error of the row.

    `size` is about the number of characters that it takes in memory.
    """

    line: int
    cells: Mapping[str, object]
    size: int
    error: InvalidImportFile | None = None


class MalformedFile(ValueError):
    """The file is not valid in its format. `line` is where, if it is known."""

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.line = line


def invalid_row(line: int, size: int, message: str, field: str = "row") -> Row:
    """Return a row that is rejected with a message."""
    return Row(line, {}, size, InvalidImportFile(message, field=field))


class Utf8Text(io.TextIOWrapper):
    """Reads a file as text, and leaves it open so that it can be read again."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="utf-8-sig", newline="")

    def __exit__(self, *_: object) -> None:
        if not self.closed:
            self.detach()
