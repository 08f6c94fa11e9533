"""What is kept beside a ledger's events on SQLite: a table in the same file."""

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from urllib.parse import quote

from eventsourcing.sqlite import SQLiteCursor

from .exclusion import exclusion
from .kept import AlreadyKept, KeptRow, check, last_of_each, ordered
from .sqlite import Datastore

_STATEMENTS = (
    """CREATE TABLE IF NOT EXISTS kept (
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        at INTEGER NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (kind, key)
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS kept_by_time ON kept (kind, at, key)",
)
_KEYS_AT_A_TIME = 500


class SQLiteKeeper:
    """The rows that are kept beside the events of a SQLite ledger. The table is made where there is none."""

    def __init__(self, datastore: Datastore) -> None:
        self.datastore = datastore
        if not self._is_there():
            with datastore.transaction(commit=True) as c:
                for statement in _STATEMENTS:
                    c.execute(statement)

    def get(self, kind: str, keys: Sequence[str]) -> dict[str, KeptRow]:
        """Those of the rows of `keys` that are there, by key."""
        check(kind, keys)
        found: dict[str, KeptRow] = {}
        for start in range(0, len(keys), _KEYS_AT_A_TIME):
            chunk = keys[start : start + _KEYS_AT_A_TIME]
            rows = self._rows(f"kind = ? AND key IN ({','.join('?' * len(chunk))})", (kind, *chunk))
            found.update((row.key, row) for row in rows)
        return found

    def select(self, kind: str, *, after: str | None = None, limit: int, newest_first: bool = False) -> list[KeptRow]:
        """Up to `limit` rows by key, after the key `after`; or backwards by key, before it."""
        check(kind, () if after is None else (after,))
        beyond = "" if after is None else f"AND key {'<' if newest_first else '>'} ?"
        order = "DESC" if newest_first else ""
        given = () if after is None else (after,)
        return self._rows(f"kind = ? {beyond} ORDER BY key {order} LIMIT ?", (kind, *given, limit))

    def due(self, kind: str, until: int, limit: int) -> list[KeptRow]:
        """Up to `limit` of the rows whose `at` is no later than `until`, oldest first."""
        check(kind)
        return self._rows("kind = ? AND at <= ? ORDER BY at, key LIMIT ?", (kind, until, limit))

    def change(
        self,
        *,
        add: Sequence[KeptRow] = (),
        put: Sequence[KeptRow] = (),
        remove: Sequence[tuple[str, str]] = (),
    ) -> None:
        """In one transaction take away, then add, then put. Raises AlreadyKept, with nothing changed."""
        for kind, key in remove:
            check(kind, (key,))
        added, replaced = ordered(add), last_of_each(put)
        if not (added or replaced or remove):
            return
        with self.datastore.transaction(commit=True) as c:
            c.executemany("DELETE FROM kept WHERE kind = ? AND key = ?", remove)
            insert(c, added)
            c.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?)", replaced)

    def remove_until(self, kind: str, until: int, limit: int) -> int:
        """Take away up to `limit` of the oldest rows whose `at` is no later than `until`; give how many."""
        check(kind)
        with self.datastore.transaction(commit=True) as c:
            c.execute(
                "DELETE FROM kept WHERE kind = ? AND key IN"
                " (SELECT key FROM kept WHERE kind = ? AND at <= ? ORDER BY at, key LIMIT ?)",
                (kind, kind, until, limit),
            )
            return c.sqlite_cursor.rowcount

    @contextmanager
    def alone(self, doing: str) -> Generator[bool]:
        """Be the only one who does `doing` meanwhile, by a lock on a file beside the ledger; gives whether one is."""
        with exclusion(f"{self.datastore.pool.db_name}.alone-{quote(doing, safe='')}", wait_seconds=0) as held:
            yield held

    def _is_there(self) -> bool:
        with self.datastore.transaction(commit=False) as c:
            c.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'kept'")
            return c.fetchone() is not None

    def _rows(self, where: str, params: Sequence[object]) -> list[KeptRow]:
        with self.datastore.transaction(commit=False) as c:
            c.execute(f"SELECT kind, key, at, body FROM kept WHERE {where}", params)
            return [KeptRow(*row) for row in c.fetchall()]


def insert(c: SQLiteCursor, rows: Sequence[KeptRow]) -> None:
    """Add rows inside a transaction. Raises AlreadyKept."""
    try:
        c.executemany("INSERT INTO kept VALUES (?, ?, ?, ?)", rows)
    except sqlite3.IntegrityError as error:
        raise AlreadyKept("One of the rows to add is kept already.") from error
