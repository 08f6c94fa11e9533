"""A page of the ledger is read at once where it can be, and says the same as its rows; what is damaged is told."""

import re
import sqlite3
import threading
from collections.abc import Callable

import pytest
from tallybook.application.ledger import Ledger
from tallybook.application.stores import postgres_ledger
from tallybook.domain.errors import ProjectionStopped
from tallybook.domain.meter_event import ReportedUse
from tallybook.projections import Projector, page_folder
from tallybook.projections.pages_ahead import PagesAhead
from tallybook.projections.rows import EVENT_CANCELLED
from tallybook.projections.stored_events import Cancel, StoredEvent, read_rows

from .histories import END, START, record_history, rows_of
from .kept_stores import KeptStore
from .stores import Store

USE = (
    b'{"recorded_at":"2026-11-01T00:00:00Z","event_name":"tokens","payload":{"customer":"acme","value":"7"},'
    b'"occurred_at":"2026-10-01T00:00:00Z"}'
)
DAMAGED = {
    "not JSON": b"{",
    "not UTF-8": USE.replace(b"acme", b"\xff"),
    "nothing": b"",
    "a NUL": USE + b"\0",
    "more behind it": USE + b',"more"',
    "another event behind it": USE + b"," + USE,
    "another event that says nothing behind it": USE + b",null",
    "what says nothing": b"null",
    "what stands for another event": b"\x02",
    "what stands for another event behind it": USE + b",\x02",
    "what stands for another event inside of a text": USE.replace(b"acme", b"ac\x02me"),
    "what stands for another event in a field": USE[:-1] + b',"more":\x02}',
    "another part behind it": USE + b"]\n[" + USE,
    "the end of the page": USE + b"]",
}
PAGE_SIZES = [1, 7, 10_000]


def at_once(ledger: Ledger, page_size: int) -> list[StoredEvent]:
    """All events as the projector reads them."""
    found: list[StoredEvent] = []
    with PagesAhead(ledger, page_size, 10_000) as pages:
        position, head = 0, ledger.head()
        while position < head:
            page = pages.read(position, head)
            found += page
            position = page.position
    return found


def row_by_row(ledger: Ledger) -> list[StoredEvent]:
    """All events as their rows give them."""
    return list(read_rows(ledger.page(0, 10_000)))


@pytest.mark.parametrize("page_size", [99, 999, 10_000])
def test_pages_say_what_rows_say(store: Store, page_size: int) -> None:
    """Over the end of a part too, and in pages that end within one."""
    with store.metering() as metering, store.pieces() as (ledger, _):
        record_history(metering, 60)
        payload = {"customer": 'x\n\u2028"\\ \U0001f600 ]],[', "value": "1"}
        metering.record_many([{"event_name": "tokens", "payload": payload}] * 1_000)
        events = row_by_row(ledger)
        assert len(events) == ledger.head() > 1_000
        assert at_once(ledger, page_size) == events


@pytest.mark.parametrize("back", [0, 3], ids=["the last event", "one among others"])
@pytest.mark.parametrize("damaged", DAMAGED)
def test_what_is_damaged_is_told_at_its_position(kept_store: KeptStore, damaged: str, back: int) -> None:
    """All before it is folded in, and nothing of it, in pages of any size; no other event comes of it."""
    with kept_store.metering() as metering, kept_store.pieces() as (ledger, views):
        record_history(metering, 10)
        payload = {"customer": "acme", "value": "1"}
        metering.record_many([{"event_name": "tokens", "payload": payload}] * 9)
        position = ledger.head() - back
        state = DAMAGED[damaged]
        assert kept_store.damage_ledger("UPDATE stored_events SET state = ? WHERE position = ?", state, position) == 1
        for page_size in (*PAGE_SIZES, position):
            views.begin_anew()
            for _ in range(2):
                with pytest.raises(ProjectionStopped) as stopped:
                    Projector(ledger, views, page_size).catch_up()
                assert stopped.value.position == position
                assert rows_of(views)[0] == position - 1


def test_a_state_over_several_lines_is_read(kept_store: KeptStore) -> None:
    """A line in a page ends a part; whoever wrote it so, it is the same event."""
    with kept_store.metering() as metering, kept_store.pieces() as (ledger, _):
        record_history(metering, 20)
        events = row_by_row(ledger)
        position = max(position for position, event in events if isinstance(event, ReportedUse))
        for spaced in (USE.replace(b",", b",\n "), b"\n" + USE + b"\n\n"):
            assert kept_store.damage_ledger("UPDATE stored_events SET state = ? WHERE position = ?", spaced, position)
            read = at_once(ledger, 10_000)
            assert read == row_by_row(ledger)
            assert read[: position - 1] + read[position:] == events[: position - 1] + events[position:]
            assert isinstance(read[position - 1][1], ReportedUse)


def shortened(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Let values on SQLite, and parts of a page on PostgreSQL, be of so many bytes at most."""
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def limited(*arguments: object, **named: object) -> sqlite3.Connection:
        connection = connect(*arguments, **named)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, most)
        return connection

    monkeypatch.setattr(sqlite3, "connect", limited)
    monkeypatch.setattr(postgres_ledger, "LONGEST_PART", most)


def past_what_postgresql_can(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Let a part of any page be longer than any value of PostgreSQL's; values on SQLite of so many bytes at most."""
    shortened(monkeypatch, most)
    too_long = "SELECT repeat('x', 2000000000)::bytea, %(after)s + %(until)s + %(longest)s::bigint"
    monkeypatch.setattr(postgres_ledger, "_USES_AT_ONCE", too_long)


@pytest.mark.parametrize("shorten", [shortened, past_what_postgresql_can])
def test_a_page_that_is_too_long_for_the_store_is_read_row_by_row(
    store: Store, shorten: Callable[[pytest.MonkeyPatch, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says the same."""
    shorten(monkeypatch, 20_000)
    with store.metering() as metering, store.pieces() as (ledger, views):
        record_history(metering, 200)
        uses, others, last = ledger.page_at_once(0, 10_000)
        assert (uses, last) == (b"", 0)
        assert others
        assert at_once(ledger, 10_000) == row_by_row(ledger)
        assert Projector(ledger, views).catch_up() == ledger.head()
        assert metering.verify().is_equal


def test_the_first_page_is_short(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be folded ahead by meters that nobody knows yet."""
    monkeypatch.setattr(page_folder, "PAGE_PART", 5)
    reached: list[int] = []
    with store.metering() as metering, store.pieces() as (ledger, views):
        record_history(metering, 60)
        Projector(ledger, views, 20).catch_up(lambda page: reached.append(page.position))
        assert reached == [5, 25, 45, 65, ledger.head()]
        assert metering.verify().is_equal


def test_a_page_that_was_fetched_ahead_ends_where_it_is_to(store: Store) -> None:
    """Also where there are many cancels in it, behind that end."""
    with store.metering() as metering, store.pieces() as (ledger, _), PagesAhead(ledger, 100, 1) as pages:
        record_history(metering, 60)
        cancels = [position for position, event in row_by_row(ledger) if isinstance(event, Cancel)]
        pages.fetch(0)
        page = pages.read(0, cancels[0] - 1)
        assert [position for position, _ in page] == list(range(1, cancels[0]))


def test_a_cancel_of_what_comes_after_it_is_told(kept_store: KeptStore) -> None:
    """No use is left out because of it, or counted: nothing is."""
    with kept_store.metering() as metering, kept_store.pieces() as (ledger, _):
        record_history(metering, 60)
        position, _, state = next(row for row in ledger.page(0, 100) if row[1] == EVENT_CANCELLED)
        later = re.sub(rb'"recorded_position":[0-9]+', b'"recorded_position":%d' % (position + 1), state)
        assert kept_store.damage_ledger("UPDATE stored_events SET state = ? WHERE position = ?", later, position) == 1
        with pytest.raises(ProjectionStopped, match="what comes after it") as stopped:
            metering.totals_from_ledger("tokens", START, END)
        assert stopped.value.position == position


def test_pages_are_read_where_no_thread_can_be_had(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after the main thread of a program has ended: the executors of other threads take nothing any more."""
    with store.metering() as metering, store.pieces() as (ledger, views):
        record_history(metering, 60)
        monkeypatch.setattr("concurrent.futures.thread._shutdown", True)
        assert Projector(ledger, views, page_size=7).catch_up() == ledger.head()


def test_a_ledger_in_memory_is_read_by_one_thread(store: Store) -> None:
    """Who reads a table there keeps others from writing to it; of a lasting one the next page is fetched meanwhile."""
    with store.metering() as metering, store.pieces() as (ledger, _):
        record_history(metering, 10)
        with PagesAhead(ledger, 5, 5) as pages:
            threads = threading.active_count()
            pages.fetch(5)
            assert threading.active_count() - threads == store.place.is_lasting
