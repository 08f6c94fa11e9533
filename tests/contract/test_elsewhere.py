"""Other processes fold and count pages ahead; what comes of it is the same, also where one of them is lost."""

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tallybook.application.ledger import Ledger
from tallybook.domain.errors import LedgerUnavailable, ProjectionStopped
from tallybook.projections import Projector, elsewhere, replay, workers
from tallybook.projections.elsewhere import PagesElsewhere
from tallybook.projections.page_folder import PageFolder
from tallybook.projections.pages_ahead import PageRead, PagesAhead
from tallybook.projections.rows import StoredPage
from tallybook.projections.workers import PROCESSES, Workers

from .histories import CUSTOMERS, END, METERS, START, record_history, rows_of
from .kept_stores import KeptStore
from .stores import Store

PAGE = 20
PATIENCE_SECONDS = 60


class CountedWorkers(Workers):
    """Workers that count what they were asked, and are there before anybody else does it."""

    asked = 0

    def __init__(self, number: int) -> None:
        super().__init__(number)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._taking.qsize() < self.number * workers.AT_ONCE and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not self.are_over

    def call(self, function: Callable[..., Any], *arguments: object) -> Any:
        """What a worker answers."""
        CountedWorkers.asked += 1
        return super().call(function, *arguments)


@pytest.fixture
def two_workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """However little there is to do, two workers do it."""
    monkeypatch.setenv(PROCESSES, "3")
    monkeypatch.setattr(elsewhere, "APART_FROM", 0)
    monkeypatch.setattr(workers, "Workers", CountedWorkers)
    monkeypatch.setattr(replay, "PAGE_SIZE", PAGE)
    monkeypatch.setattr(CountedWorkers, "asked", 0)
    workers.end_kept()
    yield
    workers.end_kept()
    assert not children(), "a worker is left"


def children() -> set[int]:
    """The worker processes that this one has begun."""
    found: set[int] = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"workers import serve" in (status.parent / "cmdline").read_bytes():
                found.add(int(status.parent.name))
        except OSError:  # it has ended
            continue
    return found


@pytest.mark.usefixtures("two_workers")
def test_pages_folded_by_workers_make_the_same_rows(kept_store: KeptStore) -> None:
    """Meters are renamed and have uses cancelled on the way."""
    with kept_store.metering() as metering, kept_store.pieces() as (ledger, views):
        record_history(metering, 300)
        with pytest.MonkeyPatch.context() as alone:
            alone.setenv(PROCESSES, "1")
            Projector(ledger, views, PAGE).catch_up()
        plain = rows_of(views)
        assert CountedWorkers.asked == 0
        views.begin_anew()
        Projector(ledger, views, PAGE).catch_up()
        assert rows_of(views) == plain
        assert CountedWorkers.asked > 0


@pytest.mark.usefixtures("two_workers")
def test_pages_counted_by_workers_add_up_to_the_same_totals(kept_store: KeptStore) -> None:
    """Where every event stands for itself, and where the newest of each hour or day counts."""
    with kept_store.metering() as metering:
        record_history(metering, 300)
        for name in METERS:
            CountedWorkers.asked = 0
            assert metering.totals_from_ledger(name, START, END) == metering.totals(name, START, END)
            assert CountedWorkers.asked > 0


@pytest.mark.usefixtures("two_workers")
def test_what_was_begun_by_other_rules_is_begun_anew(kept_store: KeptStore) -> None:
    """As where another generation takes the place of the live one while pages are being folded."""
    with kept_store.metering() as metering, kept_store.pieces() as (ledger, views):
        record_history(metering, 300)
        Projector(ledger, views).catch_up()
        with views.reading() as rows:
            meters = rows.meters()
        by_region = meters["tokens"].rules.model_copy(update={"dimension_keys": ("region",)})
        others = {**meters, "tokens": meters["tokens"]._replace(rules=by_region)}
        numbers, head = {customer: number for number, customer in enumerate(CUSTOMERS, 1)}, ledger.head()
        CountedWorkers.asked = 0
        with pytest.MonkeyPatch.context() as nobody:
            nobody.setenv(PROCESSES, "1")
            alone = PageFolder(ledger, PAGE, 1_000, head)
        with alone, PageFolder(ledger, PAGE, 1_000, head) as helped:
            for after, known in ((PAGE, meters), (2 * PAGE, others), (3 * PAGE, others), (4 * PAGE, meters)):
                told, plain = (folder.page(after, head, known, numbers, {}) for folder in (helped, alone))
                assert told == plain
        assert CountedWorkers.asked > 0


@pytest.mark.usefixtures("two_workers")
def test_a_page_is_counted_again_where_a_newer_one_has_cancels_for_it(
    kept_store: KeptStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest page is fetched last, when the older ones were counted."""
    with kept_store.metering() as metering:
        record_history(metering, 100)
        early = [metering.event(identifier) for identifier in ("use-00001", "use-00012", "use-00034")]
        for one in early:
            metering.cancel(one.event_name, one.identifier)
        plain = {name: metering.totals(name, START, END) for name in METERS}
        newest = (metering._ledger.head() - 1) // PAGE * PAGE  # pyright: ignore[reportPrivateUsage]
        page_at_once, read = Ledger.page_at_once, PagesAhead.read
        counted_again: list[int] = []

        def late(self: Ledger, after: int, limit: int) -> StoredPage:
            time.sleep(0.3 if after == newest else 0)
            return page_at_once(self, after, limit)

        def read_here(self: PagesAhead, after: int, until: int) -> PageRead:
            counted_again.append(after)
            return read(self, after, until)

        monkeypatch.setattr(Ledger, "page_at_once", late)
        monkeypatch.setattr(PagesAhead, "read", read_here)
        for name in METERS:
            assert metering.totals_from_ledger(name, START, END) == plain[name]
        assert {(one.position - 1) // PAGE * PAGE for one in early} <= set(counted_again)


@pytest.mark.usefixtures("two_workers")
def test_a_worker_that_is_killed_is_done_without(kept_store: KeptStore, caplog: pytest.LogCaptureFixture) -> None:
    """What it had begun is folded by who asked for it; the log tells."""
    with kept_store.metering() as metering, kept_store.pieces() as (ledger, views):
        record_history(metering, 300)
        metering.catch_up()
        plain = rows_of(views)
        views.begin_anew()

        def kill(_: object) -> None:
            for child in children():
                os.kill(child, signal.SIGKILL)

        with caplog.at_level(logging.WARNING, "tallybook"):
            Projector(ledger, views, PAGE).catch_up(kill)
        assert rows_of(views) == plain
        assert [record.getMessage().split(" (")[0] for record in caplog.records] == [
            "Worker processes are done without"
        ]


@pytest.mark.usefixtures("two_workers")
def test_an_event_that_cannot_be_folded_is_told_by_who_asked(kept_store: KeptStore) -> None:
    """All before it is folded in, and totals aren't counted past it."""
    with kept_store.metering() as metering, kept_store.pieces() as (ledger, views):
        record_history(metering, 300)
        position = ledger.head() - 50
        assert kept_store.damage_ledger("UPDATE stored_events SET state = ? WHERE position = ?", b"{", position) == 1
        with pytest.raises(ProjectionStopped) as stopped:
            Projector(ledger, views, PAGE).catch_up()
        assert (stopped.value.position, rows_of(views)[0]) == (position, position - 1)
        with pytest.raises(ProjectionStopped) as stopped:
            metering.totals_from_ledger("tokens", START, END)
        assert stopped.value.position == position


@pytest.mark.usefixtures("two_workers")
def test_who_waits_for_a_page_does_one_that_follows(kept_store: KeptStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one worker that is slow, this process folds pages meanwhile; they are taken in their order."""
    monkeypatch.setenv(PROCESSES, "2")
    call, here = CountedWorkers.call, elsewhere.directly
    done_here: list[object] = []

    def slow(self: CountedWorkers, *asked: Any) -> Any:
        time.sleep(0.05)
        return call(self, *asked)

    def counted_here(*asked: Any) -> bytes:
        done_here.append(asked)
        return here(*asked)

    monkeypatch.setattr(CountedWorkers, "call", slow)
    monkeypatch.setattr(elsewhere, "directly", counted_here)
    with kept_store.metering() as metering, kept_store.pieces() as (ledger, views):
        record_history(metering, 300)
        metering.catch_up()
        plain = rows_of(views)
        views.begin_anew()
        Projector(ledger, views, PAGE).catch_up()
        assert rows_of(views) == plain
        assert done_here


def test_pages_are_asked_for_again_and_again(kept_store: KeptStore) -> None:
    """As a store does that tries a page again, while those that follow still wait; in the end from the beginning."""
    with kept_store.metering() as metering, kept_store.pieces() as (ledger, _), pytest.MonkeyPatch.context() as patch:
        record_history(metering, 300)
        patch.setenv(PROCESSES, "2")
        spans = [(after, after + PAGE) for after in range(0, ledger.head() - PAGE, PAGE)]
        pages: PagesElsewhere[int] = PagesElsewhere(ledger, 1_000_000)
        with pages:
            for place, span in [*enumerate(spans), *enumerate(spans)]:
                for _ in range(2):
                    assert pages.told(span, spans[place + 1 :], lambda span, page, _: page.last - span[0]) == PAGE
    workers.end_kept()


def test_what_goes_wrong_with_a_page_is_told_when_it_is_its_turn(
    kept_store: KeptStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with one before it; and it can be asked for again."""
    monkeypatch.setenv(PROCESSES, "2")
    with kept_store.metering() as metering, kept_store.pieces() as (ledger, _):
        record_history(metering, 100)
        page_at_once, broken = ledger.page_at_once, [3 * PAGE]

        def breaking(after: int, limit: int) -> StoredPage:
            if after in broken:
                raise LedgerUnavailable("gone")
            return page_at_once(after, limit)

        monkeypatch.setattr(ledger, "page_at_once", breaking)
        spans = [(after, after + PAGE) for after in range(0, 5 * PAGE, PAGE)]
        pages: PagesElsewhere[int] = PagesElsewhere(ledger, 1_000_000)

        def tell(place: int) -> int | None:
            return pages.told(spans[place], spans[place + 1 :], lambda _, page, __: page.last)

        with pages:
            assert [tell(place) for place in range(3)] == [PAGE, 2 * PAGE, 3 * PAGE]
            for _ in range(2):
                with pytest.raises(LedgerUnavailable):
                    tell(3)
            broken.clear()
            assert [tell(3), tell(4)] == [4 * PAGE, 5 * PAGE]
    workers.end_kept()


def test_no_worker_is_begun_for_little_or_where_it_is_not_wanted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """To begin one takes as long as to fold tens of thousands of events."""
    begun: list[int] = []
    monkeypatch.setattr(elsewhere, "workers", begun.append)
    with store.metering() as metering, store.pieces() as (ledger, views):
        record_history(metering, 30)
        Projector(ledger, views).catch_up()
        monkeypatch.setattr(elsewhere, "APART_FROM", 0)
        monkeypatch.setenv(PROCESSES, "1")
        views.begin_anew()
        Projector(ledger, views).catch_up()
        metering.totals_from_ledger("tokens", START, END)
    assert begun == []
