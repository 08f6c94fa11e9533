"""Pages of the ledger are read in bulk if possible, with the same events as row by row; corruption is reported."""

import re
import sqlite3
import threading
from collections.abc import Callable
from itertools import cycle, islice

import pytest
from tallybook.application.ledger.ledger import Ledger
from tallybook.application.storage.postgres import bulk_read
from tallybook.domain.errors import ProjectionStopped
from tallybook.domain.meter_event import MeterEventData
from tallybook.projections import Projector, page_projector
from tallybook.projections.page_reader import PageReader
from tallybook.projections.ports import EVENT_CANCELLED
from tallybook.projections.stored_events import EventCancelledData, PositionedEvent, decode_rows

from .histories import END, START, read_model_rows, record_history
from .persistent_stores import PersistentStore
from .stores import Store

USAGE_STATE = (
    b'{"recorded_at":"2026-11-01T00:00:00Z","event_name":"tokens","payload":{"customer":"acme","value":"7"},'
    b'"occurred_at":"2026-10-01T00:00:00Z"}'
)
CORRUPTED = {
    "not JSON": b"{",
    "not UTF-8": USAGE_STATE.replace(b"acme", b"\xff"),
    "nothing": b"",
    "a NUL": USAGE_STATE + b"\0",
    "trailing data": USAGE_STATE + b',"more"',
    "a second event": USAGE_STATE + b"," + USAGE_STATE,
    "a trailing null": USAGE_STATE + b",null",
    "null": b"null",
    "a non-usage marker": b"\x02",
    "a trailing non-usage marker": USAGE_STATE + b",\x02",
    "a non-usage marker in a string": USAGE_STATE.replace(b"acme", b"ac\x02me"),
    "a non-usage marker as a value": USAGE_STATE[:-1] + b',"more":\x02}',
    "a second chunk": USAGE_STATE + b"]\n[" + USAGE_STATE,
    "a closing bracket": USAGE_STATE + b"]",
}
PAGE_SIZES = [1, 7, 10_000]


def read_bulk(ledger: Ledger, page_size: int) -> list[PositionedEvent]:
    """Return all events, read as the projector reads them."""
    events: list[PositionedEvent] = []
    with PageReader(ledger, page_size, 10_000) as pages:
        position, head = 0, ledger.head()
        while position < head:
            page = pages.read(position, head)
            events += page
            position = page.position
    return events


def row_by_row(ledger: Ledger) -> list[PositionedEvent]:
    """Return all events, read row by row."""
    return list(decode_rows(ledger.read_page(0, 10_000)))


@pytest.mark.parametrize("page_size", [99, 999, 10_000])
def test_bulk_pages_equal_row_reads(store: Store, page_size: int) -> None:
    """This includes pages over several chunks, and pages that end within a chunk."""
    with store.metering() as metering, store.components() as (ledger, _):
        record_history(metering, 60)
        payload = {"customer": 'x\n\u2028"\\ \U0001f600 ]],[', "value": "1"}
        metering.record_many([{"event_name": "tokens", "payload": payload}] * 1_000)
        events = row_by_row(ledger)
        assert len(events) == ledger.head() > 1_000
        assert read_bulk(ledger, page_size) == events


@pytest.mark.parametrize("back", [0, 3], ids=["last event", "inner event"])
def test_a_corrupted_event_is_reported_at_its_position(persistent_store: PersistentStore, back: int) -> None:
    """The events before it are folded and no others, with pages of any size, whatever its state is instead."""
    with persistent_store.metering() as metering, persistent_store.components() as (ledger, views):
        record_history(metering, 10)
        payload = {"customer": "acme", "value": "1"}
        metering.record_many([{"event_name": "tokens", "payload": payload}] * 9)
        position = ledger.head() - back
        page_sizes = cycle((*PAGE_SIZES, position))
        for name, state in CORRUPTED.items():
            change = "UPDATE stored_events SET state = ? WHERE position = ?"
            assert persistent_store.corrupt_ledger(change, state, position) == 1
            for page_size in islice(page_sizes, 3):  # so that the next corruption begins with another one
                views.reset()
                for _ in range(2):
                    with pytest.raises(ProjectionStopped) as stopped:
                        Projector(ledger, views, page_size).catch_up()
                    assert stopped.value.position == position, name
                    assert read_model_rows(views)[0] == position - 1, name


def test_a_state_over_several_lines_is_read(persistent_store: PersistentStore) -> None:
    """Newlines in a state are not taken for the newlines between the chunks of a page."""
    with persistent_store.metering() as metering, persistent_store.components() as (ledger, _):
        record_history(metering, 20)
        events = row_by_row(ledger)
        position = max(position for position, event in events if isinstance(event, MeterEventData))
        for spaced in (USAGE_STATE.replace(b",", b",\n "), b"\n" + USAGE_STATE + b"\n\n"):
            assert persistent_store.corrupt_ledger(
                "UPDATE stored_events SET state = ? WHERE position = ?", spaced, position
            )
            read = read_bulk(ledger, 10_000)
            assert read == row_by_row(ledger)
            assert read[: position - 1] + read[position:] == events[: position - 1] + events[position:]
            assert isinstance(read[position - 1][1], MeterEventData)


def limit_value_size(monkeypatch: pytest.MonkeyPatch, max_bytes: int) -> None:
    """Limit the size of values on SQLite, and of the chunks of a page on PostgreSQL."""
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def limited(*arguments: object, **named: object) -> sqlite3.Connection:
        connection = connect(*arguments, **named)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max_bytes)
        return connection

    monkeypatch.setattr(sqlite3, "connect", limited)
    monkeypatch.setattr(bulk_read, "MAX_CHUNK_BYTES", max_bytes)


def exceed_postgresql_limit(monkeypatch: pytest.MonkeyPatch, max_bytes: int) -> None:
    """Make the chunks of each page exceed PostgreSQL's limit of a value, and limit the size of values on SQLite."""
    limit_value_size(monkeypatch, max_bytes)
    too_long = "SELECT repeat('x', 2000000000)::bytea, %(after)s + %(until)s + %(longest)s::bigint"
    monkeypatch.setattr(bulk_read, "_SELECT_USAGE_DOCUMENT", too_long)


@pytest.mark.parametrize("limit", [limit_value_size, exceed_postgresql_limit])
def test_a_page_too_long_for_the_store_is_read_row_by_row(
    store: Store, limit: Callable[[pytest.MonkeyPatch, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The events are the same."""
    limit(monkeypatch, 20_000)
    with store.metering() as metering, store.components() as (ledger, views):
        record_history(metering, 200)
        usage_json, others, last, _ = ledger.read_page_bulk(0, 10_000)
        assert (usage_json, last) == (b"", 0)
        assert others
        assert read_bulk(ledger, 10_000) == row_by_row(ledger)
        assert Projector(ledger, views).catch_up() == ledger.head()
        assert metering.verify().is_equal


def test_the_first_page_is_short(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages can't be folded ahead before the meters of the ledger are known."""
    monkeypatch.setattr(page_projector, "CHUNK_SIZE", 5)
    reached: list[int] = []
    with store.metering() as metering, store.components() as (ledger, views):
        record_history(metering, 60)
        Projector(ledger, views, 20).catch_up(lambda page: reached.append(page.position))
        assert reached == [5, 25, 45, 65, ledger.head()]
        assert metering.verify().is_equal


def test_a_prefetched_page_ends_at_the_requested_position(store: Store) -> None:
    """Many cancellations after that position don't change this."""
    with store.metering() as metering, store.components() as (ledger, _), PageReader(ledger, 100, 1) as pages:
        record_history(metering, 60)
        cancels = [position for position, event in row_by_row(ledger) if isinstance(event, EventCancelledData)]
        pages.prefetch(0)
        page = pages.read(0, cancels[0] - 1)
        assert [position for position, _ in page] == list(range(1, cancels[0]))


def test_a_cancellation_of_a_later_event_is_reported(persistent_store: PersistentStore) -> None:
    """Totals are not computed past such a cancellation; the error has its position."""
    with persistent_store.metering() as metering, persistent_store.components() as (ledger, _):
        record_history(metering, 60)
        position, _, state = next(row for row in ledger.read_page(0, 100) if row[1] == EVENT_CANCELLED)
        later = re.sub(rb'"recorded_position":[0-9]+', b'"recorded_position":%d' % (position + 1), state)
        assert (
            persistent_store.corrupt_ledger("UPDATE stored_events SET state = ? WHERE position = ?", later, position)
            == 1
        )
        with pytest.raises(ProjectionStopped, match="it cancels a later event") as stopped:
            metering.replay_totals("tokens", START, END)
        assert stopped.value.position == position


def test_pages_are_read_if_no_thread_can_be_started(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Executors reject work after the main thread of a program has ended; pages are then read without prefetching."""
    with store.metering() as metering, store.components() as (ledger, views):
        record_history(metering, 60)
        monkeypatch.setattr("concurrent.futures.thread._shutdown", True)
        assert Projector(ledger, views, page_size=7).catch_up() == ledger.head()


def test_a_ledger_in_memory_is_read_by_one_thread(store: Store) -> None:
    """In memory, a reader blocks writers, so pages are not prefetched. Persistent ledgers prefetch the next page."""
    with store.metering() as metering, store.components() as (ledger, _):
        record_history(metering, 10)
        with PageReader(ledger, 5, 5) as pages:
            threads = threading.active_count()
            pages.prefetch(5)
            assert threading.active_count() - threads == store.location.is_persistent
