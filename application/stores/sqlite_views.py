"""The read models on SQLite, in a file of their own beside the ledger. Deleting it loses nothing."""

from collections.abc import Generator
from contextlib import contextmanager

from eventsourcing.persistence import Tracking
from eventsourcing.sqlite import SQLiteCursor, SQLiteTrackingRecorder

from .sqlite import Datastore
from .sqlite_rows import SQLiteRows
from .sqlite_schema import Schema

FIRST_GENERATION = 1

_GENERATIONS = """CREATE TABLE generations (
    generation INTEGER PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('building', 'ready', 'live', 'retired')),
    ledger_mark TEXT
)"""
_TRACKING = """CREATE TABLE tracking (
    application_name TEXT PRIMARY KEY,
    notification_id INTEGER NOT NULL
) WITHOUT ROWID"""


def _tables(generation: int) -> tuple[str, ...]:
    """One generation's tables. Times are microseconds since 1970 UTC; figures are exact decimal text."""
    g = generation
    return (
        f"CREATE TABLE meters_{g} (meter INTEGER PRIMARY KEY, event_name TEXT NOT NULL UNIQUE, rules TEXT NOT NULL)",
        f"CREATE TABLE customers_{g} (customer INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
        f"""CREATE TABLE usage_{g} (
            meter INTEGER NOT NULL,
            customer INTEGER NOT NULL,
            start INTEGER NOT NULL,
            dimensions TEXT NOT NULL,
            first_position INTEGER NOT NULL,
            usages BLOB NOT NULL,
            PRIMARY KEY (meter, customer, start, dimensions, first_position)
        ) WITHOUT ROWID""",
        f"""CREATE TABLE totals_{g} (
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
            PRIMARY KEY (meter, bucket_seconds, start, customer, dimensions)
        ) WITHOUT ROWID""",
        f"INSERT INTO generations VALUES ({g}, 'live', NULL)",
    )


VIEWS = Schema(
    application_id=0x54414C56,  # "TALV"
    version=1,
    statements=(_GENERATIONS, _TRACKING, *_tables(FIRST_GENERATION)),
)


def views_datastore(database: str) -> Datastore:
    """The database of read models: a power cut may take their last pages, which are folded again."""
    return Datastore(database, VIEWS, synchronous="NORMAL", disposable=True)


class SQLiteViews(SQLiteTrackingRecorder):
    """The read models of one ledger, their position tracked in the same transaction as their rows."""

    def __init__(self, datastore: Datastore) -> None:
        super().__init__(datastore)
        self.generation = FIRST_GENERATION
        with datastore.transaction(commit=False):
            pass  # the first connection makes the tables where there are none

    @contextmanager
    def reading(self) -> Generator[SQLiteRows]:
        """Rows to read, in one consistent state."""
        with self.datastore.transaction(commit=False) as cursor:
            yield SQLiteRows(self, cursor)

    @contextmanager
    def writing(self) -> Generator[SQLiteRows]:
        """Rows to read and write, alone; all that is written takes effect together at the end."""
        with self.datastore.transaction(commit=True) as cursor:
            yield SQLiteRows(self, cursor)

    def tracked_position(self, cursor: SQLiteCursor) -> int:
        """The position up to which the ledger is folded in."""
        return self._max_tracking_id(self.tracking_name, cursor) or 0

    def track(self, cursor: SQLiteCursor, position: int) -> None:
        """Advance the position; refused by the library unless it grows."""
        self._insert_tracking(cursor, Tracking(self.tracking_name, position))

    @property
    def tracking_name(self) -> str:
        """Under which name the position is tracked."""
        return f"generation {self.generation}"

    def close(self) -> None:
        """Let the file go."""
        self.datastore.close()
