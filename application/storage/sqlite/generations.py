"""Generations of read models in a SQLite database: their tables, and their bookkeeping inside one transaction."""

from collections.abc import Sequence

from eventsourcing.persistence import Tracking
from eventsourcing.sqlite import SQLiteCursor, SQLiteTrackingRecorder

from ....projections.high_water_marks import BEFORE_ALL_TIMES
from ..sql_generations import SqlGenerations, tracking_name
from ..sql_statements import table_names
from .schema import Schema

READ_MODEL_SCHEMA = Schema(
    application_id=0x54414C56,  # "TALV"
    version=11,
    is_disposable=True,
    statements=(
        f"""CREATE TABLE generations (
            generation INTEGER PRIMARY KEY AUTOINCREMENT,
            state TEXT NOT NULL CHECK (state IN ('building', 'ready', 'live', 'retired')),
            pinned TEXT NOT NULL,
            revisions TEXT NOT NULL,
            ledger_fingerprint TEXT,
            page_id TEXT,
            latest_recorded_at INTEGER NOT NULL DEFAULT {BEFORE_ALL_TIMES}
        )""",
        "CREATE UNIQUE INDEX only_one_is_live ON generations (state) WHERE state = 'live'",
        """CREATE TABLE tracking (
            application_name TEXT PRIMARY KEY,
            notification_id INTEGER NOT NULL
        ) WITHOUT ROWID""",
        "CREATE TABLE holder (holder TEXT NOT NULL)",
    ),
)


class SQLiteTracking(SQLiteTrackingRecorder):
    """The library's tracking table: one row for each generation."""

    def position(self, cursor: SQLiteCursor, generation: int) -> int:
        """Return the position up to which a generation is projected."""
        return self._max_tracking_id(tracking_name(generation), cursor) or 0

    def track(self, cursor: SQLiteCursor, generation: int, position: int) -> None:
        """Advance the position of a generation. Raise the library's IntegrityError unless it grows."""
        self._insert_tracking(cursor, Tracking(tracking_name(generation), position))


class SQLiteGenerations(SqlGenerations):
    """The generations of a ledger's read models, inside one transaction."""

    def __init__(self, tracking: SQLiteTracking, cursor: SQLiteCursor) -> None:
        super().__init__()
        self.cursor = cursor
        self._tracking = tracking

    def execute(self, statement: str, params: Sequence[object] = ()) -> SQLiteCursor:
        """Execute a statement."""
        self.cursor.execute(statement, tuple(params))
        return self.cursor

    def live_and_position(self) -> tuple[int, int] | None:
        """Return the number of the live generation and its position in one query, or None if there is none."""
        row = self.execute(
            f"SELECT generation, notification_id FROM {self._with_positions} WHERE state = 'live'"
        ).fetchone()
        return None if row is None else (row[0], row[1] or 0)

    def position(self, generation: int) -> int:
        """Return the position up to which a generation is projected."""
        return self._tracking.position(self.cursor, generation)

    def track(self, generation: int, position: int) -> None:
        """Advance the position of a generation. Raise the library's IntegrityError unless it grows."""
        self._tracking.track(self.cursor, generation, position)

    def insert(self, state: str, pinned: str) -> int:
        """Insert the row of a new generation and return its number."""
        self.execute(
            "INSERT INTO generations (state, pinned, revisions) VALUES (?, ?, '{}')",
            (state, pinned),
        )
        return self.cursor.lastrowid

    def create_tables(self, generation: int) -> None:
        """Create the tables of a new generation."""
        for statement in _generation_statements(generation):
            self.execute(statement)


def _generation_statements(generation: int) -> tuple[str, ...]:
    """Return the statements that create the tables of a generation.

    Times are microseconds since 1970 UTC; amounts are exact decimal text.
    """
    meters, customers, usage, unsorted_usage, totals, high_water_marks = table_names(generation)
    return (
        f"""CREATE TABLE {meters} (
            meter INTEGER PRIMARY KEY,
            event_name TEXT NOT NULL UNIQUE,
            rules TEXT NOT NULL,
            history TEXT NOT NULL,
            source TEXT
        )""",
        f"CREATE TABLE {customers} (customer INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
        _usage_statement(usage),
        _usage_statement(unsorted_usage),
        f"""CREATE TABLE {totals} (
            meter INTEGER NOT NULL,
            bucket_seconds INTEGER NOT NULL,
            start INTEGER NOT NULL,
            customer INTEGER NOT NULL,
            dimensions TEXT NOT NULL,
            sum TEXT NOT NULL,
            count INTEGER NOT NULL,
            last TEXT,
            last_at INTEGER,
            last_position INTEGER,
            min_value TEXT,
            max_value TEXT,
            first_change INTEGER NOT NULL,
            last_change INTEGER NOT NULL,
            PRIMARY KEY (meter, bucket_seconds, start, customer, dimensions)
        ) WITHOUT ROWID""",
        f"""CREATE TABLE {high_water_marks} (
            recorded_at INTEGER NOT NULL,
            position INTEGER NOT NULL,
            PRIMARY KEY (recorded_at, position)
        ) WITHOUT ROWID""",
    )


def _usage_statement(table: str) -> str:
    """Return the statement that creates a table of usage blocks.

    It has rowids: the rows are long, so SQLite appends them instead of inserting them into the order of their keys.
    """
    return f"""CREATE TABLE {table} (
        meter INTEGER NOT NULL,
        customer INTEGER NOT NULL,
        start INTEGER NOT NULL,
        dimensions TEXT NOT NULL,
        first_position INTEGER NOT NULL,
        earliest INTEGER NOT NULL,
        latest INTEGER NOT NULL,
        sum TEXT NOT NULL,
        count INTEGER NOT NULL,
        last TEXT,
        last_at INTEGER,
        last_position INTEGER,
        min_value TEXT,
        max_value TEXT,
        last_change INTEGER NOT NULL,
        usages BLOB NOT NULL,
        PRIMARY KEY (meter, customer, start, dimensions, first_position)
    )"""
