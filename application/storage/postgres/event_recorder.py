"""The stored events of a PostgreSQL ledger: one total order, append only."""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NoReturn

from eventsourcing.persistence import Notification, StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder
from psycopg import Connection, Cursor
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Composed, Identifier

from ....domain.errors import BackupNotSupported, LedgerUnavailable
from ....projections.models import RawPage
from ..key_value import EntriesForPositions, EntryKey, KeyValueEntry, sorted_for_writing
from ..ports import ConcurrentStreamUpdate, EventRow, LockTimeout, PositionedEventRow, RawEventRow, TransientError
from ..recorded_time import MAX_CLOCK_DELAY, in_order_of_time, recorded_at_of
from ..sql_events import EVENT_COLUMNS, SqlEventReader, absent_triggers
from .bulk_read import read_page_bulk
from .connection import FORCE_SYNCHRONOUS_COMMIT, PostgresDatastore
from .errors import translate_errors
from .event_appender import LastEvent, PostgresEventAppender
from .key_value import PostgresKeyValueStore
from .ledger_schema import BEGINNING, LEDGER_SCHEMA, reject_read_models_of_another_ledger
from .monitored_connection import MonitoredConnection
from .pruning import PostgresPruning
from .settings import reject_database_functions

_TYPES = "text integer text blob"
_METER_PREFIX = "meter/"
_RECORDED_PREFIXES = ("event/", _METER_PREFIX)
_ROWS_BY_KEY = (
    "unnest(?::{}[]) AS wanted (key) CROSS JOIN LATERAL (SELECT * FROM {{events}} WHERE {} OFFSET 0) AS stored"
)
"""Finds each row by an index. A plan for `= ANY` or a join that is made while the table is small reads the whole table,
and is used until PostgreSQL analyzes the table, however much is recorded meanwhile."""


class PostgresEventRecorder(PostgresPruning, SqlEventReader, PostgresApplicationRecorder):
    """The library's recorder in its table-lock mode, on a table whose positions have no gaps."""

    def __init__(self, datastore: PostgresDatastore) -> None:
        reject_database_functions()
        datastore.check_connection()
        super().__init__(datastore)
        self.store: PostgresDatastore = datastore
        self._key_value_store: PostgresKeyValueStore | None = None
        self.channel_name = f"{datastore.schema}.stored_events"
        lock = datastore.format_sql("INSERT INTO {schema}.append_lock SELECT WHERE false")  # a trigger takes the lock
        self.lock_table_statements = [lock]
        self._lock_sql = f"{FORCE_SYNCHRONOUS_COMMIT}; {lock.as_string()}"
        self.max_clock_delay: timedelta | None = MAX_CLOCK_DELAY
        self.clock: Callable[[], datetime] | None = None
        self._notify_sql = SQL("NOTIFY {}").format(Identifier(self.channel_name)).as_string()
        reject_read_models_of_another_ledger(datastore)
        LEDGER_SCHEMA.ensure(datastore)
        self._may_read = self._has_read_privilege()
        last_event = datastore.format_sql(
            f"SELECT position, {BEGINNING} FROM {{schema}}.stored_events ORDER BY position DESC LIMIT 1"
            if self._may_read
            else "SELECT max(position), {schema}.last_beginning() FROM {schema}.stored_events"
        )
        self._lock_and_read_last_sql = f"{self._lock_sql}; {last_event.as_string()}"
        # A batch of events is one statement, so that the lock is held for few round trips. The version and the topic
        # are sent once: sending them for each row would take longer than storing the rows.
        self._insert_sql = datastore.format_sql(
            f"INSERT INTO {{schema}}.stored_events ({EVENT_COLUMNS})"
            " SELECT %b::bigint + batch.ordinal, batch.stream, %b::bigint, %b::text, batch.state"
            " FROM unnest(%b::text[], %b::bytea[])"  # binary: twice as fast, and as fast as COPY
            " WITH ORDINALITY AS batch (stream, state, ordinal)"
            " WHERE NOT EXISTS (SELECT FROM unnest(%b::text[], %b::bigint[]) AS expected (stream, version)"
            " CROSS JOIN LATERAL (SELECT FROM {schema}.{expected} WHERE originator_id = stream"
            " AND originator_version = version + 1 OFFSET 0) AS later)",
            expected="stored_events" if self._may_read else "meter_streams",
        )

    # --- the library's interface ----------------------------------------------------------------------

    def create_table(self) -> None:
        """Do nothing: the constructor creates the table."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int]:
        """Store events in one transaction and return their positions."""
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
        """Return events of one stream, by version.

        Commands start with this, so it waits for a lock for the whole timeout: twice as long as queries do.
        """
        source, source_params = self._source_of([str(originator_id)])
        statement = self.sql(
            f"SELECT originator_id, originator_version, topic, state FROM {source}"
            " WHERE originator_version > coalesce(?, originator_version - 1)"
            " AND originator_version <= coalesce(?, originator_version)"
            f" ORDER BY originator_version {'DESC' if desc else ''} LIMIT ?"
        )
        params = (*source_params, gt, lte, limit)
        try:
            rows = self.store.select(statement, params)
        except LockTimeout:
            rows = self.store.select(statement, params)
        return self.restore_stored_events(str(originator_id), [StoredEvent(*row) for row in rows])

    def max_notification_id(self) -> int | None:
        """Return the position of the newest event; None in an empty ledger."""
        return self.head() or None

    def missing_triggers(self) -> Sequence[str]:
        """Return the names of the triggers that protect stored events and are missing or disabled."""
        rows = self.select_rows(
            "SELECT tgname::text FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid"
            " WHERE relnamespace = to_regnamespace(quote_ident(?)) AND tgenabled IN ('O', 'A')",
            (self.store.schema,),
        )
        return absent_triggers(LEDGER_SCHEMA.statements, rows)

    # --- the ledger's interface -----------------------------------------------------------------------

    def read_page_bulk(self, after: int, limit: int) -> RawPage:
        """Return up to `limit` events after a position, as one document that PostgreSQL assembles."""
        return self.read_page_of_rows(after, limit) or read_page_bulk(self.store, after, limit)

    @property
    def supports_concurrent_reads(self) -> bool:
        """Return True: PostgreSQL readers never block writers."""
        return True

    def insert_rows(
        self,
        rows: Sequence[EventRow],
        expected_versions: Mapping[str, int] | None = None,
        attach: EntriesForPositions | None = None,
    ) -> Sequence[int]:
        """Store rows in one transaction and return their positions.

        `attach` returns the key-value entries to insert in the same transaction. Raise the library's IntegrityError if
        a stream has an event of that version, ConcurrentStreamUpdate if a stream has grown past its version in
        `expected_versions`, and EntryExists if one of the entries exists. Nothing is stored then. If the connection is
        lost during the commit, look up whether the ledger has the rows.
        """
        key_value_store = None if attach is None else self.key_value_store()
        if key_value_store is not None and attach is not None and not rows:
            key_value_store.apply(insert=attach(()))
            return ()

        def insert() -> Sequence[int]:
            positions: Sequence[int] = ()
            stored = rows
            try:
                with self._locked_transaction() as (connection, last):
                    stored = in_order_of_time(rows, last.time, self.max_clock_delay, self.clock)
                    positions = self._insert_locked(connection, last.position, stored, expected_versions or {})
                    if key_value_store is not None and attach is not None:
                        key_value_store.insert_entries(connection, sorted_for_writing(attach(positions)))
            except TransientError:
                if not positions or not self._commit_took_effect(stored, positions):
                    raise
            return positions

        return self.store.retry_transient(insert)

    def key_value_store(self) -> PostgresKeyValueStore:
        """Return the key-value store. Its table is created if it does not exist. Raise DatabasePermissionDenied."""
        if self._key_value_store is None:
            self._key_value_store = PostgresKeyValueStore(self.store)
        return self._key_value_store

    def key_value_entries(self, after: EntryKey | None, limit: int) -> Sequence[KeyValueEntry]:
        """Return up to `limit` key-value entries of all kinds after a kind and key; none without their table."""
        return self.key_value_store().scan_all(after, limit) if PostgresKeyValueStore.exists(self.store) else ()

    @contextmanager
    def exclusive(self) -> Generator[PostgresEventAppender]:
        """Read and append while no other client can append. The rows are committed at the end.

        Wait for a server that accepts changes, because what is done in the block can't be repeated here.
        """

        def begin() -> tuple[MonitoredConnection, LastEvent]:
            return transaction.enter_context(self._locked_transaction())

        with ExitStack() as transaction:
            yield PostgresEventAppender(self, *self.store.retry_transient(begin))

    def insert_rows_in_transaction(
        self,
        connection: MonitoredConnection,
        rows: Sequence[EventRow],
        last: LastEvent,
        expected_versions: Mapping[str, int] | None = None,
    ) -> Sequence[int]:
        """Store rows inside a transaction that holds the lock, after the last event, and return their positions."""
        ordered = in_order_of_time(rows, last.time, self.max_clock_delay, self.clock)
        return self._insert_locked(connection, last.position, ordered, expected_versions or {})

    @contextmanager
    def _locked_transaction(self) -> Generator[tuple[MonitoredConnection, LastEvent]]:
        """Start a transaction that holds the lock; the second value is the last event."""

        def prepare(connection: MonitoredConnection, rows: Cursor[Any]) -> tuple[MonitoredConnection, LastEvent]:
            position, beginning = rows.fetchone() or (None, None)
            return connection, LastEvent(position or 0, recorded_at_of(beginning.encode()) if beginning else None)

        with self.store.prepared_transaction(
            "write", prepare, self._lock_and_read_last_sql, self._notify_sql
        ) as locked:
            yield locked

    def raw_rows(self, first: int, last: int, limit: int) -> Sequence[RawEventRow]:
        """Return up to `limit` stored rows at the positions from `first` to `last`, inclusive, in order."""
        rows = self.select_rows(
            f"SELECT {EVENT_COLUMNS} FROM {{events}} WHERE position BETWEEN ? AND ? ORDER BY position LIMIT ?",
            (first, last, limit),
        )
        return self.mark_pruned_rows(
            [
                (position, stream.encode(), str(version).encode(), topic.encode(), state, _TYPES)
                for position, stream, version, topic, state in rows
            ]
        )

    def select_first_rows(self, originator_ids: Sequence[str]) -> list[PositionedEventRow]:
        """Return the first row of each of these streams that exist, as it is stored."""
        source, params = self._source_of(originator_ids, "originator_version = 1")
        return self.select_rows(f"SELECT {EVENT_COLUMNS} FROM {source}", params)

    def select_streams(self, originator_ids: Sequence[str]) -> Sequence[Notification]:
        """Return the events of several streams, by stream and version."""
        source, params = self._source_of(originator_ids)
        return self.notifications("ORDER BY originator_id, originator_version", params, source)

    def select_at(self, positions: Sequence[int]) -> Sequence[PositionedEventRow]:
        """Return the events at these positions, in any order."""
        if not positions:
            return ()
        # As text: converting a list of numbers would take the driver longer than everything else here.
        position_array = f"{{{','.join(map(str, positions))}}}"
        return self.positioned_rows("", (position_array,), _ROWS_BY_KEY.format("bigint", "position = wanted.key"))

    @contextmanager
    def append_listener(self) -> Generator[Callable[[float], None]]:
        """Yield a function that waits until new events were appended, or for a number of seconds."""
        with self.store.dedicated_connection() as connection:
            connection.execute(SQL("LISTEN {}").format(Identifier(self.channel_name)))

            def wait(seconds: float) -> None:
                with translate_errors(self.store.location):
                    for _ in connection.notifies(timeout=seconds, stop_after=1):
                        pass

            yield wait

    def backup(self, file: Path, *, overwrite: bool, progress: object) -> NoReturn:  # noqa: ARG002 - not supported
        """Raise BackupNotSupported: the server has its own programs, which write a consistent state too."""
        schema = self.store.schema
        raise BackupNotSupported(
            f"A ledger in PostgreSQL is backed up by PostgreSQL: run 'pg_dump --schema {schema}' on its database, or "
            "back up the whole server. The guide 'Back up and restore' (docs/guides/back-up-and-restore.md) has the "
            "commands.",
            field="url",
        )

    def close(self) -> None:
        """Close all connections."""
        self.archived_events.close()
        self.store.close()

    def select_rows(self, statement: str, params: Sequence[object] = ()) -> list[Any]:
        """Return the rows of a statement as tuples."""
        return self.store.select(self.sql(statement), params, binary=True)

    def sql(self, statement: str) -> Composed:
        """Return a statement for this schema: `{events}` is the table, and the placeholder is a question mark."""
        return self.store.format_sql(statement.replace("{events}", "{schema}.stored_events").replace("?", "%s"))

    def select_by_prefix(self, prefix: str) -> Sequence[Notification]:
        """Return the events of all streams whose ids begin with `prefix`, by stream and version."""
        if self._may_read or prefix != _METER_PREFIX:
            return super().select_by_prefix(prefix)
        return self.notifications("ORDER BY originator_id, originator_version", (), "{schema}.meter_streams")

    def _has_read_privilege(self) -> bool:
        """Return whether the role may read all stored events. If not, it may record, and read what that needs."""
        statement = SQL("SELECT has_table_privilege(to_regclass(%s), 'SELECT')")
        return self.store.select(statement, (self.store.format_sql("{schema}.stored_events").as_string(),)) == [(True,)]

    def _source_of(self, streams: Iterable[str], condition: str = "true") -> tuple[str, tuple[object, ...]]:
        """Return what to read from for the events of streams that fulfil a condition, and its parameters."""
        ids = list(dict.fromkeys(streams))
        if self._may_read or not all(stream.startswith(_RECORDED_PREFIXES) for stream in ids):
            return _ROWS_BY_KEY.format("text", f"originator_id = wanted.key AND {condition}"), (ids,)
        return f"(SELECT * FROM {{schema}}.recorded_streams(?) WHERE {condition}) AS recorded", (ids,)

    def _insert_locked(
        self,
        connection: MonitoredConnection,
        last_position: int,
        rows: Sequence[EventRow],
        expected_versions: Mapping[str, int],
    ) -> Sequence[int]:
        """Store rows in a transaction that holds the lock, after the last position, and return their positions."""
        version_params = (list(expected_versions), list(expected_versions.values()))
        with connection.cursor(row_factory=tuple_row) as cursor:
            for (version, topic), batch in groupby(rows, itemgetter(1, 2)):
                streams, _, _, states = map(list, zip(*batch, strict=True))
                params = (last_position, version, topic, streams, states, *version_params)
                connection.overlap_next_statement()
                if cursor.execute(self._insert_sql, params).rowcount != len(streams):
                    raise ConcurrentStreamUpdate(next(iter(expected_versions)))
                last_position += len(streams)
        return range(last_position - len(rows) + 1, last_position + 1)

    def _commit_took_effect(self, rows: Sequence[EventRow], positions: Sequence[int]) -> bool:
        """Return whether rows are stored at these positions, after the connection was lost during their commit.

        Holding the lock ensures that the lost transaction is over. `pg_xact_status` would not be reliable: after a
        crash, the server assigns the number of a transaction that was not on disk to another one.
        """
        source, source_params = self._source_of([stream for stream, *_ in rows])
        statement = self.sql(
            f"SELECT originator_id, originator_version, topic, state FROM {source}"
            " WHERE position BETWEEN ? AND ? ORDER BY position"
        )

        def read_rows(connection: Connection[Any]) -> list[EventRow]:
            with connection.cursor(row_factory=tuple_row) as cursor:
                return cursor.execute(statement, (*source_params, positions[0], positions[-1])).fetchall()

        try:
            return self.store.run_in_transaction("write", read_rows, self._lock_sql) == list(rows)
        except LedgerUnavailable as error:
            raise LedgerUnavailable(
                f"PostgreSQL on {self.store.location}: the connection was lost during the commit, and it is unknown "
                "whether the meter events are stored. Record them again with the same identifiers: each counts once."
            ) from error
