"""The ledger on SQLite: stored events in one total order, never changed."""

import sqlite3
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, TypeVar

from eventsourcing.persistence import Notification, StoredEvent
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteCursor

from ...projections.rows import OTHER, PAGE_PART, USAGE_RECORDED, LedgerEvent, StoredPage
from .kept import Beside, ordered
from .sqlite import Datastore
from .sqlite_kept import SQLiteKeeper, insert
from .sqlite_schema import Schema
from .store import PlacedRow, StoredBytes, StoredRow, StreamMoved

Item = TypeVar("Item")
LOOK_EVERY_SECONDS = 0.05
LEDGER = Schema(
    application_id=0x54414C4C,  # "TALL"
    version=1,
    statements=(
        """CREATE TABLE stored_events (
            position INTEGER PRIMARY KEY CHECK (position > 0),
            originator_id TEXT NOT NULL,
            originator_version INTEGER NOT NULL,
            topic TEXT NOT NULL,
            state BLOB NOT NULL,
            UNIQUE (originator_id, originator_version)
        )""",
        """CREATE TRIGGER stored_events_are_never_changed BEFORE UPDATE ON stored_events
            BEGIN SELECT RAISE(ABORT, 'stored events are never changed'); END""",
        """CREATE TRIGGER stored_events_are_never_deleted BEFORE DELETE ON stored_events
            BEGIN SELECT RAISE(ABORT, 'stored events are never deleted'); END""",
        # REPLACE deletes without firing the trigger above. In this one, a position that is not given is -1: a given
        # -1 passes, and is left to the CHECK, which sees positions as they will be stored.
        """CREATE TRIGGER stored_events_are_only_appended BEFORE INSERT ON stored_events
            WHEN EXISTS (
                SELECT 1 FROM stored_events
                WHERE originator_id = NEW.originator_id AND originator_version = NEW.originator_version
            )
            OR NEW.position <> -1 AND NEW.position <> (SELECT coalesce(max(position), 0) + 1 FROM stored_events)
            BEGIN SELECT RAISE(ABORT, 'stored events are only appended, each once'); END""",
    ),
)
# Nothing that an intruder can store fails to be read: text that isn't UTF-8, or another type than its column's.
_BYTES = (
    "position, CAST(originator_id AS BLOB), CAST(originator_version AS BLOB), CAST(topic AS BLOB),"
    " CAST(state AS BLOB), typeof(originator_id)||' '||typeof(originator_version)||' '||typeof(topic)"
    "||' '||typeof(state)"
)
# SQLite goes through a range of its primary key in order; said with ORDER BY and LIMIT in a subquery, each row would be
# copied once more, which takes half as long again.
_USES_AT_ONCE = f"""
SELECT CAST(group_concat(
    CASE topic WHEN '{USAGE_RECORDED}' THEN state ELSE char({ord(OTHER)}) END,
    CASE (position - 1) % {PAGE_PART} WHEN 0 THEN char(10) ELSE ',' END
) AS BLOB), max(position)
FROM stored_events WHERE position > ? AND position <= ?
"""
_OTHERS = f"""
SELECT position, topic, state FROM stored_events
WHERE position > ? AND position <= ? AND topic <> '{USAGE_RECORDED}' ORDER BY position
"""
_INSERT = "INSERT INTO stored_events (originator_id, originator_version, topic, state) VALUES"
# What SQLite does for each statement, triggers being there, takes as long as half of a row.
_AT_ONCE = 50
_INSERT_AT_ONCE = f"{_INSERT} {','.join(['(?,?,?,?)'] * _AT_ONCE)}"
_COLUMNS = "position AS id, originator_id, originator_version, topic, state"


def ledger_datastore(database: str) -> Datastore:
    """The database of a ledger: what is committed is on disk."""
    return Datastore(database, LEDGER, synchronous="FULL")


class SQLiteLedgerRecorder(SQLiteApplicationRecorder):
    """The library's recorder over a table whose positions are its own primary key, without gaps."""

    def __init__(self, datastore: Datastore) -> None:
        super().__init__(datastore)
        self.store = datastore
        self._keeper: SQLiteKeeper | None = None
        self.create_table()
        self.insert_events_statement = f"{_INSERT} (?,?,?,?)"
        self.select_events_statement = f"SELECT {_COLUMNS} FROM stored_events WHERE originator_id=? "

    def create_table(self) -> None:
        """Open the database, which makes the table where there is none."""
        with self.datastore.transaction(commit=False):
            pass

    def _insert_events(self, c: SQLiteCursor, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int]:
        rows = [(str(s.originator_id), s.originator_version, s.topic, s.state) for s in stored_events]
        return self.insert_rows_with(c, rows)

    def insert_rows(
        self,
        rows: Sequence[StoredRow],
        unless_moved: Mapping[str, int] | None = None,
        beside: Beside | None = None,
    ) -> Sequence[int]:
        """Store rows of (stream, version, topic, state) in one transaction; give their positions.

        Raises StreamMoved, with nothing stored, where a stream has grown past its version in `unless_moved`. Given the
        positions, `beside` tells what is kept in the same transaction; raises AlreadyKept, with nothing stored.
        """
        if beside is not None:
            keeper = self.keeper()
            if not rows:
                keeper.change(add=beside(()))
                return ()
        with self.datastore.transaction(commit=True) as c:
            for stream, version in (unless_moved or {}).items():
                c.execute(
                    "SELECT 1 FROM stored_events WHERE originator_id = ? AND originator_version = ?",
                    (stream, version + 1),
                )
                if c.fetchone() is not None:
                    raise StreamMoved(stream)
            positions = self.insert_rows_with(c, rows)
            if beside is not None:
                insert(c, ordered(beside(positions)))
            return positions

    def keeper(self) -> SQLiteKeeper:
        """What is kept beside the events. Its table is made where there is none."""
        if self._keeper is None:
            self._keeper = SQLiteKeeper(self.store)
        return self._keeper

    @contextmanager
    def alone(self) -> Generator["SQLiteLedgerAlone"]:
        """Read and append while nobody else can append; what is appended takes effect at the end."""
        with self.datastore.transaction(commit=True) as c:
            yield SQLiteLedgerAlone(self, c)

    def insert_rows_with(self, c: SQLiteCursor, rows: Sequence[StoredRow]) -> Sequence[int]:
        """Store rows of (stream, version, topic, state) inside a transaction; give their positions."""
        whole = len(rows) - len(rows) % _AT_ONCE
        for first in range(0, whole, _AT_ONCE):
            c.execute(_INSERT_AT_ONCE, tuple(chain.from_iterable(rows[first : first + _AT_ONCE])))
        c.executemany(self.insert_events_statement, rows[whole:])
        # The write lock is held, so the positions just given are the last ones.
        last = self.last_position(c)
        return range(last - len(rows) + 1, last + 1)

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """Stored events by position, as the library asks for them."""
        first = 1 if start is None else start + (0 if inclusive_of_start else 1)
        wanted = f"AND topic IN ({','.join('?' * len(topics))})" if topics else ""
        return self._select(
            f"WHERE position >= ? AND position <= coalesce(?, position) {wanted} ORDER BY position LIMIT ?",
            (first, stop, *topics, limit),
        )

    def last_position(self, c: SQLiteCursor) -> int:
        """The position of the newest event; 0 in an empty ledger."""
        return self._max_notification_id(c) or 0

    def head(self) -> int:
        """The position of the newest event; 0 in an empty ledger."""
        return self.max_notification_id() or 0

    def page(self, after: int, limit: int) -> Sequence[LedgerEvent]:
        """Up to `limit` events after the position `after`, in order."""
        with self.datastore.transaction(commit=False) as c:
            return _page(c, after, limit)

    @property
    def is_read_beside(self) -> bool:
        """Whether it is a file: in memory, who reads a table keeps others from writing to it, and they don't wait."""
        return not self.store.pool.is_sqlite_memory_mode

    def page_at_once(self, after: int, limit: int) -> StoredPage:
        """Up to `limit` events after the position `after`, put together by SQLite."""
        with self.store.statements() as cursor:
            try:
                cursor.execute(_USES_AT_ONCE, (after, after + limit))
            except sqlite3.DataError:  # too much for one value
                return StoredPage(b"", cursor.execute(_OTHERS, (after, after + limit)).fetchall(), after)
            uses, last = cursor.fetchone()
            has_others = OTHER in (uses or b"")
            others = cursor.execute(_OTHERS, (after, last)).fetchall() if has_others else ()
            return StoredPage(uses or b"", others, last or after)

    def stored_rows(self, first: int, last: int, limit: int) -> Sequence[StoredBytes]:
        """Up to `limit` rows at the positions from `first` to `last`, both included, in order, as they are stored."""
        with self.datastore.transaction(commit=False) as c:
            cursor = c.sqlite_cursor
            cursor.row_factory = None
            cursor.execute(
                f"SELECT {_BYTES} FROM stored_events WHERE position BETWEEN ? AND ? ORDER BY position LIMIT ?",
                (first, last, limit),
            )
            return cursor.fetchall()

    def select_stream_positions(self, originator_id: str) -> Sequence[int]:
        """The positions of a stream's events, in order."""
        with self.datastore.transaction(commit=False) as c:
            c.execute("SELECT position FROM stored_events WHERE originator_id = ? ORDER BY position", (originator_id,))
            return [row[0] for row in c.fetchall()]

    def select_first_events(self, originator_ids: Sequence[str]) -> Sequence[Notification]:
        """The first event, with its position, of each of the streams that exist."""
        found: list[Notification] = []
        for chunk in _chunks(originator_ids):
            marks = ",".join("?" * len(chunk))
            found += self._select(f"WHERE originator_id IN ({marks}) AND originator_version = 1", chunk)
        return found

    def select_positions(self, positions: Sequence[int]) -> Sequence[PlacedRow]:
        """The events at `positions`, in any order."""
        found: list[PlacedRow] = []
        for chunk in _chunks(positions):
            found += self._rows(f"WHERE position IN ({','.join('?' * len(chunk))})", chunk)
        return found

    def select_stream(self, stream: str) -> Sequence[Notification]:
        """The events of one stream, by version."""
        return self._select("WHERE originator_id = ? ORDER BY originator_version", (stream,))

    def select_streams(self, prefix: str) -> Sequence[str]:
        """The ids of the streams that begin with `prefix`, in order."""
        with self.datastore.transaction(commit=False) as c:
            c.execute(
                "SELECT originator_id FROM stored_events"
                " WHERE originator_id >= ? AND originator_id < ? AND originator_version = 1 ORDER BY originator_id",
                (prefix, _after(prefix)),
            )
            return [row[0] for row in c.fetchall()]

    def select_under(self, prefix: str) -> Sequence[Notification]:
        """The events of all streams whose ids begin with `prefix`, by stream and version."""
        return self._select(
            "WHERE originator_id >= ? AND originator_id < ? ORDER BY originator_id, originator_version",
            (prefix, _after(prefix)),
        )

    def select_newer(self, prefix: str, after: int, limit: int) -> Sequence[Notification]:
        """Up to `limit` events after the position `after` of streams whose ids begin with `prefix`, by position."""
        return self._select(  # with the +, positions are looked at in the index of streams
            "WHERE originator_id >= ? AND originator_id < ? AND +position > ? ORDER BY +position LIMIT ?",
            (prefix, _after(prefix), after, limit),
        )

    @contextmanager
    def listening(self) -> Generator[Callable[[float], None]]:
        """Look for what is appended from here on: gives what waits for that, or for some seconds at most."""
        seen = self.head()

        def wait(seconds: float) -> None:
            nonlocal seen
            deadline = time.monotonic() + seconds
            while (head := self.head()) == seen and time.monotonic() < deadline:
                time.sleep(LOOK_EVERY_SECONDS)
            seen = head

        yield wait

    def close(self) -> None:
        """Let the file go."""
        self.datastore.close()

    def _select(self, where: str, params: Sequence[object]) -> Sequence[Notification]:
        rows = self._rows(where, params)
        return [Notification(stream, version, topic, state, at) for at, stream, version, topic, state in rows]

    def _rows(self, where: str, params: Sequence[object]) -> list[PlacedRow]:
        with self.datastore.transaction(commit=False) as c:
            cursor = c.sqlite_cursor
            cursor.row_factory = None
            cursor.execute(f"SELECT {_COLUMNS} FROM stored_events {where}", tuple(params))
            return cursor.fetchall()


class SQLiteLedgerAlone:
    """The ledger inside a transaction in which nobody else can append to it."""

    def __init__(self, recorder: SQLiteLedgerRecorder, cursor: SQLiteCursor) -> None:
        self._recorder = recorder
        self._cursor = cursor

    def head(self) -> int:
        """The position of the newest event; 0 in an empty ledger."""
        return self._recorder.last_position(self._cursor)

    def page(self, after: int, limit: int) -> Sequence[LedgerEvent]:
        """Up to `limit` events after the position `after`, in order."""
        return _page(self._cursor, after, limit)

    def insert_rows(self, rows: Sequence[StoredRow]) -> Sequence[int]:
        """Store rows of (stream, version, topic, state); give their positions."""
        return self._recorder.insert_rows_with(self._cursor, rows)


def _page(c: SQLiteCursor, after: int, limit: int) -> Sequence[LedgerEvent]:
    cursor = c.sqlite_cursor.connection.cursor()
    cursor.row_factory = None
    cursor.execute(
        "SELECT position, topic, state FROM stored_events WHERE position > ? ORDER BY position LIMIT ?",
        (after, limit),
    )
    return cursor.fetchall()


def _after(prefix: str) -> str:
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def _chunks(items: Sequence[Item], size: int = 500) -> Sequence[Sequence[Item]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
