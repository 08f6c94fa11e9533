"""The contract of the projector: pages exactly once, whatever is killed when, and never past what can't be folded."""

import threading
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from typing import Any, cast

import pytest
from tallybook.application import Metering
from tallybook.application.ledger import Ledger
from tallybook.application.stores.stored_rows import StoredRows
from tallybook.domain import Formula, Rules
from tallybook.domain.errors import ProjectionStopped
from tallybook.projections import Progress, projector
from tallybook.projections.projector import Projector
from tallybook.projections.rows import DisposableViews, Fold, Rows, Views, WritableRows

from .histories import METERS, Contents, answers, record_history, rows_of
from .kept_stores import KeptStore
from .stores import NOW, Store

PATIENCE_SECONDS = 0.3
PAGE = 9


class Fault(Exception):
    """The power is cut."""


class FaultyRows:
    """Rows whose Nth call, counted over all pages, is the last thing that happens: before it, or just after it."""

    def __init__(self, rows: WritableRows, strike: Callable[[], bool], *, after: bool) -> None:
        self._rows = rows
        self._strike = strike
        self._after = after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._rows, name)
        if not callable(method):
            return method

        def called(*args: Any) -> Any:
            struck = self._strike()
            if struck and not self._after:
                raise Fault
            answer = method(*args)
            if struck:
                raise Fault
            return answer

        return called


class FaultyViews:
    """Read models that fail once, at the Nth call to their rows."""

    def __init__(self, views: Views, nth: int, *, after: bool) -> None:
        self._views = views
        self._calls = count(1)
        self._nth = nth
        self._after = after
        self.struck = False

    def reading(self) -> Any:
        """Reading never fails here."""
        return self._views.reading()

    def writing(self) -> Any:
        """Nor does what isn't a page."""
        return self._views.writing()

    def take_page(self, fold: Fold) -> int:
        """A page whose rows may fail while they are written."""

        def faulty(rows: Rows) -> Callable[[WritableRows], None] | None:
            write = fold(rows)
            return None if write is None else lambda onto: write(self._faulty(onto))

        return self._views.take_page(faulty)

    def _faulty(self, rows: WritableRows) -> WritableRows:
        return cast(WritableRows, FaultyRows(rows, self._strikes, after=self._after))

    def _strikes(self) -> bool:
        self.struck = self.struck or next(self._calls) == self._nth
        return self.struck


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_page_is_in_wholly_or_not_at_all(store: Store, after: bool) -> None:
    """Cut off at each call in turn that a page makes to its rows: the rows are those of the position they say, and
    once folded to the end equal those of a fold that nothing happened to."""
    with store.metering() as metering:
        record_history(metering, 10)
        with store.pieces() as (ledger, views):
            views.begin_anew()
            after_page = {0: rows_of(views)}
            Projector(ledger, views, PAGE).catch_up(lambda page: after_page.update({page.position: rows_of(views)}))
            nth, struck = 0, True
            while struck:
                nth += 1
                views.begin_anew()
                faulty = FaultyViews(views, nth, after=after)
                try:
                    Projector(ledger, faulty, PAGE).catch_up()
                except Fault:
                    reached, rows = rows_of(views)
                    assert (reached, rows) == after_page[reached], f"call {nth}"
                    Projector(ledger, views, PAGE).catch_up()
                    assert rows_of(views) == after_page[ledger.head()], f"call {nth}"
                struck = faulty.struck
            assert nth > 4 * len(after_page)


def test_no_page_is_folded_in_twice_by_two_that_take_turns(store: Store) -> None:
    """Two that catch up page by page, now one and now the other, fold each event in once."""
    with store.metering() as metering:
        record_history(metering)
        with store.pieces() as (ledger, views):
            expected = _folded(ledger, views, 10_000)
            store.forget()
            turns = count()

            def other(_: Progress) -> None:
                if next(turns) % 2:
                    Projector(ledger, views, 7).catch_up()

            Projector(ledger, views, 11).catch_up(other)
            assert rows_of(views) == expected


class OvertakenViews:
    """Read models with which something happens between the folding of the first page and its writing.

    A store may let it, or have it wait until the page is written.
    """

    def __init__(self, views: Views, happens: Callable[[], object]) -> None:
        self.reading = views.reading
        self.writing = views.writing
        self._views = views
        self._happening = threading.Thread(target=happens)

    def take_page(self, fold: Fold) -> int:
        """A page, with what happens meanwhile."""

        def overtaken(rows: Rows) -> Callable[[WritableRows], None] | None:
            write = fold(rows)
            if self._happening.ident is None:
                self._happening.start()
                self._happening.join(PATIENCE_SECONDS)
            return write

        reached = self._views.take_page(overtaken)
        self._happening.join()
        return reached


def test_a_page_that_another_has_folded_in_meanwhile_is_not_folded_in_again(kept_store: KeptStore) -> None:
    """Overtaken between folding a page and writing it, by one that took a smaller page: it is folded anew."""
    with kept_store.metering() as metering:
        record_history(metering)
        with kept_store.pieces() as (ledger, views), kept_store.pieces() as (_, others):
            expected = _folded(ledger, views, 10_000)
            for page_size in (5, 40, 10_000):
                views.begin_anew()
                overtaken = OvertakenViews(views, lambda: Projector(ledger, others, 7).catch_up(until=21))
                assert Projector(ledger, overtaken, page_size).catch_up() == ledger.head()
                assert rows_of(views) == expected, f"page size {page_size}"


def test_a_page_of_one_generation_is_never_written_into_another(kept_store: KeptStore) -> None:
    """Promoted between folding a page and writing it, a generation under other rules takes nothing of that page."""
    with kept_store.metering() as metering:
        record_history(metering)
        with kept_store.pieces() as (ledger, views), kept_store.pieces() as (_, others):
            head = ledger.head()
            kept_store.forget()
            Projector(ledger, views).catch_up(until=head // 2)
            rules = {"tokens": Rules(formula=Formula.LAST, customer_key="region")}
            other = views.begin(rules).number
            Projector(ledger, views.of(other)).catch_up(until=head // 2)
            overtaken = OvertakenViews(views, lambda: others.make_live(other, {}))
            Projector(ledger, overtaken).catch_up()
            Projector(ledger, views).catch_up()  # where the promotion waited for the page
            with views.scratch(rules) as scratch:
                Projector(ledger, scratch).catch_up()
                assert rows_of(views) == rows_of(scratch)


def test_rows_of_every_page_size_are_equal(store: Store) -> None:
    """How the ledger is cut into pages leaves no trace in the rows."""
    with store.metering() as metering:
        record_history(metering, 60)
        with store.pieces() as (ledger, views):
            expected = _folded(ledger, views, 10_000)
            for page_size in (1, 2, 3, 7, 10, 11, 50, ledger.head() - 1, ledger.head()):
                assert _folded(ledger, views, page_size) == expected, f"page size {page_size}"


def test_a_page_of_many_cancels_is_cut(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for thousands of them; the rows are those of a whole page."""
    with store.metering() as metering:
        record_history(metering, 60)
        with store.pieces() as (ledger, views):
            expected = _folded(ledger, views, 10_000)
            monkeypatch.setattr(projector, "MOST_CANCELS", 2)
            views.begin_anew()
            reached: list[int] = []
            Projector(ledger, views).catch_up(lambda page: reached.append(page.position))
            assert len(reached) > 2
            assert reached[-1] == ledger.head()
            assert rows_of(views) == expected


def test_read_models_begun_anew_meanwhile_are_folded_from_nothing(store: Store) -> None:
    """Numbers of customers that were looked up in the former ones are not taken for theirs."""
    with store.metering() as metering:
        record_history(metering, 60)
        with store.pieces() as (ledger, views):
            expected = _folded(ledger, views, 10_000)
            pages: list[Progress] = []

            def begin_anew(page: Progress) -> None:
                pages.append(page)
                if len(pages) == 4:
                    views.begin_anew()

            views.begin_anew()
            Projector(ledger, views, 10).catch_up(begin_anew)
            assert [pages[3].position, pages[4].position] == [40, 10]
            assert rows_of(views) == expected


def test_catching_up_folds_to_the_head_as_of_the_call(store: Store) -> None:
    """What is recorded before a question is in its answer; progress tells position and head after each page."""
    with store.metering() as metering:
        record_history(metering)
        store.forget()
        with store.pieces() as (ledger, views):
            told: list[Progress] = []
            reached = Projector(ledger, views, 50).catch_up(told.append)
            assert reached == ledger.head()
            assert [one.position for one in told] == [*range(50, reached, 50), reached]
            assert {one.head for one in told} == {reached}
            assert all(one.events_per_second > 0 for one in told)
            again: list[Progress] = []
            assert Projector(ledger, views).catch_up(again.append) == reached
            assert again == []


BAD_EVENTS = {
    "not JSON": ("UsageRecorded", b"{"),
    "a field missing": ("UsageRecorded", b'{"event_name":"tokens"}'),
    "no such meter": (
        "UsageRecorded",
        (
            b'{"recorded_at":"2026-11-01T00:00:00Z","event_name":"nothing","payload":{"customer":"acme","value":"1"},'
            b'"occurred_at":"2026-10-01T00:00:00Z"}'
        ),
    ),
    "no number": (
        "UsageRecorded",
        (
            b'{"recorded_at":"2026-11-01T00:00:00Z","event_name":"tokens","payload":{"customer":"acme","value":"1e3"},'
            b'"occurred_at":"2026-10-01T00:00:00Z"}'
        ),
    ),
    "not UTF-8": ("UsageRecorded", b'{"event_name":"\xff"}'),
    "a topic of later": ("UsageDoubled", b"{}"),
    "a cancel of nothing": (
        "EventCancelled",
        (
            b'{"recorded_at":"2026-11-01T00:00:00Z","event_name":"tokens","payload":{"customer":"acme","value":"1"},'
            b'"occurred_at":"2026-10-01T00:00:00Z","recorded_position":1,"reason":null,"by":null}'
        ),
    ),
    "a cancel in another meter": (
        "EventCancelled",
        (
            b'{"recorded_at":"2026-11-01T00:00:00Z","event_name":"seats","payload":{"customer":"acme","value":"1"},'
            b'"occurred_at":"2026-10-01T00:00:00Z","recorded_position":1,"reason":null,"by":null}'
        ),
    ),
    "a time without a zone": (
        "UsageRecorded",
        (
            b'{"recorded_at":"2026-11-01T00:00:00Z","event_name":"tokens","payload":{"customer":"acme","value":"1"},'
            b'"occurred_at":"2026-10-01T00:00:00"}'
        ),
    ),
    "a meter that is there already": (
        "Configured",
        b'{"recorded_at":"2026-11-01T00:00:00Z","event_name":"tokens","display_name":"tokens","rules":{"formula":"last"}}',
    ),
    "a meter without rules": ("Configured", b'{"event_name":"strange"}'),
}


@pytest.mark.parametrize("bad", BAD_EVENTS)
@pytest.mark.parametrize("page_size", [1, 10, 10_000])
def test_the_projector_stops_at_an_event_that_cannot_be_folded(store: Store, bad: str, page_size: int) -> None:
    """It says which position and why, has folded in all before it, and stops there again; it never skips."""
    with store.metering() as metering:
        record_history(metering, 10)
        with store.pieces() as (ledger, views):
            expected = _folded(ledger, views, page_size)
            good = ledger.head()
            _store_bad(ledger, bad)
            metering.record_many([{"event_name": "tokens", "payload": {"customer": "acme", "value": "1"}}] * 3)
            for _ in range(2):
                with pytest.raises(ProjectionStopped, match=f"position {good + 1}") as stopped:
                    Projector(ledger, views, page_size).catch_up()
                assert (stopped.value.position, stopped.value.code) == (good + 1, "projection_stopped")
                assert rows_of(views) == expected
            store.forget()
            with pytest.raises(ProjectionStopped, match=f"position {good + 1}"):
                Projector(ledger, views, page_size).catch_up()
            assert rows_of(views) == expected


@pytest.mark.parametrize(
    "bad", [("a cancel of nothing", "not JSON"), ("a cancel in another meter", "a cancel of nothing")]
)
def test_of_two_bad_events_in_a_page_the_first_is_named(store: Store, bad: tuple[str, str]) -> None:
    """Whatever is wrong with events, decoding or counting them, all before the first such one is folded in."""
    with store.metering() as metering:
        record_history(metering, 20)
        with store.pieces() as (ledger, views):
            expected = _folded(ledger, views, 10_000)
            good = ledger.head()
            for one in bad:
                _store_bad(ledger, one)
            store.forget()
            with pytest.raises(ProjectionStopped) as stopped:
                Projector(ledger, views).catch_up()
            assert stopped.value.position == good + 1
            assert rows_of(views) == expected


def test_a_question_says_where_the_projection_stopped(metering: Metering, store: Store) -> None:
    """A question past a bad event is refused with its position; it is never answered from before the call."""
    record_history(metering, 10)
    assert set(answers(metering)) == set(METERS)
    with store.pieces() as (ledger, _):
        _store_bad(ledger, "not JSON")
        with pytest.raises(ProjectionStopped, match=f"position {ledger.head()}"):
            answers(metering)


def _folded(ledger: Ledger, views: DisposableViews, page_size: int) -> tuple[int, Contents]:
    """What the read models hold after a fresh fold, page by page."""
    views.begin_anew()
    Projector(ledger, views, page_size).catch_up()
    return rows_of(views)


def _store_bad(ledger: Ledger, bad: str) -> None:
    """Store an event past the application, as damage or a later version would."""
    ledger.ledger_recorder.insert_rows([(f"event/bad {bad}", 1, *BAD_EVENTS[bad])])


@pytest.mark.parametrize("window", [None, "hour"])
def test_a_bucket_is_read_once_however_many_dimension_values_it_has(
    store: Store, window: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a customer's day with 3,000 of them would be read 3,000 times."""
    with store.metering() as metering, store.pieces() as (ledger, views):
        metering.configure_meter("calls", event_time_window=window, dimension_keys=["place"])
        for number in range(10):
            payload = {"stripe_customer_id": "acme", "value": "1", "place": str(number)}
            metering.record("calls", payload, identifier=f"use {number}")
        metering.catch_up()
        for number in range(9):
            metering.cancel("calls", f"use {number}")
        read: list[str] = []
        for name in ("runs", "usages", "buckets"):
            noted = _noted(getattr(StoredRows, name), name, read)
            monkeypatch.setattr(StoredRows, name, noted)
        Projector(ledger, views).catch_up()
        assert len(read) <= 3, read
        (total,) = metering.totals("calls", NOW - timedelta(days=1), NOW + timedelta(days=1))
        assert total.count == 1


def _noted(method: Callable[..., Any], name: str, into: list[str]) -> Callable[..., Any]:
    def called(*args: Any) -> Any:
        into.append(name)
        return method(*args)

    return called
