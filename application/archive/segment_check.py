"""Checks the rows of one segment: their positions, their columns against the stored states, and their hashes."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

from ..checkpoints.leaves import leaf_hashes
from ..storage.ports import PositionedEventRow
from .columns import DECODED_COLUMNS, UnreadableState, decode_columns
from .ledger_rows import paused_garbage_collection
from .ranges import TreeRange
from .results import ArchiveDifference
from .segment_file import UNREADABLE_FILE_ERRORS, SegmentReader, table_rows

_CHUNK_BYTES = 1 << 20

OnPage = Callable[[int, Sequence[PositionedEventRow], Sequence[bytes]], None]
"""Called for each page with the position before it, its rows and the hashes of their leaves."""


def _ignore_page(_position: int, _rows: Sequence[PositionedEventRow], _leaves: Sequence[bytes]) -> None:
    pass


def file_digest(file: BinaryIO) -> tuple[int, str]:
    """Return the length and the SHA-256 of a file, and rewind it."""
    digest, size = hashlib.sha256(), 0
    while data := file.read(_CHUNK_BYTES):
        digest.update(data)
        size += len(data)
    file.seek(0)
    return size, digest.hexdigest()


class SegmentCheck:
    """A check of the rows of the segment with the positions `first` to `last`.

    `hashes` are those of the rows, up to the first one whose position is wrong or that can't be read. `differences` are
    what is wrong: at most one for each column, and nothing after such a row.
    """

    def __init__(self, name: str, first: int, last: int, on_page: OnPage = _ignore_page) -> None:
        self.hashes = TreeRange(first - 1)
        self._name = name
        self._last = last
        self._on_page = on_page
        self._differences: dict[str, ArchiveDifference] = {}

    @property
    def differences(self) -> Sequence[ArchiveDifference]:
        """What is wrong."""
        return list(self._differences.values())

    def run(self, file: BinaryIO) -> "SegmentCheck":
        """Check all rows of the file, and return this check."""
        group_last = self.hashes.end
        try:
            reader = SegmentReader(file)
            for index, size in enumerate(reader.row_groups):
                group_last = min(group_last + size, self._last)
                for table in reader.tables(index):
                    with paused_garbage_collection():
                        if not self._check_page(table):
                            return self
        except UnreadableState as error:
            self._report("state", error.position, error.position, str(error))
        except UNREADABLE_FILE_ERRORS as error:
            first = self.hashes.end + 1
            reason = str(error).partition("\n")[0] or type(error).__name__
            self._report("file", first, max(group_last, first), f"the file can't be read here: {reason}")
        else:
            if self.hashes.end < self._last:
                self._report("position", self.hashes.end + 1, self._last, "these positions are missing")
        return self

    def _check_page(self, table: Any) -> bool:
        """Check a page. Return False if a position is wrong."""
        rows = table_rows(table)
        for position, row in enumerate(rows, self.hashes.end + 1):
            if row[0] != position or position > self._last:
                self._report("position", position, position, f"there is position {row[0]} in place of {position}")
                return False
        for column, position in _different_columns(table, rows):
            self._report(column, position, position, f"the column {column} is not what the state says")
        leaves = leaf_hashes(rows)
        self._on_page(self.hashes.end, rows, leaves)
        self.hashes.extend(leaves)
        return True

    def _report(self, subject: str, first: int, last: int, message: str) -> None:
        self._differences.setdefault(subject, ArchiveDifference(self._name, first, last, message))


def _different_columns(table: Any, rows: Sequence[PositionedEventRow]) -> Iterator[tuple[str, int]]:
    """Yield the name of each column that differs from the states, and the first position where it does."""
    for name, expected in zip(DECODED_COLUMNS.names, decode_columns(rows), strict=True):
        actual = table.column(name).combine_chunks()
        if not actual.equals(expected):
            pairs = zip(actual, expected, strict=True)
            index = next((i for i, (one, other) in enumerate(pairs) if not one.equals(other)), 0)
            yield name, rows[index][0]
