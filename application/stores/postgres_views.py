"""The read models on PostgreSQL, in a schema of their own. Dropping it loses nothing."""

import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

from eventsourcing.persistence import IntegrityError, Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from psycopg import Connection
from psycopg.errors import LockNotAvailable
from psycopg.rows import dict_row

from ...domain.errors import LedgerUnavailable, NoGeneration, NotPermitted
from ...domain.rules import Rules
from ...projections.generations import Generation, GenerationState
from ...projections.rows import Fold, Views
from .holder import PATIENCE_SECONDS, described, refused
from .postgres import Datastore, Mode, OneConnection
from .postgres_errors import TablesGone, translated
from .postgres_rows import PostgresRows
from .postgres_schema import lock_number
from .postgres_tables import GENERATION, VIEWS
from .row_codec import decode_pinned, decode_revisions, encode_pinned, encode_revisions
from .store import MADE_ANEW, NothingProjected
from .stored_rows import tables

Answer = TypeVar("Answer")
_TRIES = 10
_WITH_POSITIONS = (
    "{schema}.generations LEFT JOIN {schema}.tracking ON application_name = 'generation ' || generation::text"
)


class PostgresViews(PostgresTrackingRecorder):
    """The read models of one ledger, in generations, of which one is live and answers.

    Each generation's position is tracked in the same transaction as its rows. `current_rules` tells the rules that
    changed meters are to be folded under when the first generation is begun.
    """

    def __init__(self, datastore: Datastore, current_rules: Callable[[], Mapping[str, Rules]]) -> None:
        super().__init__(datastore, tracking_table_name="tracking")
        self.store: Datastore = datastore
        self.prefix = f"{datastore.named('{schema}').as_string()}."
        self.current_rules = current_rules
        self._turn = threading.Lock()
        self._version_and_live = datastore.named(
            "SELECT version, (SELECT generation FROM {schema}.generations WHERE state = 'live')"
            " FROM {schema}.read_models"
        )

    # --- the live generation ----------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Generator[PostgresRows]:
        """Rows of the live generation to read, in one consistent state."""
        with self.at("read", None) as rows:
            yield rows

    @contextmanager
    def writing(self) -> Generator[PostgresRows]:
        """Rows of the live generation to read and write, alone; all takes effect together at the end."""
        with self.at("write", None) as rows:
            yield rows

    def take_page(self, fold: Fold, generation: int | None = None) -> int:
        """Write the next page that `fold` gives for one generation, or the live one; give the position reached.

        Who folds is alone with the generation's rows all the while. A page whose connection is lost is folded again.
        """

        def taken() -> int:
            with self.at("write", generation) as rows:
                write = fold(rows)
                if write is not None:
                    write(rows)
                return rows.position()

        return self.store.persist(taken)

    def marks(self) -> list[tuple[int, str | None]]:
        """Of each generation, the position up to which the ledger is folded in, and the mark of the event there."""
        try:
            with self._session("read") as connection:
                statement = self.store.named(f"SELECT notification_id, ledger_mark FROM {_WITH_POSITIONS}")
                return [(position or 0, mark) for position, mark in connection.execute(statement).fetchall()]
        except NotPermitted:
            return []  # who may only record has no read models to answer from

    def begin_anew(self) -> None:
        """Do away with all generations, and begin one without rows."""
        pinned = self.current_rules()
        with self._session("write") as connection:
            self._lock_to_begin(connection)
            for generation in self._all(connection):
                self._drop(connection, generation.number)
            self._begin(connection, "live", pinned)

    # --- all generations --------------------------------------------------------------------------

    def generations(self) -> list[Generation]:
        """All generations, in the order that they were begun in."""
        with self.reading():
            pass  # one is live, or is begun
        with self._session("read") as connection:
            return self._all(connection)

    def begin(self, pinned: Mapping[str, Rules]) -> Generation:
        """Begin another generation, without rows, in the state `building`."""
        with self._session("write") as connection:
            number = self._begin(connection, "building", pinned)
        return Generation(number, GenerationState.BUILDING, pinned, {}, 0)

    def of(self, generation: int) -> Views:
        """The rows of one generation, whether live or not. They raise NoGeneration once it is dropped."""
        return _GenerationViews(self, generation)

    def set_ready(self, generation: int, revisions: Mapping[str, int]) -> None:
        """A generation is wholly built, beside these revisions of the rules in force."""
        with self._session("write") as connection:
            self.check(connection, generation)
            connection.execute(
                self.store.named(
                    "UPDATE {schema}.generations SET revisions = %s,"
                    " state = CASE state WHEN 'building' THEN 'ready' ELSE state END WHERE generation = %s"
                ),
                (encode_revisions(revisions), generation),
            )
            for table in tables(generation):  # or the first questions would be planned as if it were empty
                connection.execute(self.store.named("ANALYZE {schema}.{table}", table=table))

    def make_live(self, generation: int, revisions: Mapping[str, int]) -> None:
        """Let a generation answer from now on, and the one that did so far retire, both at once.

        The one that retires is kept beside these revisions of the rules in force.
        """
        with self._session("write") as connection:
            self.check(connection, generation)
            connection.execute(
                self.store.named(
                    "UPDATE {schema}.generations SET state = 'retired', revisions = %s WHERE state = 'live'"
                ),
                (encode_revisions(revisions),),
            )
            connection.execute(
                self.store.named("UPDATE {schema}.generations SET state = 'live' WHERE generation = %s"), (generation,)
            )

    def drop(self, generation: int) -> None:
        """Do away with a generation that isn't live."""
        with self._session("write") as connection:
            self.check(connection, generation)
            self._drop(connection, generation)

    @contextmanager
    def alone(self, doing: str, *, wait_seconds: float = PATIENCE_SECONDS) -> Generator[None]:
        """Be the only one to build, compare or promote generations. Raises RebuildRunning, which says who is.

        It waits for a little, as readers may be following changed rules, which takes them moments. The server lets go
        of the lock when its holder's connection ends, however that ends. Of this program's threads one at a time waits
        for it, as each needs a connection for that.
        """
        deadline = time.monotonic() + wait_seconds
        if not self._turn.acquire(timeout=wait_seconds):
            raise refused(self._holder())
        with ExitStack() as turn:
            turn.callback(self._turn.release)
            connection = turn.enter_context(self.store.outside_the_pool())
            with translated(self.store.place):
                connection.execute("BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0")
                left = deadline - time.monotonic()
                held = _is_locked(connection, lock_number(self.store.locks, "generations"), left)
            if not held:
                raise refused(self._holder())
            with self._session("write") as writing:
                writing.execute(self.store.named("DELETE FROM {schema}.holder"))
                writing.execute(self.store.named("INSERT INTO {schema}.holder VALUES (%s)"), (described(doing),))
            yield

    def _holder(self) -> str | None:
        with self._session("read") as connection:
            row = connection.execute(self.store.named("SELECT holder FROM {schema}.holder")).fetchone()
        return None if row is None else row[0]

    @contextmanager
    def scratch(self, pinned: Mapping[str, Rules]) -> Generator["PostgresViews"]:
        """Read models of their own, without rows, in temporary tables, which are gone at the end."""
        views = PostgresViews(OneConnection(self.store.settings), lambda: pinned)
        try:
            VIEWS.make(views.store)
            yield views
        finally:
            views.close()

    # --- rows and positions -----------------------------------------------------------------------

    def rows(self, connection: Connection[Any], generation: int) -> PostgresRows:
        """The rows of one generation inside a transaction. Raises NoGeneration."""
        self.check(connection, generation)
        return self._locked(connection, generation)

    def _locked(self, connection: Connection[Any], generation: int) -> PostgresRows:
        """The rows of a generation that nobody drops until the transaction ends.

        They are found by indexes: a plan that was made while there were few is kept when there are many.
        """
        lock = self.store.named(
            "LOCK TABLE {schema}.{meters}, {schema}.{customers}, {schema}.{usage}, {schema}.{totals}"
            " IN ACCESS SHARE MODE; SET LOCAL enable_seqscan = off",
            **_names(generation),
        )
        with translated(self.store.place):
            connection.execute(lock)
        return PostgresRows(self, connection, generation)

    def tracked_position(self, connection: Connection[Any], generation: int) -> int:
        """The position up to which the ledger is folded into a generation."""
        with connection.cursor(row_factory=dict_row) as cursor:
            return self._max_tracking_id(_tracking_name(generation), cursor) or 0

    def track(self, connection: Connection[Any], generation: int, position: int) -> None:
        """Advance a generation's position; refused by the library unless it grows."""
        with connection.cursor(row_factory=dict_row) as cursor:
            self._insert_tracking(cursor, Tracking(_tracking_name(generation), position))

    def check(self, connection: Connection[Any], generation: int) -> None:
        """Raise NoGeneration unless there is such a generation."""
        statement = self.store.named("SELECT FROM {schema}.generations WHERE generation = %s")
        if connection.execute(statement, (generation,)).fetchone() is None:
            raise NoGeneration(
                f"There is no generation {generation} of the read models; 'tallybook projection status' lists them.",
                field="generation",
                value=generation,
            )

    def close(self) -> None:
        """Let the connections go."""
        self.store.close()

    # --- transactions -----------------------------------------------------------------------------

    @contextmanager
    def at(self, mode: Mode, generation: int | None) -> Generator[PostgresRows]:
        """Rows of one generation, or of the live one where None, which is begun where there is none."""
        for _ in range(_TRIES):
            with self._prepared(mode, partial(self._rows_at, mode, generation)) as rows:
                if rows is not None:
                    yield rows
                    return
            with _told_as_nothing_projected():
                self._begin_live()
        raise LedgerUnavailable(f"The read models are done away with again and again. {MADE_ANEW}")

    def _rows_at(
        self, mode: Mode, generation: int | None, connection: Connection[Any], live: int | None
    ) -> PostgresRows | None:
        """Rows of one generation, or of the live one where None; None where there is none."""
        while True:
            found = live if generation is None else generation
            if found is None:
                return None
            if mode == "write":
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (self._lock_to_fold(found),))
                live = self._live(connection)
            if generation is not None:
                return self.rows(connection, found)
            if live == found:  # or another was promoted while this waited
                return self._locked(connection, found)

    @contextmanager
    def _session(self, mode: Mode) -> Generator[Connection[Any]]:
        """A transaction over the tables of all generations."""
        with self._prepared(mode, lambda connection, _: connection) as connection:
            yield connection

    @contextmanager
    def _prepared(self, mode: Mode, prepare: Callable[[Connection[Any], int | None], Answer]) -> Generator[Answer]:
        """A transaction over the tables, which are made where there are none, and what `prepare` makes of it.

        It is told the live generation too.
        """

        def checked(connection: Connection[Any]) -> Answer:
            row = connection.execute(self._version_and_live).fetchone()
            if row is None or row[0] != VIEWS.version:
                raise TablesGone(f"The tables of the read models are of another version. {MADE_ANEW}")
            if mode == "write":  # told before anything is folded that couldn't be kept
                connection.execute(self.store.named("LOCK TABLE {schema}.tracking IN ROW EXCLUSIVE MODE"))
            return prepare(connection, row[1])

        with ExitStack() as session:
            prepared = self._entered(session, mode, checked)
            try:
                with translated(self.store.place):
                    yield prepared
            except IntegrityError as error:
                raise LedgerUnavailable(f"The read models are damaged: {error}. {MADE_ANEW}") from error

    def _entered(self, session: ExitStack, mode: Mode, prepare: Callable[[Connection[Any]], Answer]) -> Answer:
        tries = 0
        while True:
            try:
                return session.enter_context(self.store.prepared(mode, prepare))
            except TablesGone:
                tries += 1
                if tries > _TRIES:
                    raise
                with _told_as_nothing_projected():
                    VIEWS.ensure(self.store)

    def _begin_live(self) -> None:
        pinned = self.current_rules()
        # Unless another was faster, or has dropped all tables again.
        with suppress(IntegrityError, TablesGone), self.store.session("write") as connection:
            self._lock_to_begin(connection)
            if self._live(connection) is None:
                self._begin(connection, "live", pinned)

    def _lock_to_begin(self, connection: Connection[Any]) -> None:
        """One at a time begins the live generation: what the others then see is there to stay."""
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (lock_number(self.store.locks, "beginning"),))

    def _live(self, connection: Connection[Any]) -> int | None:
        statement = self.store.named("SELECT generation FROM {schema}.generations WHERE state = 'live'")
        row = connection.execute(statement).fetchone()
        return None if row is None else row[0]

    def _all(self, connection: Connection[Any]) -> list[Generation]:
        columns = "generation, state, pinned, revisions, notification_id"
        rows = connection.execute(self.store.named(f"SELECT {columns} FROM {_WITH_POSITIONS} ORDER BY generation"))
        return [
            Generation(
                number, GenerationState(state), decode_pinned(pinned), decode_revisions(revisions), position or 0
            )
            for number, state, pinned, revisions, position in rows.fetchall()
        ]

    def _begin(self, connection: Connection[Any], state: str, pinned: Mapping[str, Rules]) -> int:
        row = connection.execute(
            self.store.named(
                "INSERT INTO {schema}.generations (state, pinned, revisions) VALUES (%s, %s, %s) RETURNING generation"
            ),
            (state, encode_pinned(pinned), encode_revisions({})),
        ).fetchone()
        assert row is not None
        for statement in GENERATION:
            connection.execute(self.store.named(statement, **_names(row[0])))
        return row[0]

    def _drop(self, connection: Connection[Any], generation: int) -> None:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (self._lock_to_fold(generation),))
        for table in tables(generation):
            connection.execute(self.store.named("DROP TABLE {schema}.{table}", table=table))
        for statement, which in (
            ("DELETE FROM {schema}.generations WHERE generation = %s", generation),
            ("DELETE FROM {schema}.tracking WHERE application_name = %s", _tracking_name(generation)),
        ):
            connection.execute(self.store.named(statement), (which,))

    def _lock_to_fold(self, generation: int) -> int:
        return lock_number(self.store.locks, f"generation {generation}")


class _GenerationViews:
    """The rows of one generation."""

    def __init__(self, views: PostgresViews, generation: int) -> None:
        self.reading = partial(views.at, "read", generation)
        self.writing = partial(views.at, "write", generation)
        self.take_page = partial(views.take_page, generation=generation)


@contextmanager
def _told_as_nothing_projected() -> Generator[None]:
    try:
        yield
    except NotPermitted as error:
        raise NothingProjected(error.message) from error


def _names(generation: int) -> dict[str, str]:
    return dict(zip(("meters", "customers", "usage", "totals"), tables(generation), strict=True))


def _tracking_name(generation: int) -> str:
    return f"generation {generation}"


def _is_locked(connection: Connection[Any], number: int, wait_seconds: float) -> bool:
    """Take an advisory lock until the transaction ends; whether it could be had in time."""
    connection.execute(f"SET LOCAL lock_timeout = {max(round(wait_seconds * 1000), 1)}".encode())
    try:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (number,))
    except LockNotAvailable:
        return False
    return True
