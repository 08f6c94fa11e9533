"""Outbox: record meter events in the transactions of the host program."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import cast

from ...domain.errors import InvalidLedgerUrl, InvalidParameter
from ...domain.meter_event_input import parse_meter_event
from ...domain.text import abbreviated_repr
from ...domain.timestamps import ensure_utc
from ..ledger.retry import repeat_until
from ..metering import Metering
from ..storage.outbox import DEFAULT_TABLE, OutboxTable, require_table_name, row_values
from ..storage.outbox_url import open_outbox_table
from ..storage.postgres.settings import PostgresSettings
from ..storage.sql_outbox import outbox_sql
from ..uuid7 import uuid7
from ..validation import require_int
from .drivers import Driver, Row, find_driver, insert_statement
from .relay import Relay
from .results import OutboxLag, RejectedRow, RelayResult

MAX_BATCH_SIZE = 10_000
RELAY_INTERVAL_SECONDS = 0.2
"""How long a running relay waits before it looks for rows again."""
_MAX_ID = 2**63 - 1


class Outbox:
    """A table in the database of the host program, for meter events that are recorded if its transaction commits.

    `record` inserts a row on a connection of the host: in the transaction that it has started there. A relay moves
    committed rows into the ledger. `url` is the address of the host's database, for the calls that relay or list rows:
    `sqlite:///shop.db`, `postgresql://user@host/shop`, or PostgresSettings. `table` is the name of the table, which may
    begin with that of its schema.
    """

    def __init__(
        self, metering: Metering, url: str | PostgresSettings | None = None, *, table: str = DEFAULT_TABLE
    ) -> None:
        self.table = require_table_name(table)
        self._usage = metering.imports.usage
        self._relay = Relay(self._usage, metering.clock)
        self._url = url
        self._opening = threading.Lock()
        self._opened: OutboxTable | None = None

    # --- on a connection of the host ------------------------------------------------------------------

    def record(
        self,
        connection: object,
        event_name: str,
        payload: Mapping[str, str | int | Decimal],
        *,
        identifier: str | None = None,
        timestamp: datetime | None = None,
    ) -> str:
        """Insert a meter event on the host's connection, in its transaction, and return the identifier.

        `connection` is a connection or a cursor of psycopg, sqlite3 or Django, or a connection or session of
        SQLAlchemy. Nothing is committed, and no lock of the ledger is waited for. The identifier is generated if it is
        None. Whether the meter exists, and accepts the payload, is decided when the row is relayed. The age of the
        timestamp is checked now; without one, the usage occurred now.

        Raises InvalidIdentifier, InvalidPayload, InvalidTimestamp, TimestampTooFarInPast, TimestampInFuture or
        InvalidParameter, before anything is inserted, and the errors of the connection.
        """
        (inserted,) = self.record_many(connection, [_meter_event(event_name, payload, identifier, timestamp)])
        return inserted

    def record_many(self, connection: object, meter_events: Iterable[object]) -> list[str]:
        """Insert many meter events on the host's connection, and return their identifiers.

        A meter event is a mapping or an object, as in `Metering.record_many`. If one is invalid, its error is raised
        and none is inserted.
        """
        driver = _synchronous_driver(connection)
        rows, identifiers = self._rows(meter_events)
        if rows:
            driver.execute(connection, insert_statement(driver, self.table), rows)
        return identifiers

    async def arecord(
        self,
        connection: object,
        event_name: str,
        payload: Mapping[str, str | int | Decimal],
        *,
        identifier: str | None = None,
        timestamp: datetime | None = None,
    ) -> str:
        """Insert a meter event as `record` does, on an asynchronous connection of psycopg or SQLAlchemy."""
        (inserted,) = await self.arecord_many(connection, [_meter_event(event_name, payload, identifier, timestamp)])
        return inserted

    async def arecord_many(self, connection: object, meter_events: Iterable[object]) -> list[str]:
        """Insert many meter events as `record_many` does, on an asynchronous connection of psycopg or SQLAlchemy."""
        driver = find_driver(connection)
        if not driver.is_async:
            raise InvalidParameter(
                "'connection' is synchronous: call record or record_many.", field="connection", value=connection
            )
        rows, identifiers = self._rows(meter_events)
        if rows:
            await driver.execute(connection, insert_statement(driver, self.table), rows)
        return identifiers

    def create_table(self, connection: object) -> None:
        """Create the table, if it does not exist, on a connection of the host; `outbox_sql` is for migrations.

        Nothing is committed.
        """
        driver = _synchronous_driver(connection)
        for statement in outbox_sql(driver.dialect(connection), table=self.table):
            driver.execute(connection, statement, ())

    # --- on connections to `url` ----------------------------------------------------------------------

    def relay(self, *, batch_size: int = 1_000, stop: threading.Event | None = None) -> RelayResult:
        """Move the rows that wait now into the ledger, and return how many were recorded, duplicates and rejected.

        Each meter event is recorded exactly once, also if several relays run or one is killed. A row that the ledger
        rejects stays, and does not hold up the others. After each batch, the call ends if `stop` is set. Raises
        LedgerUnavailable; the rows that remain are relayed by the next call.
        """
        return self._relay.relay(self._table(), require_int(batch_size, "batch_size", 1, MAX_BATCH_SIZE), stop)

    def run_relay(
        self, stop: threading.Event | None = None, *, progress: Callable[[RelayResult], None] | None = None
    ) -> None:
        """Relay rows as they are committed, until `stop` is set; forever if it is None.

        Any number of processes may run a relay. `progress` is called with each result in which there were rows. A lost
        connection is retried for a while. Raises LedgerUnavailable.
        """
        stopped = stop or threading.Event()

        def run(succeed: Callable[[], None]) -> None:
            while not stopped.is_set():
                result = self.relay(stop=stopped)
                succeed()
                if progress is not None and result != RelayResult():
                    progress(result)
                stopped.wait(RELAY_INTERVAL_SECONDS)

        repeat_until(stopped, run)

    def lag(self) -> OutboxLag:
        """Return how many rows wait, since when, and how many are rejected."""
        return OutboxLag.from_counts(self._table().counts(), ensure_utc(self._usage.clock(), "clock"))

    def rejected(self, *, limit: int = 1_000, starting_after: int = 0) -> list[RejectedRow]:
        """Return the rows whose meter events the ledger rejected, with the errors, by id.

        At most `limit` (1 to 10,000). For the next page, pass the last id as `starting_after`.
        """
        after = require_int(starting_after, "starting_after", 0, _MAX_ID)
        rows = self._table().rejected_rows(after, require_int(limit, "limit", 1, 10_000))
        return [RejectedRow.from_row(row) for row in rows]

    def retry(self, ids: Iterable[int] | None = None) -> int:
        """Let rejected rows wait for the relay again, all of them if None, and return their number."""
        return self._table().retry(None if ids is None else _require_ids(ids))

    def drop(self, ids: Iterable[int]) -> int:
        """Delete rejected rows, whose usage is then never recorded, and return their number."""
        return self._table().drop(_require_ids(ids))

    def close(self) -> None:
        """Close the connections to the host's database."""
        with self._opening:
            if self._opened is not None:
                self._opened.close()
                self._opened = None

    def __enter__(self) -> "Outbox":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- helpers --------------------------------------------------------------------------------------

    def _rows(self, meter_events: Iterable[object]) -> tuple[list[Row], list[str]]:
        """Validate meter events, and return their rows and identifiers."""
        now = ensure_utc(self._usage.clock(), "clock")
        rows: list[Row] = []
        identifiers: list[str] = []
        for meter_event in meter_events:
            event_input = parse_meter_event(meter_event)
            if event_input.timestamp is not None:
                self._usage.policy.check_occurred_at(event_input.timestamp, now)
            identifiers.append(event_input.identifier or str(uuid7()))
            rows.append(row_values(event_input, identifiers[-1], now))
        return rows, identifiers

    def _table(self) -> OutboxTable:
        """Return the table on connections of its own, which are opened at the first call."""
        if self._url is None:
            raise InvalidLedgerUrl(
                "The outbox has no URL of the host's database: pass one, as in Outbox(metering, 'sqlite:///shop.db').",
                field="url",
            )
        with self._opening:
            if self._opened is None:
                self._opened = open_outbox_table(self._url, self.table)
            return self._opened


def _meter_event(event_name: object, payload: object, identifier: object, timestamp: object) -> dict[str, object]:
    return {"event_name": event_name, "payload": payload, "identifier": identifier, "timestamp": timestamp}


def _synchronous_driver(connection: object) -> Driver:
    driver = find_driver(connection)
    if driver.is_async:
        raise InvalidParameter(
            "'connection' is asynchronous: call arecord or arecord_many.", field="connection", value=connection
        )
    return driver


def _require_ids(ids: Iterable[int]) -> Sequence[int]:
    if not isinstance(cast(object, ids), Iterable):
        raise InvalidParameter(f"'ids' must be a list of ids, not {abbreviated_repr(ids)}.", field="ids", value=ids)
    return [require_int(row_id, "ids", 1, _MAX_ID) for row_id in ids]
