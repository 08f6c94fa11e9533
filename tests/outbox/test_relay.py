"""The relay: each committed row is recorded once, in whatever order transactions commit."""

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tallybook.application import (
    AcceptancePolicy,
    LedgerUnavailable,
    Metering,
    Outbox,
    OutboxLag,
    RelayResult,
    TallybookError,
    TimestampTooFarInPast,
)

from ..notation import Clock
from ..waiting import wait_until
from .hosts import Host, HostDatabase, open_psycopg, open_sqlite3

DAY = timedelta(days=1)


def open_host(database: HostDatabase) -> AbstractContextManager[Host]:
    """Connect to the host's database."""
    return contextmanager(open_sqlite3 if database.is_sqlite else open_psycopg)(database)


@pytest.fixture
def host(host_database: HostDatabase) -> Iterator[Host]:
    """Return a connection to the host's database."""
    with open_host(host_database) as opened:
        yield opened


def record(
    outbox: Outbox,
    host: Host,
    *identifiers: str,
    event_name: str = "tokens",
    tokens: str = "1",
    timestamp: datetime | None = None,
    commit: bool = True,
) -> None:
    """Record usage of one customer in a transaction of the host."""
    payload = {"customer": "acme", "tokens": tokens}
    for identifier in identifiers:
        outbox.record(host.connection, event_name, payload, identifier=identifier, timestamp=timestamp)
    if commit:
        host.commit()


def recorded(metering: Metering) -> list[str]:
    """Return the recorded identifiers."""
    return [event.identifier for event in metering.events("tokens")]


def test_a_row_that_commits_late_is_not_skipped(metering: Metering, postgres_host: HostDatabase) -> None:
    """A transaction may commit after one with higher ids was relayed."""
    with (
        Outbox(metering, postgres_host.url, table=postgres_host.table) as outbox,
        open_host(postgres_host) as slow,
        open_host(postgres_host) as fast,
    ):
        record(outbox, slow, "slow", commit=False)
        record(outbox, fast, "fast")
        assert outbox.relay() == RelayResult(recorded=1)
        assert recorded(metering) == ["fast"]
        slow.commit()
        assert outbox.relay() == RelayResult(recorded=1)
    assert sorted(recorded(metering)) == ["fast", "slow"]


def test_duplicates_are_done_and_conflicts_are_rejected(metering: Metering, outbox: Outbox, host: Host) -> None:
    """The same content again is a duplicate, also without its timestamp; other content stays as a rejected row."""
    record(outbox, host, "a", "b", "a")
    metering.record("tokens", {"customer": "acme", "tokens": "1"}, identifier="b")
    assert outbox.relay() == RelayResult(recorded=1, duplicates=2)
    record(outbox, host, "a", tokens="2")
    record(outbox, host, "c")
    assert outbox.relay() == RelayResult(recorded=1, rejected=1)
    (conflict,) = outbox.rejected()
    assert (conflict.identifier, conflict.code, conflict.payload) == (
        "a", "duplicate_meter_event", {"customer": "acme", "tokens": "2"},
    )  # fmt: skip
    assert outbox.drop([conflict.id]) == 1
    assert outbox.lag() == OutboxLag(0, 0, None, 0.0)


def test_rejected_rows_stay_until_they_are_retried_or_dropped(
    metering: Metering, outbox: Outbox, host: Host, clock: Clock
) -> None:
    """They are listed by id with the error, hold up no other row, and are recorded once the ledger accepts them."""
    record(outbox, host, "early", event_name="images")
    record(outbox, host, "right")
    record(outbox, host, "wrong", tokens="1e3")
    submitted_at = clock()
    clock.now += DAY
    assert outbox.relay(batch_size=2) == RelayResult(recorded=1, rejected=2)
    assert outbox.relay() == RelayResult()
    early, wrong = outbox.rejected()
    assert (early.identifier, early.code, early.submitted_at, early.rejected_at) == (
        "early", "no_meter", submitted_at, submitted_at + DAY,
    )  # fmt: skip
    assert (wrong.code, "1e3" in wrong.message) == ("payload_invalid_value", True)
    assert outbox.rejected(limit=1) == [early]
    assert outbox.rejected(starting_after=early.id) == [wrong]
    assert (outbox.lag().waiting, outbox.lag().rejected) == (0, 2)

    metering.meters.configure("images", formula="count", customer_key="customer")
    assert outbox.retry([early.id]) == 1
    assert outbox.retry([early.id, 999]) == 0
    assert outbox.relay() == RelayResult(recorded=1)
    assert metering.event("early").occurred_at == submitted_at
    assert outbox.retry() == 1
    assert outbox.drop([wrong.id]) == 0  # it waits
    assert outbox.relay() == RelayResult(rejected=1)
    assert outbox.drop([wrong.id]) == 1


def test_usage_occurred_when_it_was_submitted(metering: Metering, outbox: Outbox, host: Host, clock: Clock) -> None:
    """A relay that is months late changes no time of usage, and rejects nothing for its age."""
    submitted_at = clock()
    record(outbox, host, "now")
    record(outbox, host, "before", timestamp=submitted_at - 34 * DAY)
    for timestamp in (submitted_at - 36 * DAY, submitted_at + timedelta(minutes=6), submitted_at.replace(tzinfo=None)):
        with pytest.raises(TallybookError, match="timestamp"):
            record(outbox, host, "invalid", timestamp=timestamp)
    clock.now += 100 * DAY
    record(outbox, host, "now")  # a retry without a timestamp is the same event
    assert outbox.lag() == OutboxLag(3, 0, submitted_at, 100 * DAY.total_seconds())
    assert outbox.relay() == RelayResult(recorded=2, duplicates=1)
    assert [(event.identifier, event.occurred_at) for event in metering.events("tokens")] == [
        ("before", submitted_at - 34 * DAY), ("now", submitted_at),
    ]  # fmt: skip
    assert {event.recorded_at for event in metering.events("tokens")} == {clock()}
    with pytest.raises(TimestampTooFarInPast):
        metering.record("tokens", {"customer": "acme", "tokens": "1"}, timestamp=submitted_at)


def test_rows_of_other_programs_are_read_or_rejected(
    metering: Metering, outbox: Outbox, host: Host, host_database: HostDatabase
) -> None:
    """A row of a newer format is left to a newer relay. One that can't be read is rejected, and listed."""
    record(outbox, host, "newer", "no JSON", "no time", "no text", "no Unicode", "too deep", "right")
    changes = {
        "too deep": f"payload = '{'[' * 100_000}'",
        "newer": "format = 2", "no JSON": "payload = '{{'", "no time": "submitted_at = 'today'",
        "no text": "payload = '[7]'",
        "no Unicode": r"""payload = '{{"customer": "acme", "tokens": "\ud800\u0000"}}'""",
    }  # fmt: skip
    for identifier, change in changes.items():
        host_database.execute(f"UPDATE {{prefix}}tallybook_outbox SET {change} WHERE identifier = '{identifier}'")
    assert outbox.relay() == RelayResult(recorded=1, rejected=5)
    rows = {row.identifier: row for row in outbox.rejected()}
    assert {name: row.code for name, row in rows.items()} == {
        "no JSON": "payload_invalid", "no time": "invalid_timestamp", "no text": "payload_invalid",
        "no Unicode": "payload_invalid", "too deep": "payload_invalid",
    }  # fmt: skip
    assert (rows["no JSON"].payload, rows["no time"].submitted_at) == (None, None)
    assert outbox.lag().waiting == 1


@pytest.mark.parametrize("column", ["event_name", "identifier", "payload", "occurred_at", "submitted_at"])
@pytest.mark.parametrize("value", ["x'ff41'", "CAST(x'ff41' AS TEXT)"])
def test_bytes_in_columns_of_text_hold_up_no_other_row(
    metering: Metering, sqlite_host: HostDatabase, column: str, value: str
) -> None:
    """SQLite stores what another program writes, also text that is not UTF-8. The row is rejected, and listed."""
    with open_host(sqlite_host) as host, Outbox(metering, sqlite_host.url) as outbox:
        record(outbox, host, "before", "wrong", "after")
        sqlite_host.execute(f"UPDATE {{prefix}}tallybook_outbox SET {column} = {value} WHERE identifier = 'wrong'")
        assert outbox.relay() == RelayResult(recorded=2, rejected=1)
        (rejected,) = outbox.rejected()
        assert (rejected.id, outbox.lag().waiting) == (2, 0)


def test_a_ledger_that_is_unavailable_loses_nothing(metering: Metering, outbox: Outbox, host: Host) -> None:
    """The rows wait until the ledger is available again."""
    record(outbox, host, "a", "b")
    usage = metering.imports.usage
    append = usage.ledger.append_meter_events
    usage.ledger.append_meter_events = _fail  # type: ignore[method-assign]
    with pytest.raises(LedgerUnavailable, match="a test"):
        outbox.relay()
    usage.ledger.append_meter_events = append  # type: ignore[method-assign]
    assert (outbox.lag().waiting, outbox.lag().rejected) == (2, 0)
    assert outbox.relay() == RelayResult(recorded=2)


def test_a_row_that_the_database_rejects_holds_up_no_other(metering: Metering, outbox: Outbox, host: Host) -> None:
    """An error that one row may have caused is found by recording each on its own."""
    record(outbox, host, "a", "poison", "b")
    ledger = metering.imports.usage.ledger
    append = ledger.append_meter_events

    def append_others(data: Any, *args: Any) -> Any:
        if "poison" in data:
            raise TallybookError("the database can't convert it")
        return append(data, *args)

    ledger.append_meter_events = append_others  # type: ignore[method-assign]
    assert outbox.relay() == RelayResult(recorded=2, rejected=1)
    assert [(row.identifier, row.code) for row in outbox.rejected()] == [("poison", "tallybook_error")]


def test_relays_at_once_record_each_row_once(tmp_path: Path, host_database: HostDatabase) -> None:
    """Four relays and four hosts at the same time: every row becomes one event, and none is left."""
    with Metering.open(f"sqlite:///{tmp_path / 'usage.db'}") as metering, ExitStack() as exit_stack:
        metering.meters.configure("tokens", customer_key="customer", value_key="tokens")
        outboxes = [
            exit_stack.enter_context(Outbox(metering, host_database.url, table=host_database.table)) for _ in range(4)
        ]
        stop = threading.Event()

        def relay(outbox: Outbox) -> RelayResult:
            total = RelayResult()
            while not stop.is_set() or outbox.lag().waiting:
                total += outbox.relay(batch_size=7)
            return total

        def write(number: int) -> None:
            with open_host(host_database) as host:
                for order in range(20):
                    record(outboxes[0], host, f"{number}-{order}a", f"{number}-{order}b")

        with ThreadPoolExecutor(8) as pool:
            relays = [pool.submit(relay, outbox) for outbox in outboxes]
            list(pool.map(write, range(4)))
            stop.set()
            results = [running.result() for running in relays]
        assert sum(result.recorded for result in results) == 160
        assert sum(result.rejected for result in results) == 0
        now = datetime.now(UTC)
        total = metering.total("tokens", "acme", now - DAY, now + DAY)
        assert (total.count, total.value) == (160, Decimal(160))
        assert outboxes[0].lag().waiting == 0


def test_a_relay_ends_while_rows_are_added(metering: Metering, outbox: Outbox, host: Host) -> None:
    """It relays the rows that waited when it was called, in batches, and stops after one if it is stopped."""
    record(outbox, host, "a", "b", "c")
    record_many = metering.imports.usage.record_many

    def record_and_add(*args: Any, **options: Any) -> Any:
        record(outbox, host, f"during {options['submitted_at']}")
        return record_many(*args, **options)

    metering.imports.usage.record_many = record_and_add  # type: ignore[method-assign]
    stop = threading.Event()
    assert outbox.relay(batch_size=1) == RelayResult(recorded=3)
    assert outbox.lag().waiting == 3
    stop.set()
    assert outbox.relay(batch_size=1, stop=stop) == RelayResult()
    assert outbox.lag().waiting == 3


def test_a_running_projection_relays(tmp_path: Path, sqlite_host: HostDatabase) -> None:
    """Rows that are committed while it runs are recorded and projected; another loop relays only."""
    url = f"sqlite:///{tmp_path / 'usage.db'}"
    with Metering.open(url) as metering, open_host(sqlite_host) as host:
        metering.meters.configure("tokens", customer_key="customer", value_key="tokens")
        outbox, stop = Outbox(metering, sqlite_host.url), threading.Event()
        loops = [lambda: metering.run_projection(stop, outbox=outbox), lambda: outbox.run_relay(stop)]
        for identifier, loop in zip(("a", "b"), loops, strict=True):
            stop.clear()
            with ThreadPoolExecutor(1) as pool:
                running = pool.submit(loop)
                record(outbox, host, identifier)
                wait_until(lambda: outbox.lag().waiting == 0)
                stop.set()
                running.result()
        assert recorded(metering) == ["a", "b"]


def test_ids_of_deleted_rows_are_not_used_again(metering: Metering, sqlite_host: HostDatabase) -> None:
    """On SQLite, a slow relay deletes the rows that it selected, and none that came after another relay."""
    outbox = Outbox(metering, sqlite_host.url)
    with open_host(sqlite_host) as host:
        record(outbox, host, "first")
        record_many = metering.imports.usage.record_many

        def record_slowly(*args: Any, **options: Any) -> Any:
            metering.imports.usage.record_many = record_many  # type: ignore[method-assign]
            receipts = record_many(*args, **options)
            assert Outbox(metering, sqlite_host.url).relay() == RelayResult(duplicates=1)
            record(outbox, host, "second")
            return receipts

        metering.imports.usage.record_many = record_slowly  # type: ignore[method-assign]
        assert outbox.relay() == RelayResult(recorded=1)
    assert outbox.relay() == RelayResult(recorded=1)
    assert recorded(metering) == ["first", "second"]


def test_a_policy_of_the_host_applies(metering: Metering, sqlite_host: HostDatabase, clock: Clock) -> None:
    """The host that back-fills is the one that lifts the limit; its relay need not."""
    with (
        Metering.open("sqlite://", policy=AcceptancePolicy(max_age=None), clock=clock) as backfilling,
        closing(sqlite3.connect(sqlite_host.file)) as connection,
        connection,
    ):
        payload = {"customer": "acme", "tokens": "1"}
        Outbox(backfilling).record(connection, "tokens", payload, identifier="old", timestamp=clock() - 400 * DAY)
    assert Outbox(metering, sqlite_host.url).relay() == RelayResult(recorded=1)


def _fail(*_: object) -> None:
    raise LedgerUnavailable("a test")
