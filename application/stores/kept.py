"""What is kept beside a ledger's events, in the same database: rows that are found by their kind and key."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from ..arguments import text

LONGEST_KIND = 50
LONGEST_KEY = 500
"""In characters: an entry of an index on PostgreSQL holds 2,704 bytes, whatever they are."""


class KeptRow(NamedTuple):
    """Something kept beside the events, in the same database: found by its kind and key. `at` is in microseconds."""

    kind: str
    key: str
    at: int
    body: bytes


class AlreadyKept(Exception):
    """A row to add is kept already; nothing of what went with it was stored."""


Beside = Callable[[Sequence[int]], Sequence[KeptRow]]
"""What is to be kept with events, told by the positions that these were given."""


class Keeper(Protocol):
    """The rows that are kept beside a ledger's events, in the order of their texts' code points.

    Kinds have up to 50 characters and keys up to 500. Others raise InvalidParameter.
    """

    def get(self, kind: str, keys: Sequence[str]) -> dict[str, KeptRow]:
        """Those of the rows of `keys` that are there, by key."""
        ...

    def select(self, kind: str, *, after: str | None = None, limit: int, newest_first: bool = False) -> list[KeptRow]:
        """Up to `limit` rows by key, after the key `after`; or backwards by key, before it."""
        ...

    def due(self, kind: str, until: int, limit: int) -> list[KeptRow]:
        """Up to `limit` of the rows whose `at` is no later than `until`, oldest first."""
        ...

    def change(
        self,
        *,
        add: Sequence[KeptRow] = (),
        put: Sequence[KeptRow] = (),
        remove: Sequence[tuple[str, str]] = (),
    ) -> None:
        """In one transaction take away, then add, then put in the place of what is there or not.

        `remove` are kinds and keys, of which some may not be there. Raises AlreadyKept, with nothing changed, where one
        to `add` is.
        """
        ...

    def remove_until(self, kind: str, until: int, limit: int) -> int:
        """Take away up to `limit` of the oldest rows whose `at` is no later than `until`; give how many."""
        ...

    def alone(self, doing: str) -> AbstractContextManager[bool]:
        """Be the only one who does `doing` meanwhile, over all processes on this ledger; gives whether one is.

        It doesn't wait. Whoever holds it loses it when their program or their connection ends, and isn't told of the
        latter: what is done alone must do no harm when it is done twice.
        """
        ...


def check(kind: str, keys: Iterable[str] = ()) -> None:
    """Raise InvalidParameter for what not every store could hold."""
    text(kind, "kind", LONGEST_KIND)
    for key in keys:
        text(key, "key", LONGEST_KEY)


def ordered(rows: Iterable[KeptRow]) -> list[KeptRow]:
    """Rows to store, checked, in one order for all, so that fewer writers get in each other's way."""
    rows = sorted(rows)
    for row in rows:
        check(row.kind, (row.key,))
    return rows


def last_of_each(rows: Iterable[KeptRow]) -> list[KeptRow]:
    """Rows to store one after the other, of which only the last under a key stays: those that do."""
    return ordered({(row.kind, row.key): row for row in rows}.values())
