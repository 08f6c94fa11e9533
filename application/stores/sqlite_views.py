"""The read models on SQLite, in a file of their own beside the ledger. Deleting it loses nothing."""

import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from eventsourcing.persistence import Tracking
from eventsourcing.sqlite import SQLiteCursor, SQLiteTrackingRecorder
from uuid_utils import uuid7

from ...domain.errors import NoGeneration
from ...domain.rules import Rules
from ...projections.generations import Generation, GenerationState
from ...projections.rows import Fold, Views
from .exclusion import exclusion
from .holder import PATIENCE_SECONDS, described, refused
from .row_codec import decode_pinned, decode_revisions, encode_pinned, encode_revisions
from .scratch import scratch_folder
from .sqlite import Datastore
from .sqlite_rows import SQLiteRows
from .sqlite_schema import Schema
from .stored_rows import tables

VIEWS = Schema(
    application_id=0x54414C56,  # "TALV"
    version=5,
    is_disposable=True,
    statements=(
        """CREATE TABLE generations (
            generation INTEGER PRIMARY KEY AUTOINCREMENT,
            state TEXT NOT NULL CHECK (state IN ('building', 'ready', 'live', 'retired')),
            pinned TEXT NOT NULL,
            revisions TEXT NOT NULL,
            ledger_mark TEXT
        )""",
        "CREATE UNIQUE INDEX only_one_is_live ON generations (state) WHERE state = 'live'",
        """CREATE TABLE tracking (
            application_name TEXT PRIMARY KEY,
            notification_id INTEGER NOT NULL
        ) WITHOUT ROWID""",
        "CREATE TABLE holder (holder TEXT NOT NULL)",
    ),
)


def _schema(generation: int) -> tuple[str, ...]:
    """One generation's tables. Times are microseconds since 1970 UTC; figures are exact decimal text."""
    meters, customers, usage, totals = tables(generation)
    return (
        f"""CREATE TABLE {meters} (
            meter INTEGER PRIMARY KEY,
            event_name TEXT NOT NULL UNIQUE,
            rules TEXT NOT NULL,
            history TEXT NOT NULL
        )""",
        f"CREATE TABLE {customers} (customer INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
        f"""CREATE TABLE {usage} (
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
            usages BLOB NOT NULL,
            PRIMARY KEY (meter, customer, start, dimensions, first_position)
        )""",  # with rowids, as rows are long: they are written one after another, and not into the midst of others
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
            PRIMARY KEY (meter, bucket_seconds, start, customer, dimensions)
        ) WITHOUT ROWID""",
    )


def views_datastore(database: str) -> Datastore:
    """The database of read models: a power cut may take their last pages, which are folded again."""
    return Datastore(database, VIEWS, synchronous="NORMAL")


class SQLiteViews(SQLiteTrackingRecorder):
    """The read models of one ledger, in generations, of which one is live and answers.

    Each generation's position is tracked in the same transaction as its rows. `current_rules` tells the rules that
    changed meters are to be folded under when the first generation is begun.
    """

    def __init__(self, datastore: Datastore, current_rules: Callable[[], Mapping[str, Rules]]) -> None:
        super().__init__(datastore)
        self.current_rules = current_rules
        self._one_thread = threading.Lock()
        with datastore.transaction(commit=False):
            pass  # the first connection makes the tables where there are none

    # --- the live generation ----------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Generator[SQLiteRows]:
        """Rows of the live generation to read, in one consistent state."""
        with self._reading() as (cursor, live):
            yield SQLiteRows(self, cursor, live)

    @contextmanager
    def writing(self) -> Generator[SQLiteRows]:
        """Rows of the live generation to read and write, alone; all takes effect together at the end."""
        pinned: Mapping[str, Rules] = {} if self._has_live() else self.current_rules()
        with self.datastore.transaction(commit=True) as cursor:
            live = _live(cursor)
            if live is None:
                live = _begin(cursor, "live", pinned)
            yield SQLiteRows(self, cursor, live)

    def take_page(self, fold: Fold) -> int:
        """Write the next page that `fold` gives for the live generation; give the position reached."""
        return _take_page(self, self._one_thread, fold)

    def marks(self) -> list[tuple[int, str | None]]:
        """Of each generation, the position up to which the ledger is folded in, and the mark of the event there."""
        with self._reading() as (cursor, _):
            cursor.execute(f"SELECT notification_id, ledger_mark FROM {_WITH_POSITIONS}")
            return [(position or 0, mark) for position, mark in cursor.fetchall()]

    def begin_anew(self) -> None:
        """Do away with all generations, and begin one without rows."""
        pinned = self.current_rules()
        with self.datastore.transaction(commit=True) as cursor:
            for generation in _all(cursor):
                _drop(cursor, generation.number)
            _begin(cursor, "live", pinned)

    # --- all generations --------------------------------------------------------------------------

    def generations(self) -> list[Generation]:
        """All generations, in the order that they were begun in."""
        with self._reading() as (cursor, _):
            return _all(cursor)

    def begin(self, pinned: Mapping[str, Rules]) -> Generation:
        """Begin another generation, without rows, in the state `building`."""
        with self.datastore.transaction(commit=True) as cursor:
            number = _begin(cursor, "building", pinned)
        return Generation(number, GenerationState.BUILDING, pinned, {}, 0)

    def of(self, generation: int) -> Views:
        """The rows of one generation, whether live or not. They raise NoGeneration once it is dropped."""
        return _GenerationViews(self, generation)

    def set_ready(self, generation: int, revisions: Mapping[str, int]) -> None:
        """A generation is wholly built, beside these revisions of the rules in force."""
        with self.datastore.transaction(commit=True) as cursor:
            _check(cursor, generation)
            cursor.execute(
                "UPDATE generations SET revisions = ?, state = CASE state WHEN 'building' THEN 'ready' ELSE state END"
                " WHERE generation = ?",
                (encode_revisions(revisions), generation),
            )

    def make_live(self, generation: int, revisions: Mapping[str, int]) -> None:
        """Let a generation answer from now on, and the one that did so far retire, both at once.

        The one that retires is kept beside these revisions of the rules in force.
        """
        with self.datastore.transaction(commit=True) as cursor:
            _check(cursor, generation)
            cursor.execute(
                "UPDATE generations SET state = 'retired', revisions = ? WHERE state = 'live'",
                (encode_revisions(revisions),),
            )
            cursor.execute("UPDATE generations SET state = 'live' WHERE generation = ?", (generation,))

    def drop(self, generation: int) -> None:
        """Do away with a generation that isn't live."""
        with self.datastore.transaction(commit=True) as cursor:
            _check(cursor, generation)
            _drop(cursor, generation)

    @contextmanager
    def alone(self, doing: str, *, wait_seconds: float = PATIENCE_SECONDS) -> Generator[None]:
        """Be the only one to build, compare or promote generations. Raises RebuildRunning, which says who is.

        It waits for a little, as readers may be following changed rules, which takes them moments.
        """
        with exclusion(self.datastore.pool.db_name, wait_seconds=wait_seconds) as held:
            if not held:
                raise refused(self._holder())
            with self.datastore.transaction(commit=True) as cursor:
                cursor.execute("DELETE FROM holder")
                cursor.execute("INSERT INTO holder VALUES (?)", (described(doing),))
            yield

    def _holder(self) -> str | None:
        with self.datastore.transaction(commit=False) as cursor:
            cursor.execute("SELECT holder FROM holder")
            row = cursor.fetchone()
        return None if row is None else row[0]

    @contextmanager
    def scratch(self, pinned: Mapping[str, Rules]) -> Generator["SQLiteViews"]:
        """Read models of their own, without rows, which are gone at the end; beside these, where there is room."""
        database = self.datastore.pool.db_name
        with ExitStack() as kept:
            if database.startswith("file:"):
                place = f"file:{uuid7()}?mode=memory&cache=shared"
            else:
                place = str(kept.enter_context(scratch_folder(Path(database))) / "scratch.views")
            views = SQLiteViews(views_datastore(place), lambda: pinned)
            kept.callback(views.close)
            yield views

    # --- positions --------------------------------------------------------------------------------

    def tracked_position(self, cursor: SQLiteCursor, generation: int) -> int:
        """The position up to which the ledger is folded into a generation."""
        return self._max_tracking_id(_tracking_name(generation), cursor) or 0

    def track(self, cursor: SQLiteCursor, generation: int, position: int) -> None:
        """Advance a generation's position; refused by the library unless it grows."""
        self._insert_tracking(cursor, Tracking(_tracking_name(generation), position))

    def close(self) -> None:
        """Let the file go."""
        self.datastore.close()

    def rows(self, cursor: SQLiteCursor, generation: int) -> SQLiteRows:
        """The rows of one generation inside a transaction. Raises NoGeneration."""
        _check(cursor, generation)
        return SQLiteRows(self, cursor, generation)

    @contextmanager
    def _reading(self) -> Generator[tuple[SQLiteCursor, int]]:
        """One transaction to read in, and the live generation, which is begun where there is none."""
        while True:
            with self.datastore.transaction(commit=False) as cursor:
                live = _live(cursor)
                if live is not None:
                    yield cursor, live
                    return
            with self.writing():
                pass

    def _has_live(self) -> bool:
        with self.datastore.transaction(commit=False) as cursor:
            return _live(cursor) is not None


class _GenerationViews:
    """The rows of one generation."""

    def __init__(self, views: SQLiteViews, generation: int) -> None:
        self._views = views
        self._generation = generation
        self.reading = partial(self._rows, commit=False)
        self.writing = partial(self._rows, commit=True)
        self._one_thread = threading.Lock()

    def take_page(self, fold: Fold) -> int:
        """Write the next page that `fold` gives for the generation; give the position reached."""
        return _take_page(self, self._one_thread, fold)

    @contextmanager
    def _rows(self, *, commit: bool) -> Generator[SQLiteRows]:
        with self._views.datastore.transaction(commit=commit) as cursor:
            yield self._views.rows(cursor, self._generation)


def _take_page(views: Views, one_thread: threading.Lock, fold: Fold) -> int:
    """Nobody has to wait while a page is folded, only while its rows are written, unless another was faster."""
    with one_thread:  # or each of them would fold the same page
        with views.reading() as rows:
            before = rows.generation, rows.position()
            write = fold(rows)
        with views.writing() as rows:
            if write is not None and (rows.generation, rows.position()) == before:
                write(rows)
            return rows.position()


_WITH_POSITIONS = "generations LEFT JOIN tracking ON application_name = 'generation ' || generation"


def _live(cursor: SQLiteCursor) -> int | None:
    cursor.execute("SELECT generation FROM generations WHERE state = 'live'")
    row = cursor.fetchone()
    return None if row is None else row[0]


def _all(cursor: SQLiteCursor) -> list[Generation]:
    cursor.execute(
        f"SELECT generation, state, pinned, revisions, notification_id FROM {_WITH_POSITIONS} ORDER BY generation"
    )
    return [
        Generation(number, GenerationState(state), decode_pinned(pinned), decode_revisions(revisions), position or 0)
        for number, state, pinned, revisions, position in cursor.fetchall()
    ]


def _begin(cursor: SQLiteCursor, state: str, pinned: Mapping[str, Rules]) -> int:
    cursor.execute(
        "INSERT INTO generations (state, pinned, revisions) VALUES (?, ?, '{}')", (state, encode_pinned(pinned))
    )
    number = cursor.lastrowid
    for statement in _schema(number):
        cursor.execute(statement)
    return number


def _drop(cursor: SQLiteCursor, generation: int) -> None:
    for table in tables(generation):
        cursor.execute(f"DROP TABLE {table}")
    cursor.execute("DELETE FROM generations WHERE generation = ?", (generation,))
    cursor.execute("DELETE FROM tracking WHERE application_name = ?", (_tracking_name(generation),))


def _check(cursor: SQLiteCursor, generation: int) -> None:
    cursor.execute("SELECT 1 FROM generations WHERE generation = ?", (generation,))
    if cursor.fetchone() is None:
        raise NoGeneration(
            f"There is no generation {generation} of the read models; 'tallybook projection status' lists them.",
            field="generation",
            value=generation,
        )


def _tracking_name(generation: int) -> str:
    return f"generation {generation}"
