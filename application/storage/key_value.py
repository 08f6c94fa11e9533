"""Key-value entries that a program stores in a ledger's database: their type, their order, and their limits."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from ...domain.errors import InvalidParameter
from ...domain.text import abbreviated_repr, is_storable

MAX_KIND_LENGTH = 50
MAX_KEY_LENGTH = 500
"""In characters: an index entry of PostgreSQL holds 2,704 bytes, so that every key of this length fits."""


class KeyValueEntry(NamedTuple):
    """Bytes stored under a kind and a key, with a time `at` in microseconds since the Unix epoch."""

    kind: str
    key: str
    at: int
    body: bytes


EntryKey = tuple[str, str]
"""The kind and the key of an entry."""


class EntryExists(Exception):
    """An entry to insert exists already. Nothing of the same transaction was stored."""


EntriesForPositions = Callable[[Sequence[int]], Sequence[KeyValueEntry]]
"""Returns the entries to store with new events, given the positions of these events."""


class KeyValueStore(Protocol):
    """The key-value entries of a ledger, ordered by the code points of their keys.

    A kind has up to 50 characters and a key up to 500. Others raise InvalidParameter.
    """

    def get(self, kind: str, keys: Sequence[str]) -> dict[str, KeyValueEntry]:
        """Return the entries with these keys that exist, by key."""
        ...

    def scan(
        self, kind: str, *, after: str | None = None, limit: int, newest_first: bool = False
    ) -> list[KeyValueEntry]:
        """Return up to `limit` entries by key, after the key `after`; with `newest_first`, backwards, before it."""
        ...

    def due_before(self, kind: str, until: int, limit: int) -> list[KeyValueEntry]:
        """Return up to `limit` entries with `at` <= `until`, oldest first."""
        ...

    def apply(
        self,
        *,
        insert: Sequence[KeyValueEntry] = (),
        upsert: Sequence[KeyValueEntry] = (),
        delete: Sequence[tuple[str, str]] = (),
    ) -> None:
        """In one transaction delete, then insert, then upsert entries.

        `delete` holds kinds and keys; those that do not exist are ignored. Raise EntryExists, with nothing changed, if
        an entry to insert exists.
        """
        ...

    def delete_due_before(self, kind: str, until: int, limit: int) -> int:
        """Delete up to `limit` of the oldest entries with `at` <= `until`, and return how many were deleted."""
        ...

    def try_lock(self, name: str) -> AbstractContextManager[bool]:
        """Try to take a lock among all processes on this ledger, without waiting. Yield whether this process holds it.

        The lock is released when the process or its connection ends, and the process is not notified of a lost
        connection: work done under the lock must be safe to do twice.
        """
        ...


def validate(kind: str, keys: Iterable[str] = ()) -> None:
    """Raise InvalidParameter for a kind or key that some store cannot hold."""
    _require_text(kind, "kind", MAX_KIND_LENGTH)
    for key in keys:
        _require_text(key, "key", MAX_KEY_LENGTH)


def sorted_for_writing(entries: Iterable[KeyValueEntry]) -> list[KeyValueEntry]:
    """Return validated entries in one order for all writers, so that fewer of them wait for each other or deadlock."""
    entries = sorted(entries)
    for entry in entries:
        validate(entry.kind, (entry.key,))
    return entries


def deduplicate(entries: Iterable[KeyValueEntry]) -> list[KeyValueEntry]:
    """Return the last entry of each kind and key, validated and in the order for writing."""
    return sorted_for_writing({(entry.kind, entry.key): entry for entry in entries}.values())


def _require_text(value: object, field: str, max_length: int) -> None:
    if not isinstance(value, str) or not 1 <= len(value) <= max_length or not is_storable(value):
        raise InvalidParameter(
            f"{field!r} must be text of 1 to {max_length} characters, not {abbreviated_repr(value)}.",
            field=field,
            value=value,
        )
