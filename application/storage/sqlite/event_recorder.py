"""The stored events of a SQLite ledger: one total order, append only."""

import sqlite3
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from eventsourcing.persistence import Notification, StoredEvent
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteCursor

from ....projections.models import CHUNK_SIZE, NON_USAGE_MARKER, LedgerEvent, RawPage
from ....projections.ports import USAGE_RECORDED
from ...results import Backup
from ..key_value import EntriesForPositions, EntryKey, KeyValueEntry, sorted_for_writing
from ..ports import ConcurrentStreamUpdate, EventRow, PositionedEventRow, RawEventRow
from ..recorded_time import MAX_CLOCK_DELAY, in_order_of_time, recorded_at_of
from ..sql_events import EVENT_COLUMNS, SELECT_PAGE, SELECT_STORED_ROWS, SqlEventReader, absent_triggers
from .backup import BackupProgress, write_backup
from .connection import Datastore
from .errors import unavailable
from .key_value import SQLiteKeyValueStore, insert_entries
from .ledger_schema import LEDGER_SCHEMA
from .pruning import SQLitePruning
from .read_only_copy import is_read_only_copy
from .schema import has_table

Item = TypeVar("Item")
POLL_INTERVAL_SECONDS = 0.05
# Read as bytes, with the types: rows written past Tallybook may hold invalid UTF-8 or values of another type.
_RAW_COLUMNS = (
    "position, CAST(originator_id AS BLOB), CAST(originator_version AS BLOB), CAST(topic AS BLOB),"
    " CAST(state AS BLOB), typeof(originator_id)||' '||typeof(originator_version)||' '||typeof(topic)"
    "||' '||typeof(state)"
)
# SQLite scans a range of the primary key in order. A subquery with ORDER BY and LIMIT would copy each row once more,
# which makes the query 50 % slower.
_SELECT_USAGE_DOCUMENT = f"""
SELECT CAST(group_concat(
    CASE topic WHEN '{USAGE_RECORDED}' THEN state ELSE char({ord(NON_USAGE_MARKER)}) END,
    CASE (position - 1) % {CHUNK_SIZE} WHEN 0 THEN char(10) ELSE ',' END
) AS BLOB), max(position)
FROM stored_events WHERE position > ? AND position <= ?
"""
_SELECT_OTHER_EVENTS = f"""
SELECT position, topic, state FROM stored_events
WHERE position > ? AND position <= ? AND topic <> '{USAGE_RECORDED}' ORDER BY position
"""
_INSERT = "INSERT INTO stored_events (originator_id, originator_version, topic, state) VALUES"
# With triggers, the overhead of each INSERT statement equals the cost of half a row.
_BATCH_SIZE = 50
_INSERT_BATCH = f"{_INSERT} {','.join(['(?,?,?,?)'] * _BATCH_SIZE)}"


def open_ledger_datastore(database: str) -> Datastore:
    """Open the database of a ledger. A committed transaction is on disk."""
    return Datastore(database, LEDGER_SCHEMA, synchronous="FULL", is_read_only_copy=is_read_only_copy(database))


class SQLiteEventRecorder(SQLitePruning, SqlEventReader, SQLiteApplicationRecorder):
    """The library's recorder on a table whose primary key is the position, without gaps."""

    def __init__(self, datastore: Datastore) -> None:
        super().__init__(datastore)
        self.store = datastore
        self._key_value_store: SQLiteKeyValueStore | None = None
        self._known_head = 0
        self.max_clock_delay: timedelta | None = MAX_CLOCK_DELAY
        self.clock: Callable[[], datetime] | None = None
        self.create_table()
        self.insert_events_statement = f"{_INSERT} (?,?,?,?)"
        self.select_events_statement = f"SELECT {EVENT_COLUMNS} FROM stored_events WHERE originator_id=? "

    def create_table(self) -> None:
        """Open the database, and read the version of its schema. The first connection creates missing tables."""
        with self.datastore.transaction(commit=False) as c:
            self._schema_version = _schema_version(c)

    def _insert_events(self, c: SQLiteCursor, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int]:
        rows = [(str(s.originator_id), s.originator_version, s.topic, s.state) for s in stored_events]
        positions = self.insert_rows_in_transaction(c, rows)
        self._require_known_events(c, positions.start - 1)
        return positions

    def insert_rows(
        self,
        rows: Sequence[EventRow],
        expected_versions: Mapping[str, int] | None = None,
        attach: EntriesForPositions | None = None,
    ) -> Sequence[int]:
        """Store rows of (stream, version, topic, state) in one transaction and return their positions.

        `attach` returns the key-value entries to insert in the same transaction. Raise the library's IntegrityError if
        a stream has an event of that version, ConcurrentStreamUpdate if a stream has grown past its version in
        `expected_versions`, and EntryExists if one of the entries exists. Nothing is stored then.
        """
        if attach is not None:
            key_value_store = self.key_value_store()
            if not rows:
                key_value_store.apply(insert=attach(()))
                return ()
        with self.datastore.transaction(commit=True) as c:
            positions = self.insert_rows_in_transaction(c, rows, expected_versions)
            self._require_known_events(c, positions.start - 1)
            if attach is not None:
                insert_entries(c, sorted_for_writing(attach(positions)))
        self._known_head = positions.stop - 1
        return positions

    def key_value_store(self) -> SQLiteKeyValueStore:
        """Return the key-value store of the ledger. Its table is created if it does not exist."""
        if self._key_value_store is None:
            self._key_value_store = SQLiteKeyValueStore(self.store)
            self.create_table()  # the table of the key-value store may be new, which changes the schema
        return self._key_value_store

    def key_value_entries(self, after: EntryKey | None, limit: int) -> Sequence[KeyValueEntry]:
        """Return up to `limit` key-value entries of all kinds after a kind and key; none without their table."""
        with self.datastore.transaction(commit=False) as c:
            exists = has_table(c.sqlite_cursor.connection, "key_values")
        return self.key_value_store().scan_all(after, limit) if exists else ()

    @contextmanager
    def exclusive(self) -> Generator["SQLiteEventAppender"]:
        """Read and append while no other client can append. The rows are committed at the end."""
        with self.datastore.transaction(commit=True) as c:
            self._require_known_events(c, self.last_position(c))
            yield SQLiteEventAppender(self, c)

    def insert_rows_in_transaction(
        self, c: SQLiteCursor, rows: Sequence[EventRow], expected_versions: Mapping[str, int] | None = None
    ) -> range:
        """Store rows of (stream, version, topic, state) inside a transaction and return their positions."""
        for stream, version in (expected_versions or {}).items():
            c.execute(
                "SELECT 1 FROM stored_events WHERE originator_id = ? AND originator_version = ?", (stream, version + 1)
            )
            if c.fetchone() is not None:
                raise ConcurrentStreamUpdate(stream)
        position, last = self._last_row(c)
        rows = in_order_of_time(rows, last, self.max_clock_delay, self.clock)
        batched_count = len(rows) - len(rows) % _BATCH_SIZE
        for first in range(0, batched_count, _BATCH_SIZE):
            c.execute(_INSERT_BATCH, tuple(chain.from_iterable(rows[first : first + _BATCH_SIZE])))
        c.executemany(self.insert_events_statement, rows[batched_count:])
        return range(position + 1, position + 1 + len(rows))  # this transaction holds the write lock

    def _last_row(self, c: SQLiteCursor) -> tuple[int, bytes | None]:
        """Return the position of the newest event and its time of recording; 0 and None in an empty ledger."""
        c.execute(
            "SELECT position, CAST(substr(state, 1, 64) AS BLOB) FROM stored_events ORDER BY position DESC LIMIT 1"
        )
        row = c.fetchone()
        return (0, None) if row is None else (row[0], recorded_at_of(row[1]))

    def _require_known_events(self, c: SQLiteCursor, head: int) -> None:
        """Raise LedgerUnavailable if a ledger that ends at `head` lacks events that this process has seen.

        Call this in each write transaction with the head at its start. An overwritten file is still the same file.
        Events that were deleted by force are left to `verify`: this needs another schema, without a trigger.
        """
        if head < self._known_head and _schema_version(c) == self._schema_version:
            raise unavailable(
                self.store.pool.db_name,
                f"the ledger ends at position {head}, but position {self._known_head} was recorded before. The file "
                "was overwritten, perhaps by a backup: close the ledger in all programs before you restore one.",
            )
        self._known_head = head

    def last_position(self, c: SQLiteCursor) -> int:
        """Return the position of the newest event; 0 in an empty ledger."""
        return self._max_notification_id(c) or 0

    @property
    def supports_concurrent_reads(self) -> bool:
        """Return whether the ledger is a file. In memory, a reader locks tables, and writers fail at once."""
        return not self.store.pool.is_sqlite_memory_mode

    def read_page_bulk(self, after: int, limit: int) -> RawPage:
        """Return up to `limit` events after a position, as one document that SQLite assembles."""
        page = self.read_page_of_rows(after, limit)
        if page is not None:
            return page
        with self.store.autocommit_cursor() as cursor:
            try:
                cursor.execute(_SELECT_USAGE_DOCUMENT, (after, after + limit))
            except sqlite3.DataError:  # the document exceeds the maximum size of a value
                return RawPage(b"", cursor.execute(_SELECT_OTHER_EVENTS, (after, after + limit)).fetchall(), after)
            usage_json, last_position = cursor.fetchone()
            has_other_events = NON_USAGE_MARKER in (usage_json or b"")
            other_events = (
                cursor.execute(_SELECT_OTHER_EVENTS, (after, last_position)).fetchall() if has_other_events else ()
            )
            return RawPage(usage_json or b"", other_events, last_position or after)

    def raw_rows(self, first: int, last: int, limit: int) -> Sequence[RawEventRow]:
        """Return up to `limit` stored rows at the positions from `first` to `last`, inclusive, in order."""
        return self.mark_pruned_rows(
            self.select_rows(
                f"SELECT {_RAW_COLUMNS} FROM {{events}} WHERE position BETWEEN ? AND ? ORDER BY position LIMIT ?",
                (first, last, limit),
            )
        )

    def select_events(self, originator_id: object, **selection: Any) -> Sequence[StoredEvent]:
        """Return events of one stream, by version."""
        return self.restore_stored_events(str(originator_id), super().select_events(str(originator_id), **selection))

    def missing_triggers(self) -> Sequence[str]:
        """Return the names of the triggers that protect stored events and are missing."""
        rows = self.select_rows("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
        return absent_triggers(LEDGER_SCHEMA.statements, rows)

    def select_first_rows(self, originator_ids: Sequence[str]) -> list[PositionedEventRow]:
        """Return the first row of each of these streams that exist, as it is stored."""
        rows: list[PositionedEventRow] = []
        for chunk in _batched(originator_ids):
            streams = ",".join("?" * len(chunk))
            condition = f"originator_id IN ({streams}) AND originator_version = 1"
            rows += self.select_rows(f"SELECT {EVENT_COLUMNS} FROM {{events}} WHERE {condition}", chunk)
        return rows

    def select_streams(self, originator_ids: Sequence[str]) -> Sequence[Notification]:
        """Return the events of several streams, by stream and version."""
        return [
            notification
            for chunk in _batched(sorted(originator_ids))
            for notification in self.notifications(
                f"WHERE originator_id IN ({','.join('?' * len(chunk))}) ORDER BY originator_id, originator_version",
                chunk,
            )
        ]

    def select_at(self, positions: Sequence[int]) -> Sequence[PositionedEventRow]:
        """Return the events at these positions, in any order."""
        rows: list[PositionedEventRow] = []
        for chunk in _batched(positions):
            rows += self.positioned_rows(f"WHERE position IN ({','.join('?' * len(chunk))})", chunk)
        return rows

    @contextmanager
    def append_listener(self) -> Generator[Callable[[float], None]]:
        """Yield a function that waits until new events were appended, or for a number of seconds. It polls the head."""
        known_head = self.head()

        def wait(seconds: float) -> None:
            nonlocal known_head
            deadline = time.monotonic() + seconds
            while (head := self.head()) == known_head and time.monotonic() < deadline:
                time.sleep(POLL_INTERVAL_SECONDS)
            known_head = head

        yield wait

    def backup(self, file: Path, *, overwrite: bool, progress: BackupProgress | None) -> Backup:
        """Write the present state of the ledger to a file, while others record."""
        least_position = self.head()
        with self.datastore.transaction(commit=False) as c:
            self.last_position(c)  # the state that the transaction reads is determined by its first query
            connection = c.sqlite_cursor.connection
            return write_backup(connection, file, overwrite=overwrite, least_position=least_position, progress=progress)

    def close(self) -> None:
        """Close the database."""
        self.archived_events.close()
        self.datastore.close()

    def select_rows(self, statement: str, params: Sequence[object] = ()) -> list[Any]:
        """Return the rows of a statement as tuples."""
        with self.store.autocommit_cursor() as cursor:
            return cursor.execute(statement.format(events="stored_events"), tuple(params)).fetchall()


class SQLiteEventAppender:
    """The ledger inside a transaction that excludes other writers."""

    def __init__(self, recorder: SQLiteEventRecorder, cursor: SQLiteCursor) -> None:
        self._recorder = recorder
        self._cursor = cursor

    def head(self) -> int:
        """Return the position of the newest event; 0 in an empty ledger."""
        return self._recorder.last_position(self._cursor)

    def read_page(self, after: int, limit: int) -> Sequence[LedgerEvent]:
        """Return up to `limit` events after a position, in order."""
        return self._recorder.restore(_fetch_all(self._cursor, SELECT_PAGE, (after, limit)))

    def insert_rows(
        self, rows: Sequence[EventRow], expected_versions: Mapping[str, int] | None = None
    ) -> Sequence[int]:
        """Store rows of (stream, version, topic, state) and return their positions."""
        return self._recorder.insert_rows_in_transaction(self._cursor, rows, expected_versions)

    def insert_entries(self, entries: Sequence[KeyValueEntry]) -> None:
        """Store key-value entries, whose table must exist. Raise EntryExists if one exists."""
        insert_entries(self._cursor, entries)

    def stored_rows(self, first: int, last: int) -> Sequence[PositionedEventRow]:
        """Return the rows at the positions from `first` to `last`, inclusive, in order."""
        return self._recorder.restore(_fetch_all(self._cursor, SELECT_STORED_ROWS, (first, last)))

    def allow_long_transaction(self) -> None:
        """Do nothing: SQLite has no limit."""


def _schema_version(c: SQLiteCursor) -> int:
    """Return the number that SQLite increments with each change of the schema."""
    c.execute("PRAGMA schema_version")
    return c.fetchone()[0]


def _fetch_all(c: SQLiteCursor, statement: str, params: Sequence[object]) -> list[Any]:
    cursor = c.sqlite_cursor.connection.cursor()
    cursor.row_factory = None
    return cursor.execute(statement.format(events="stored_events"), tuple(params)).fetchall()


def _batched(items: Sequence[Item], size: int = 500) -> Sequence[Sequence[Item]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
