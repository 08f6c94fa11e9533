"""The key-value store, in SQL common to both stores."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from .key_value import EntryKey, KeyValueEntry, validate


class SqlKeyValueStore(ABC):
    """Queries of the table `key_values`. The placeholder of a condition is a question mark."""

    @abstractmethod
    def select_entries(self, condition: str, params: Sequence[object]) -> list[KeyValueEntry]:
        """Return the entries that a condition selects."""

    def scan(
        self, kind: str, *, after: str | None = None, limit: int, newest_first: bool = False
    ) -> list[KeyValueEntry]:
        """Return up to `limit` entries by key, after the key `after`; with `newest_first`, backwards, before it."""
        validate(kind, () if after is None else (after,))
        after_condition = "" if after is None else f"AND key {'<' if newest_first else '>'} ?"
        order = "DESC" if newest_first else ""
        after_params = () if after is None else (after,)
        return self.select_entries(
            f"kind = ? {after_condition} ORDER BY key {order} LIMIT ?", (kind, *after_params, limit)
        )

    def scan_all(self, after: EntryKey | None, limit: int) -> list[KeyValueEntry]:
        """Return up to `limit` entries of all kinds by kind and key, after a kind and key."""
        return self.select_entries("(kind, key) > (?, ?) ORDER BY kind, key LIMIT ?", (*(after or ("", "")), limit))

    def due_before(self, kind: str, until: int, limit: int) -> list[KeyValueEntry]:
        """Return up to `limit` entries with `at` <= `until`, oldest first."""
        validate(kind)
        return self.select_entries("kind = ? AND at <= ? ORDER BY at, key LIMIT ?", (kind, until, limit))
