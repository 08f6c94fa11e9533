"""Engines that run SQL on the stored events of a ledger."""

import json
import sqlite3
from collections.abc import Sequence
from typing import Any, Protocol

import duckdb
import psycopg
from tallybook.application import Metering
from tallybook.application.archive.sql.dialects import DialectName
from tallybook.application.archive.sql.views import relation_view
from tallybook.application.storage.ports import PositionedEventRow

Row = tuple[Any, ...]

_COLUMNS = {
    "position": "BIGINT",
    "stream": "VARCHAR",
    "version": "BIGINT",
    "topic": "VARCHAR",
    "recorded_at": "TIMESTAMPTZ",
    "event_name": "VARCHAR",
    "occurred_at": "TIMESTAMPTZ",
    "recorded_position": "BIGINT",
    "payload": "MAP(VARCHAR, VARCHAR)",
    "state": "BLOB",
}
"""The columns of a segment of an archive, in DuckDB."""


class SqlEngine(Protocol):
    """An engine: `load` replaces the events that statements read, and `run` returns the rows of a statement."""

    dialect: DialectName

    def load(self, events: Sequence[PositionedEventRow]) -> None:
        """Replace the stored events."""
        ...

    def run(self, statement: str) -> list[Row]:
        """Return the rows of a statement."""
        ...

    def close(self) -> None:
        """Close the engine."""
        ...


def stored_events(metering: Metering) -> list[PositionedEventRow]:
    """Return all events of a ledger as they are stored."""
    rows = metering._ledger.raw_rows(1, 1 << 62, 1_000_000)  # pyright: ignore[reportPrivateUsage]
    return [
        (position, bytes(stream).decode(), int(version), bytes(topic).decode(), bytes(state))
        for position, stream, version, topic, state, _ in rows
    ]


class SQLiteEngine:
    """SQLite, with the table of a ledger and the view of it that the documents have."""

    dialect = DialectName.SQLITE

    def __init__(self) -> None:
        self._connection = sqlite3.connect(":memory:")
        self._connection.execute(f"CREATE TABLE stored_events ({_LEDGER_COLUMNS}, state BLOB)")
        self._connection.executescript(relation_view(self.dialect))

    def load(self, events: Sequence[PositionedEventRow]) -> None:
        self._connection.execute("DELETE FROM stored_events")
        self._connection.executemany("INSERT INTO stored_events VALUES (?, ?, ?, ?, ?)", events)

    def run(self, statement: str) -> list[Row]:
        return self._connection.execute(statement).fetchall()

    def close(self) -> None:
        self._connection.close()


class PostgresEngine:
    """PostgreSQL, with the table of a ledger and the view of it that the documents have."""

    dialect = DialectName.POSTGRES

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute(f"CREATE TEMP TABLE stored_events ({_LEDGER_COLUMNS}, state BYTEA)")
        self._connection.execute(relation_view(self.dialect).encode())

    def load(self, events: Sequence[PositionedEventRow]) -> None:
        self._connection.execute("TRUNCATE stored_events")
        with self._connection.cursor() as cursor:
            cursor.executemany("INSERT INTO stored_events VALUES (%s, %s, %s, %s, %s)", events)

    def run(self, statement: str) -> list[Row]:
        return self._connection.execute(statement.encode()).fetchall()

    def close(self) -> None:
        self._connection.close()


_LEDGER_COLUMNS = "position BIGINT, originator_id TEXT, originator_version BIGINT, topic TEXT"


class DuckDBEngine:
    """DuckDB, with the segments of an archive."""

    dialect = DialectName.DUCKDB

    def __init__(self) -> None:
        self._connection = duckdb.connect(config={"threads": 1})
        columns = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
        self._connection.execute(f"CREATE TABLE ledger_events ({columns})")

    def load(self, events: Sequence[PositionedEventRow]) -> None:
        self._connection.execute("TRUNCATE ledger_events")
        insert_segment(self._connection, events)

    def run(self, statement: str) -> list[Row]:
        return self._connection.execute(statement).fetchall()

    def close(self) -> None:
        self._connection.close()


def insert_segment(connection: duckdb.DuckDBPyConnection, events: Sequence[PositionedEventRow]) -> None:
    """Insert stored events into the table `ledger_events`, as an archive has them."""
    structure = json.dumps([{name: "VARCHAR" if kind == "BLOB" else kind for name, kind in _COLUMNS.items()}])
    columns = ", ".join(f"event.{name}" for name in _COLUMNS if name != "state")
    connection.execute(
        f"INSERT INTO ledger_events SELECT {columns}, unhex(event.state) FROM"
        " (SELECT unnest(from_json(?, ?)) AS event)",
        (json.dumps([_segment_row(event) for event in events]), structure),
    )


def _segment_row(event: PositionedEventRow) -> dict[str, object]:
    position, stream, version, topic, state = event
    document = json.loads(state)
    is_usage = topic == "UsageRecorded"
    is_cancellation = topic in {"EventCancelled", "CancelRevoked"}
    return {
        "position": position,
        "stream": stream,
        "version": version,
        "topic": topic,
        "recorded_at": document["recorded_at"],
        "event_name": document["event_name"] if is_usage or is_cancellation else None,
        "occurred_at": document["occurred_at"] if is_usage or is_cancellation else None,
        "recorded_position": document["recorded_position"] if is_cancellation else None,
        "payload": document["payload"] if is_usage else None,
        "state": state.hex(),
    }
