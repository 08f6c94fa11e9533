"""The key-value store of a SQLite ledger: a table in the ledger's file."""

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from urllib.parse import quote

from eventsourcing.sqlite import SQLiteCursor

from ..file_lock import file_lock
from ..forks import require_owner_process
from ..key_value import EntryExists, KeyValueEntry, deduplicate, sorted_for_writing, validate
from ..private_files import permissions_like
from ..sql_key_value import SqlKeyValueStore
from .connection import Datastore
from .ledger_schema import KEY_VALUE_STATEMENTS
from .schema import has_table

_MAX_KEYS_PER_STATEMENT = 500


class SQLiteKeyValueStore(SqlKeyValueStore):
    """The key-value entries of a SQLite ledger. The table is created if it does not exist."""

    def __init__(self, datastore: Datastore) -> None:
        self.datastore = datastore
        if not self._table_exists():
            with datastore.transaction(commit=True) as c:
                for statement in KEY_VALUE_STATEMENTS:
                    c.execute(statement)

    def get(self, kind: str, keys: Sequence[str]) -> dict[str, KeyValueEntry]:
        """Return the entries with these keys that exist, by key."""
        validate(kind, keys)
        entries: dict[str, KeyValueEntry] = {}
        for start in range(0, len(keys), _MAX_KEYS_PER_STATEMENT):
            chunk = keys[start : start + _MAX_KEYS_PER_STATEMENT]
            chunk_entries = self.select_entries(f"kind = ? AND key IN ({','.join('?' * len(chunk))})", (kind, *chunk))
            entries.update((entry.key, entry) for entry in chunk_entries)
        return entries

    def apply(
        self,
        *,
        insert: Sequence[KeyValueEntry] = (),
        upsert: Sequence[KeyValueEntry] = (),
        delete: Sequence[tuple[str, str]] = (),
    ) -> None:
        """In one transaction delete, then insert, then upsert. Raise EntryExists, with nothing changed."""
        for kind, key in delete:
            validate(kind, (key,))
        inserted, upserted = sorted_for_writing(insert), deduplicate(upsert)
        if not (inserted or upserted or delete):
            return
        with self.datastore.transaction(commit=True) as c:
            c.executemany("DELETE FROM key_values WHERE kind = ? AND key = ?", delete)
            insert_entries(c, inserted)
            c.executemany("INSERT OR REPLACE INTO key_values VALUES (?, ?, ?, ?)", upserted)

    def delete_due_before(self, kind: str, until: int, limit: int) -> int:
        """Delete up to `limit` of the oldest entries with `at` <= `until`, and return how many were deleted."""
        validate(kind)
        with self.datastore.transaction(commit=True) as c:
            c.execute(
                "DELETE FROM key_values WHERE kind = ? AND key IN"
                " (SELECT key FROM key_values WHERE kind = ? AND at <= ? ORDER BY at, key LIMIT ?)",
                (kind, kind, until, limit),
            )
            return c.sqlite_cursor.rowcount

    @contextmanager
    def try_lock(self, name: str) -> Generator[bool]:
        """Try to take a lock on a file next to the ledger, without waiting. Yield whether this process holds it."""
        require_owner_process(self.datastore.pool.process_id)
        database = self.datastore.pool.db_name
        path, mode = f"{database}.alone-{quote(name, safe='')}", permissions_like(database)
        with file_lock(path, timeout_seconds=0, mode=mode) as is_locked:
            yield is_locked

    def select_entries(self, condition: str, params: Sequence[object]) -> list[KeyValueEntry]:
        """Return the entries that a condition selects."""
        with self.datastore.transaction(commit=False) as c:
            c.execute(f"SELECT kind, key, at, body FROM key_values WHERE {condition}", params)
            return [KeyValueEntry(*row) for row in c.fetchall()]

    def _table_exists(self) -> bool:
        with self.datastore.transaction(commit=False) as c:
            return has_table(c.sqlite_cursor.connection, "key_values")


def insert_entries(c: SQLiteCursor, entries: Sequence[KeyValueEntry]) -> None:
    """Insert entries inside a transaction. Raise EntryExists if one exists."""
    try:
        c.executemany("INSERT INTO key_values VALUES (?, ?, ?, ?)", entries)
    except sqlite3.IntegrityError as error:
        raise EntryExists("A key-value entry to insert exists already.") from error
