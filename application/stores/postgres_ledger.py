"""The ledger on PostgreSQL: stored events in one total order, never changed."""

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from typing import Any

from eventsourcing.persistence import Notification, StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder
from psycopg import Connection
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Identifier

from ...domain.errors import LedgerUnavailable
from ...projections.rows import OTHER, PAGE_PART, USAGE_RECORDED, LedgerEvent, StoredPage
from .kept import Beside, ordered
from .postgres import DURABLE, Datastore
from .postgres_errors import TooLong, translated
from .postgres_kept import PostgresKeeper
from .postgres_schema import Schema
from .store import PlacedRow, StoredBytes, StoredRow, StreamMoved, TransientFailure

LEDGER = Schema(
    kind="ledger",
    version=1,
    statements=(
        """CREATE TABLE {schema}.stored_events (
            position BIGINT PRIMARY KEY CHECK (position > 0),
            originator_id TEXT COLLATE "C" NOT NULL,
            originator_version BIGINT NOT NULL,
            topic TEXT NOT NULL,
            state BYTEA NOT NULL,
            UNIQUE (originator_id, originator_version)
        )""",
        """CREATE FUNCTION {schema}.stored_events_are_never_changed() RETURNS trigger LANGUAGE plpgsql
            SET search_path = pg_catalog, pg_temp AS $$
            BEGIN
                RAISE EXCEPTION 'stored events are never %', CASE TG_OP WHEN 'UPDATE' THEN 'changed' ELSE 'deleted' END
                    USING ERRCODE = 'integrity_constraint_violation';
            END $$""",
        """CREATE TRIGGER stored_events_are_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON {schema}.stored_events
            FOR EACH STATEMENT EXECUTE FUNCTION {schema}.stored_events_are_never_changed()""",
        # Nobody's search_path puts operators of their own in the place of those that these functions use.
        # Positions go on from those that are there, without gaps, also for who doesn't take the lock: what is not
        # committed yet can't be seen here, so nothing can be stored after it, and no reader passes over it.
        """CREATE FUNCTION {schema}.stored_events_are_only_appended() RETURNS trigger LANGUAGE plpgsql
            SET search_path = pg_catalog, pg_temp AS $$
            DECLARE first bigint; last bigint; many bigint; goes_on boolean;
            BEGIN
                SELECT min(position), max(position), count(*) INTO first, last, many FROM appended;
                EXECUTE format('SELECT EXISTS (SELECT FROM %I.stored_events WHERE position = $1)', TG_TABLE_SCHEMA)
                    INTO goes_on USING first - 1;
                IF last - first + 1 <> many OR first > 1 AND NOT goes_on THEN
                    RAISE EXCEPTION 'stored events are only appended, each once'
                        USING ERRCODE = 'integrity_constraint_violation';
                END IF;
                RETURN NULL;
            END $$""",
        """CREATE TRIGGER stored_events_are_only_appended AFTER INSERT ON {schema}.stored_events
            REFERENCING NEW TABLE AS appended
            FOR EACH STATEMENT EXECUTE FUNCTION {schema}.stored_events_are_only_appended()""",
        # Whoever appends locks this table, which holds nothing: see docs/decisions/0009.
        "CREATE TABLE {schema}.appending ()",
    ),
)
_TYPES = "text integer text blob"
_COLUMNS = "position, originator_id, originator_version, topic, state"


class PostgresLedgerRecorder(PostgresApplicationRecorder):
    """The library's recorder in its table-lock mode, over a table whose positions have no gaps."""

    def __init__(self, datastore: Datastore) -> None:
        refuse_database_functions()
        with datastore.outside_the_pool():
            pass  # what is wrong with its parameters is told at once: a pool would try again
        super().__init__(datastore)
        self.store: Datastore = datastore
        self._keeper: PostgresKeeper | None = None
        self.channel_name = f"{datastore.schema}.stored_events"
        lock = datastore.named("LOCK TABLE {schema}.appending IN EXCLUSIVE MODE")
        self.lock_table_statements = [lock]
        self._lock = f"{DURABLE}; {lock.as_string()}"
        self._notify = SQL("NOTIFY {}").format(Identifier(self.channel_name)).as_string()
        # A batch of uses is one statement, so that the lock is held for as few answers of the server as can be. What is
        # the same for all of them is given once: it would take longer to send than to store.
        self._insert = datastore.named(
            "WITH appended AS ("
            f"INSERT INTO {{schema}}.stored_events ({_COLUMNS})"
            " SELECT head.position + given.place, given.stream, %b::bigint, %b::text, given.state"
            " FROM (SELECT coalesce(max(position), 0) AS position FROM {schema}.stored_events) AS head,"
            " unnest(%b::text[], %b::bytea[])"  # binary: twice as fast, and as fast as COPY
            " WITH ORDINALITY AS given (stream, state, place)"
            " WHERE NOT EXISTS (SELECT FROM {schema}.stored_events JOIN unnest(%b::text[], %b::bigint[])"
            " AS unmoved (stream, version) ON originator_id = stream AND originator_version = version + 1)"
            " RETURNING position) SELECT max(position), count(*) FROM appended"
        )
        LEDGER.ensure(datastore)

    # --- what the library asks for ------------------------------------------------------------------

    def create_table(self) -> None:
        """The table is there, or was made, when the recorder was."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int]:
        """Store events in one transaction; give their positions."""
        return self.insert_rows([(str(s.originator_id), s.originator_version, s.topic, s.state) for s in stored_events])

    def select_events(
        self,
        originator_id: object,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """Events of one stream, by version."""
        rows = self.store.select(
            self.store.named(
                "SELECT originator_id, originator_version, topic, state FROM {schema}.stored_events"
                " WHERE originator_id = %s AND originator_version > coalesce(%s, originator_version - 1)"
                " AND originator_version <= coalesce(%s, originator_version)"
                f" ORDER BY originator_version {'DESC' if desc else ''} LIMIT %s"
            ),
            (str(originator_id), gt, lte, limit),
        )
        return [StoredEvent(*row) for row in rows]

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
        return self._notifications(
            "WHERE position >= %s AND position <= coalesce(%s, position) AND (%s OR topic = ANY(%s))"
            " ORDER BY position LIMIT %s",
            (first, stop, not topics, list(topics), limit),
        )

    def max_notification_id(self) -> int | None:
        """The position of the newest event; None in an empty ledger."""
        return self.head() or None

    # --- what the ledger asks for -------------------------------------------------------------------

    def head(self) -> int:
        """The position of the newest event; 0 in an empty ledger."""
        return self.store.select(self.store.named(_HEAD))[0][0]

    def page(self, after: int, limit: int) -> Sequence[LedgerEvent]:
        """Up to `limit` events after the position `after`, in order."""
        return self.store.select(self.store.named(_PAGE), (after, limit), binary=True)

    @property
    def is_read_beside(self) -> bool:
        """It is."""
        return True

    def page_at_once(self, after: int, limit: int) -> StoredPage:
        """Up to `limit` events after the position `after`, put together by PostgreSQL."""
        at_once, others = self.store.named(_USES_AT_ONCE), self.store.named(_OTHERS)
        asked = {"after": after, "until": after + limit, "longest": LONGEST_PART}
        parts: list[tuple[Any, int]]
        try:
            parts = self.store.select(at_once, asked, binary=True)
        except TooLong:  # for one value
            parts = [(None, after)]
        if any(part is None for part, _ in parts):
            return StoredPage(b"", self.store.select(others, (after, after + limit), binary=True), after)
        parts.sort(key=itemgetter(1))  # as they come; but no ORDER BY says so, which would copy all of them once more
        uses, last = b"\n".join([part for part, _ in parts]), parts[-1][1] if parts else after
        found = self.store.select(others, (after, last), binary=True) if OTHER in uses else ()
        return StoredPage(uses, found, last)

    def insert_rows(
        self,
        rows: Sequence[StoredRow],
        unless_moved: Mapping[str, int] | None = None,
        beside: Beside | None = None,
    ) -> Sequence[int]:
        """Store rows in one transaction; give their positions.

        Raises the library's IntegrityError, with nothing stored, where one is there already; and StreamMoved where a
        stream has grown past its version in `unless_moved`. Where the connection is lost while it is being committed,
        the ledger is asked whether it has them. Given the positions, `beside` tells what is kept in the same
        transaction: it is there if they are. Raises AlreadyKept, with nothing stored.
        """
        keeper = None if beside is None else self.keeper()
        if keeper is not None and beside is not None and not rows:
            keeper.change(add=beside(()))
            return ()

        def inserted() -> Sequence[int]:
            positions: Sequence[int] = ()
            try:
                with self.store.session("write", self._lock, self._notify) as connection:
                    positions = self._append(connection, rows, unless_moved or {})
                    if keeper is not None and beside is not None:
                        keeper.insert(connection, ordered(beside(positions)))
            except TransientFailure:
                if not positions or not self._has(rows, positions):
                    raise
            return positions

        return self.store.persist(inserted)

    def keeper(self) -> PostgresKeeper:
        """What is kept beside the events. Its table is made where there is none. Raises NotPermitted."""
        if self._keeper is None:
            self._keeper = PostgresKeeper(self.store)
        return self._keeper

    @contextmanager
    def alone(self) -> Generator["PostgresLedgerAlone"]:
        """Read and append while nobody else can append; what is appended takes effect at the end."""
        with self.store.session("write", self._lock, self._notify) as connection:
            yield PostgresLedgerAlone(self, connection)

    def insert_rows_with(self, connection: Connection[Any], rows: Sequence[StoredRow]) -> Sequence[int]:
        """Store rows inside a transaction that holds the lock; give their positions."""
        return self._append(connection, rows, {})

    def stored_rows(self, first: int, last: int, limit: int) -> Sequence[StoredBytes]:
        """Up to `limit` rows at the positions from `first` to `last`, both included, in order, as they are stored."""
        rows = self.store.select(
            self.store.named(
                f"SELECT {_COLUMNS} FROM {{schema}}.stored_events WHERE position BETWEEN %s AND %s"
                " ORDER BY position LIMIT %s"
            ),
            (first, last, limit),
            binary=True,
        )
        return [
            (position, stream.encode(), str(version).encode(), topic.encode(), state, _TYPES)
            for position, stream, version, topic, state in rows
        ]

    def select_stream_positions(self, originator_id: str) -> Sequence[int]:
        """The positions of a stream's events, in order."""
        statement = "SELECT position FROM {schema}.stored_events WHERE originator_id = %s ORDER BY position"
        return [position for (position,) in self.store.select(self.store.named(statement), (originator_id,))]

    def select_first_events(self, originator_ids: Sequence[str]) -> Sequence[Notification]:
        """The first event, with its position, of each of the streams that exist."""
        return self._notifications("WHERE originator_id = ANY(%s) AND originator_version = 1", (list(originator_ids),))

    def select_positions(self, positions: Sequence[int]) -> Sequence[PlacedRow]:
        """The events at `positions`, in any order."""
        if not positions:
            return ()
        # As text: for the driver, a list of numbers is more work than all else here.
        wanted = f"{{{','.join(map(str, positions))}}}"
        return self._placed_rows("JOIN unnest(%s::bigint[]) AS wanted (position) USING (position)", (wanted,))

    def select_stream(self, stream: str) -> Sequence[Notification]:
        """The events of one stream, by version."""
        return self._notifications("WHERE originator_id = %s ORDER BY originator_version", (stream,))

    def select_streams(self, prefix: str) -> Sequence[str]:
        """The ids of the streams that begin with `prefix`, in order."""
        statement = (
            "SELECT originator_id FROM {schema}.stored_events"
            " WHERE originator_id >= %s AND originator_id < %s AND originator_version = 1 ORDER BY originator_id"
        )
        return [stream for (stream,) in self.store.select(self.store.named(statement), (prefix, _after(prefix)))]

    def select_under(self, prefix: str) -> Sequence[Notification]:
        """The events of all streams whose ids begin with `prefix`, by stream and version."""
        return self._notifications(
            "WHERE originator_id >= %s AND originator_id < %s ORDER BY originator_id, originator_version",
            (prefix, _after(prefix)),
        )

    def select_newer(self, prefix: str, after: int, limit: int) -> Sequence[Notification]:
        """Up to `limit` events after the position `after` of streams whose ids begin with `prefix`, by position."""
        return self._notifications(  # with the + 0, no index leads through all that was appended since
            "WHERE originator_id >= %s AND originator_id < %s AND position + 0 > %s ORDER BY position + 0 LIMIT %s",
            (prefix, _after(prefix), after, limit),
        )

    @contextmanager
    def listening(self) -> Generator[Callable[[float], None]]:
        """Hear of what is appended from here on: gives what waits for that, or for some seconds at most."""
        with self.store.outside_the_pool() as connection:
            connection.execute(SQL("LISTEN {}").format(Identifier(self.channel_name)))

            def wait(seconds: float) -> None:
                with translated(self.store.place):
                    for _ in connection.notifies(timeout=seconds, stop_after=1):
                        pass

            yield wait

    def close(self) -> None:
        """Let the connections go."""
        self.store.close()

    def _append(
        self, connection: Connection[Any], rows: Sequence[StoredRow], unless_moved: Mapping[str, int]
    ) -> Sequence[int]:
        """Store rows in a transaction that holds the lock; give their positions."""
        last = 0
        unmoved = (list(unless_moved), list(unless_moved.values()))
        with connection.cursor(row_factory=tuple_row) as cursor:
            for (version, topic), alike in groupby(rows, itemgetter(1, 2)):
                streams, _, _, states = map(list, zip(*alike, strict=True))
                found = cursor.execute(self._insert, (version, topic, streams, states, *unmoved)).fetchone()
                assert found is not None
                last, many = found
                if many != len(streams):
                    raise StreamMoved(next(iter(unless_moved)))
        return range(last - len(rows) + 1, last + 1)

    def _has(self, rows: Sequence[StoredRow], positions: Sequence[int]) -> bool:
        """Whether rows are stored at these positions, after their connection was lost while they were being committed.

        With the lock held nobody is still about to store them. The server's own memory of transactions can't be asked:
        after a crash it gives the number of one that was not on disk to another.
        """
        statement = self.store.named(
            "SELECT originator_id, originator_version, topic, state FROM {schema}.stored_events"
            " WHERE position BETWEEN %s AND %s ORDER BY position"
        )

        def stored(connection: Connection[Any]) -> list[StoredRow]:
            with connection.cursor(row_factory=tuple_row) as cursor:
                return cursor.execute(statement, (positions[0], positions[-1])).fetchall()

        try:
            return self.store.attempt("write", stored, self._lock) == list(rows)
        except LedgerUnavailable as error:
            raise LedgerUnavailable(
                f"PostgreSQL on {self.store.place}: the connection was lost, and whether what was being recorded is "
                "stored isn't known. Send it again, with the same identifiers: it counts once."
            ) from error

    def _notifications(self, where: str, params: Sequence[object]) -> Sequence[Notification]:
        rows = self._placed_rows(where, params)
        return [Notification(stream, version, topic, state, at) for at, stream, version, topic, state in rows]

    def _placed_rows(self, which: str, params: Sequence[object]) -> list[PlacedRow]:
        statement = self.store.named(f"SELECT {_COLUMNS} FROM {{schema}}.stored_events {which}")
        return self.store.select(statement, params, binary=True)


class PostgresLedgerAlone:
    """The ledger inside a transaction in which nobody else can append to it."""

    def __init__(self, recorder: PostgresLedgerRecorder, connection: Connection[Any]) -> None:
        self._recorder = recorder
        self._connection = connection

    def head(self) -> int:
        """The position of the newest event; 0 in an empty ledger."""
        return self._select(_HEAD, ())[0][0]

    def page(self, after: int, limit: int) -> Sequence[LedgerEvent]:
        """Up to `limit` events after the position `after`, in order."""
        return self._select(_PAGE, (after, limit))

    def insert_rows(self, rows: Sequence[StoredRow]) -> Sequence[int]:
        """Store rows; give their positions."""
        return self._recorder.insert_rows_with(self._connection, rows)

    def _select(self, statement: str, params: Sequence[object]) -> list[Any]:
        with self._connection.cursor(row_factory=tuple_row, binary=True) as cursor:
            return cursor.execute(self._recorder.store.named(statement), params).fetchall()


_HEAD = "SELECT coalesce(max(position), 0) FROM {schema}.stored_events"
LONGEST_PART = 30_000_000
"""A part of more bytes isn't sent: a page has some thirty, which are held at once."""
# A row for each part: one value of all of them takes twice as long to be sent. In the order of the query inside, which
# PostgreSQL documents: ordered in the aggregate, all would be sorted.
_USES_AT_ONCE = f"""
SELECT CASE WHEN length(uses) <= %(longest)s THEN uses END, last
FROM generate_series(%(after)s::bigint / {PAGE_PART} * {PAGE_PART}, %(until)s::bigint - 1, {PAGE_PART}) AS begin,
LATERAL (
    SELECT
        string_agg(CASE topic WHEN '{USAGE_RECORDED}' THEN state ELSE '\\x{OTHER.hex()}'::bytea END, ','),
        max(position)
    FROM (
        SELECT position, topic, state FROM {{schema}}.stored_events
        WHERE position > greatest(begin, %(after)s) AND position <= least(begin + {PAGE_PART}, %(until)s)
        ORDER BY position
    ) AS part
) AS put_together (uses, last)
WHERE last IS NOT NULL
"""
_OTHERS = f"""
SELECT position, topic, state FROM {{schema}}.stored_events
WHERE position > %s AND position <= %s AND topic <> '{USAGE_RECORDED}' ORDER BY position
"""
_PAGE = "SELECT position, topic, state FROM {schema}.stored_events WHERE position > %s ORDER BY position LIMIT %s"


def refuse_database_functions() -> None:
    """Refuse to start where the library is told to insert by database functions: these take no lock.

    Readers then pass over events that are committed late. Our recorder never uses them; but a program in which they
    are switched on expects what we must not do.
    """
    given = os.environ.get("POSTGRES_ENABLE_DB_FUNCTIONS", "")
    if given.strip().lower() not in ("", "0", "n", "no", "f", "false", "off"):
        raise LedgerUnavailable(
            "POSTGRES_ENABLE_DB_FUNCTIONS is set: that way of storing events takes no lock, and readers miss some of "
            "them. Unset it."
        )


def _after(prefix: str) -> str:
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
