"""The leaves that a ledger's stored events make now, in the order of positions, which have to be 1, 2, 3 and so on."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Literal, Protocol

from ..stores.store import StoredBytes
from .leaf import leaf_data
from .leaf_hashes import PAGE
from .merkle import leaf_hash

_LEAST = -(2**63)

Wrong = Literal["changed", "missing", "inserted"]


class StoredRows(Protocol):
    """A ledger whose rows can be read as they are stored."""

    def head(self) -> int: ...  # noqa: D102
    def stored_rows(self, first: int, last: int, limit: int) -> Sequence[StoredBytes]: ...  # noqa: D102


class OutOfOrder(Exception):
    """The positions are not 1, 2, 3 and so on: one is missing, or there is one that none should be."""

    def __init__(self, position: int, wrong: Wrong) -> None:
        super().__init__(position, wrong)
        self.position = position
        self.wrong: Wrong = wrong


def row_pages(ledger: StoredRows, first: int, last: int) -> Iterator[Sequence[StoredBytes]]:
    """The rows at the positions from `first` to `last`, in order. Raises OutOfOrder after the last that is in order.

    From position 1 on, rows below it are looked for too.
    """
    for start in range(first, max(first, last) + 1, PAGE):
        end = min(start + PAGE - 1, last)
        # By ranges of positions, not "the next so many": so two rows at one position can't fall between two pages.
        rows = ledger.stored_rows(_LEAST if start == 1 else start, end, PAGE + 1)
        if [row[0] for row in rows] == list(range(start, end + 1)):
            yield rows
            continue
        for place, (row, position) in enumerate(zip_longest(rows, range(start, end + 1))):
            if row is None or position is None or row[0] != position:
                yield rows[:place]
                raise _out_of_order(None if row is None else row[0], position)


def hash_pages(ledger: StoredRows, first: int, last: int) -> Iterator[list[bytes]]:
    """The leaf hashes of the rows at the positions from `first` to `last`. Raises OutOfOrder as `row_pages` does."""
    for rows in row_pages(ledger, first, last):
        yield [leaf_hash(leaf_data(row)) for row in rows]


def _out_of_order(found: int | None, position: int | None) -> OutOfOrder:
    if found is not None and (position is None or found < position):
        return OutOfOrder(found, "inserted")
    assert position is not None
    return OutOfOrder(position, "missing")
