"""Reads the rows of a ledger for the archive, page by page, and pauses the garbage collector meanwhile."""

import gc
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from ...domain.errors import LedgerCorrupted, LedgerUnavailable
from ..checkpoints.leaves import UnexpectedPosition, row_pages
from ..storage.ports import PositionedEventRow, RawEventRow
from ..storage.pruned_events import PRUNED_TYPES

PAGE_SIZE = 1 << 12
"""The objects of larger pages don't fit into the caches of a processor, and their memory is returned each time."""
FIRST_PAGE_SIZE = 1 << 10
MAX_PAGE_BYTES = 8 << 20
"""A page has fewer events if their states are longer than this together, as far as the page before it shows."""
_TYPES = (int, str, int, str, bytes)


class RowReader(Protocol):
    """Reads the stored events of a ledger."""

    def head(self) -> int: ...  # noqa: D102
    def stored_rows(self, first: int, last: int) -> Sequence[PositionedEventRow]: ...  # noqa: D102
    def raw_rows(self, first: int, last: int, limit: int) -> Sequence[RawEventRow]: ...  # noqa: D102


class RowPage(NamedTuple):
    """Consecutive rows, and the same as columns: positions, streams, versions, topics and states."""

    rows: Sequence[PositionedEventRow]
    columns: Sequence[Sequence[Any]]

    @classmethod
    def from_rows(cls, rows: Sequence[PositionedEventRow]) -> "RowPage":
        """Return the page with these rows."""
        return cls(rows, list(zip(*rows, strict=True)) or [()] * len(_TYPES))

    def has_expected_types(self) -> bool:
        """Return whether all values are of the types that a ledger stores."""
        return all({*map(type, column)} == {expected} for column, expected in zip(self.columns, _TYPES, strict=True))


def ledger_pages(ledger: RowReader, first: int, last: int) -> Iterator[RowPage]:
    """Yield pages of the rows at the positions `first` to `last`. Raise LedgerCorrupted if they aren't as recorded."""
    start, size = first, FIRST_PAGE_SIZE
    while start <= last:
        end = min(start + size - 1, last)
        try:
            rows = ledger.stored_rows(start, end)
        except LedgerUnavailable:
            _check_raw_rows(ledger, start, end)  # SQLite reports text that is not UTF-8 as an error of the database
            raise
        page = RowPage.from_rows(rows)
        if page.columns[0] != tuple(range(start, end + 1)) or not page.has_expected_types():
            _check_raw_rows(ledger, start, end)
        yield page
        average_bytes = sum(map(len, page.columns[4])) // (end - start + 1) + 1
        start, size = end + 1, max(1, min(PAGE_SIZE, MAX_PAGE_BYTES // average_bytes))


def corrupted_row(position: int, reason: str) -> LedgerCorrupted:
    """Return the error for a row that is not as recorded."""
    return LedgerCorrupted(
        f"The event at position {position} can't be read: {reason}. Ledgers don't write such events; "
        "'tallybook verify --checkpoints' shows what was changed, and a backup has the original.",
        field="position",
        value=position,
    )


@contextmanager
def paused_garbage_collection() -> Generator[None]:
    """Pause the collector of reference cycles, which would look at each of the new rows: a third of all time.

    Use it for a page at a time, because the other threads of the process have no collector meanwhile.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _check_raw_rows(ledger: RowReader, first: int, last: int) -> None:
    """Raise LedgerCorrupted for the first row that isn't there, or has a type or text that a ledger doesn't store."""
    try:
        for rows in row_pages(ledger, first, last):
            for position, stream, _, topic, _, types in rows:
                if types not in ("text integer text blob", PRUNED_TYPES):
                    raise corrupted_row(position, f"its columns have the types {types}")
                try:
                    (stream + topic).decode()
                except UnicodeDecodeError as error:
                    raise corrupted_row(position, str(error)) from error
    except UnexpectedPosition as error:
        raise corrupted_row(error.position, f"it is {error.kind}") from error
