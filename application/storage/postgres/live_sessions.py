"""Sessions of the live generation that are opened in one round trip."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial
from typing import Any

from psycopg import Cursor

from ....projections.models import MAX_FEW_EVENTS, LedgerEvent, PinnedRules, ProjectedMeter
from ..pruned_events import pruned_hashes
from ..row_codec import decode_pinned
from ..sql_statements import Row
from .connection import COMMIT_ASYNCHRONOUSLY, PostgresDatastore, TransactionMode
from .errors import TablesMissing
from .generations import (
    PostgresGenerations,
    PostgresTracking,
    generation_tables,
    lock_projection_sql,
    lock_tables_sql,
    lock_writes_sql,
)
from .monitored_connection import MonitoredConnection
from .read_cache import LiveState, ReadCache
from .read_model_schema import READ_MODEL_SCHEMA
from .statements import PostgresReadModels

_SELECT_STATE = """
    SELECT read_models.version, live.generation, coalesce(tracking.notification_id, 0),
        (SELECT coalesce(max(position), 0) FROM {ledger}.stored_events),
        live.ledger_fingerprint, live.latest_recorded_at, live.pinned,
        (SELECT coalesce(max(customer), 0) FROM {schema}.{customers}), tracking.tableoid::bigint,
        live.page_id
    FROM {schema}.read_models LEFT JOIN {schema}.generations AS live ON live.state = 'live'
    LEFT JOIN {schema}.tracking AS tracking ON tracking.application_name = 'generation ' || live.generation
"""
# The event at the position of the read models, and the next ones: a page of few events is folded without reading more.
_SELECT_STATE_AND_EVENTS = f"""
    SELECT live_state.*, next_events.* FROM ({_SELECT_STATE})
        AS live_state (version, generation, position, head, fingerprint, recorded_at, pinned, customer, tracking_table,
            page_id),
    LATERAL (
        SELECT array_agg(event.position), array_agg(event.topic), array_agg(event.state) FROM (
            SELECT position, topic, state FROM {{ledger}}.stored_events
            WHERE position BETWEEN live_state.position AND live_state.position + {MAX_FEW_EVENTS} ORDER BY position
        ) AS event
    ) AS next_events
"""
_STATE_WIDTH = 10
"""The number of columns of `_SELECT_STATE`."""


class LiveReadModels(PostgresReadModels):
    """The read models of the live generation, whose state was read when the session was opened."""

    def __init__(self, generations: PostgresGenerations, generation: int, state: LiveState, cache: ReadCache) -> None:
        super().__init__(generations, generation)
        self._state = state
        self._cache = cache
        self._position = state.position
        self._has_changed_meters = False

    def ledger_head(self) -> int:
        """Return the position of the ledger's newest event in the same consistent state."""
        return self._state.ledger_head

    def ledger_fingerprint(self) -> str | None:
        """Return the fingerprint of the ledger's event at the position of the read models."""
        return self._state.ledger_fingerprint

    def next_events(self) -> Sequence[LedgerEvent]:
        """Return the ledger's event at the position of the read models and some after it, if the session writes.

        Return none if the state of one is in an archive.
        """
        return () if pruned_hashes(self._state.events) else self._state.events

    def page_id(self) -> str | None:
        """Return the id of the last page that was written before this session; None before the first."""
        return self._state.page_id

    def latest_recorded_at(self) -> int:
        """Return the latest time of recording of the events up to the position of the read models."""
        return self._state.latest_recorded_at

    def pinned(self) -> PinnedRules:
        """Return the meters, by name, that are folded under other rules than the configured ones."""
        return decode_pinned(self._state.pinned)

    def last_customer_id(self) -> int:
        """Return the highest id of a customer; 0 if there is no customer."""
        return self._state.last_customer_id

    def meters(self) -> Mapping[str, ProjectedMeter]:
        """Return the meters, by event name."""
        return self._cache.meters(self._state, super().meters)

    def write_meter(self, row: Row) -> None:
        """Insert or replace the id, event name, rules, history and source of a meter."""
        self._has_changed_meters = True
        super().write_meter(row)

    def track(self, position: int) -> None:
        """Advance the position. Raise the library's IntegrityError unless it grows."""
        super().track(position)
        if not self._has_changed_meters:
            self._cache.keep_meters(self._state, position)

    def customer_id(self, customer: str) -> int | None:
        """Return the id of a customer in these read models, or None."""
        known = self._cache.customer_ids(self._state, (customer,))
        return (known or self.customer_ids([customer])).get(customer)

    def select_customer_ids(self, customers: Sequence[str]) -> Sequence[tuple[str, int]]:
        """Return the name and id of each of these customers that exists."""
        known = self._cache.customer_ids(self._state, customers)
        unknown = [customer for customer in customers if customer not in known]
        others: dict[str, int] = dict(super().select_customer_ids(unknown)) if unknown else {}
        self._cache.add_customers(self._state, {customer_id: customer for customer, customer_id in others.items()})
        return [*known.items(), *others.items()]

    def select_customer_names(self, customer_ids: Sequence[int]) -> Sequence[tuple[int, str]]:
        """Return the id and name of each of these customers that exists."""
        known = self._cache.customer_names(self._state, customer_ids)
        unknown = [customer_id for customer_id in customer_ids if customer_id not in known]
        others = dict(super().select_customer_names(unknown)) if unknown else {}
        self._cache.add_customers(self._state, others)
        return [*known.items(), *others.items()]


class LiveSessions:
    """Opens sessions of the generation that was live before, if it still is.

    BEGIN, the locks, and the state of the generation and of the ledger are one round trip. To find the live generation
    first, before its tables are locked, takes several.
    """

    def __init__(self, datastore: PostgresDatastore, tracking: PostgresTracking) -> None:
        self._datastore = datastore
        self._tracking = tracking
        self._cache = ReadCache()
        self._generation: int | None = None
        self._open_statements = lru_cache(maxsize=4)(self._compose_open_statements)

    def expect(self, generation: int | None) -> None:
        """Open sessions of this generation from now on; None if it isn't known which one is live."""
        self._generation = generation

    @contextmanager
    def open(self, mode: TransactionMode) -> Generator[LiveReadModels | None]:
        """Open a session of the live generation; yield None if it isn't the expected one."""
        with ExitStack() as session:
            yield None if self._generation is None else self._enter(session, mode, self._generation)

    def read_after(self, writer: PostgresReadModels) -> LiveReadModels | None:
        """Commit what a session has written, and read in its place, in one round trip.

        Return None if it isn't a session of the expected generation, or this isn't the live one any more.
        """
        generation = self._generation
        if generation is None or not isinstance(writer, LiveReadModels) or writer.generation != generation:
            return None
        begin = *self._datastore.begin_statements("read"), *self._open_statements("read", generation)
        rows = writer.connection.read_after_commit(begin)
        return self._read_state(generation, writer.connection, rows)

    def _enter(self, session: ExitStack, mode: TransactionMode, generation: int) -> LiveReadModels | None:
        opened = self._datastore.prepared_transaction(
            mode, partial(self._read_state, generation), "; ".join(self._open_statements(mode, generation))
        )
        try:
            read_models = session.enter_context(opened)
        except TablesMissing:
            read_models = None
        if read_models is None:
            self.expect(None)
        return read_models

    def _compose_open_statements(self, mode: TransactionMode, generation: int) -> Sequence[str]:
        ledger, names = self._datastore.settings.schema_name, generation_tables(generation)
        select_state = self._datastore.format_sql(
            _SELECT_STATE if mode == "read" else _SELECT_STATE_AND_EVENTS, ledger=ledger, customers=names["customers"]
        )
        locks = lock_tables_sql(self._datastore, generation)
        if mode == "write":
            locks = [lock_writes_sql(self._datastore), lock_projection_sql(self._datastore, generation), *locks]
        statements = [statement.as_string() for statement in (*locks, select_state)]
        return [COMMIT_ASYNCHRONOUSLY, *statements] if mode == "write" else statements

    def _read_state(self, generation: int, connection: MonitoredConnection, rows: Cursor[Any]) -> LiveReadModels | None:
        row = rows.fetchone()
        if row is None or row[:2] != (READ_MODEL_SCHEMA.version, generation):
            return None
        generations = PostgresGenerations(self._datastore, self._tracking, connection)
        columns, event_columns = row[1:_STATE_WIDTH], row[_STATE_WIDTH:]
        events = list(zip(*event_columns, strict=True)) if all(event_columns) else ()
        state = self._cache.with_losses(LiveState(*columns, events=events))
        return LiveReadModels(generations, generation, state, self._cache)
