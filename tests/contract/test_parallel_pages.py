"""Worker processes fold and count pages ahead; the results are the same, even if a worker process dies."""

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tallybook.application.ledger.ledger import Ledger
from tallybook.application.python_process import MAX_PROCESSES_SETTING
from tallybook.application.read_models import worker_pool
from tallybook.application.read_models.worker_pool import WORKER_PROCESSES, WorkerPool
from tallybook.domain.errors import LedgerUnavailable, ProjectionStopped
from tallybook.projections import Projector, parallel_pages
from tallybook.projections.models import RawPage
from tallybook.projections.page_projector import PageProjector
from tallybook.projections.page_reader import LedgerPage, PageReader
from tallybook.projections.parallel_pages import ParallelPages

from .histories import CUSTOMERS, END, METERS, START, read_model_rows, record_history
from .persistent_stores import PersistentStore
from .stores import Store

PAGE = 20
TIMEOUT_SECONDS = 60


class CountingWorkerPool(WorkerPool):
    """A worker pool that counts its calls. Its workers are ready when the constructor returns."""

    calls = 0

    def __init__(self, size: int) -> None:
        super().__init__(size)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while self._available.qsize() < self.size * worker_pool.PIPELINE_DEPTH and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not self.is_closed

    def call(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Count a call, and return the result of the worker."""
        CountingWorkerPool.calls += 1
        return super().call(function, *arguments)


@pytest.fixture
def two_workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Use two workers for a ledger of any size."""
    monkeypatch.setenv(MAX_PROCESSES_SETTING, "3")
    monkeypatch.setattr(WORKER_PROCESSES, "min_events", 0)
    monkeypatch.setattr(worker_pool, "WorkerPool", CountingWorkerPool)
    monkeypatch.setattr(CountingWorkerPool, "calls", 0)
    worker_pool.shutdown_idle_workers()
    yield
    worker_pool.shutdown_idle_workers()
    assert not worker_pids(), "a worker process is still running"


def worker_pids() -> set[int]:
    """Return the ids of the worker processes that this process started."""
    pids: set[int] = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"worker_main.py" in (status.parent / "cmdline").read_bytes():
                pids.add(int(status.parent.name))
        except OSError:  # the process has ended
            continue
    return pids


@pytest.mark.usefixtures("two_workers")
def test_pages_folded_in_workers_give_the_same_rows(persistent_store: PersistentStore) -> None:
    """Meters are renamed and meter events cancelled within the pages."""
    with persistent_store.metering() as metering, persistent_store.components() as (ledger, views):
        record_history(metering, 300)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(MAX_PROCESSES_SETTING, "1")
            Projector(ledger, views, PAGE, workers=WORKER_PROCESSES).catch_up()
        plain = read_model_rows(views)
        assert CountingWorkerPool.calls == 0
        views.reset()
        Projector(ledger, views, PAGE, workers=WORKER_PROCESSES).catch_up()
        assert read_model_rows(views) == plain
        assert CountingWorkerPool.calls > 0


@pytest.mark.usefixtures("two_workers")
def test_pages_counted_in_workers_give_the_same_totals(persistent_store: PersistentStore) -> None:
    """This holds without a window, and with windows in which only the newest event counts."""
    with persistent_store.metering() as metering:
        metering._projector.page_size = PAGE  # pyright: ignore[reportPrivateUsage]
        record_history(metering, 300)
        for name in METERS:
            CountingWorkerPool.calls = 0
            assert metering.replay_totals(name, START, END) == metering.totals(name, START, END)
            assert CountingWorkerPool.calls > 0


@pytest.mark.usefixtures("two_workers")
def test_pages_pending_under_other_rules_are_submitted_again(persistent_store: PersistentStore) -> None:
    """This happens if another generation is promoted while workers fold pages."""
    with persistent_store.metering() as metering, persistent_store.components() as (ledger, views):
        record_history(metering, 300)
        Projector(ledger, views, workers=WORKER_PROCESSES).catch_up()
        with views.read_session() as rows:
            meters = rows.meters()
        (folded,) = meters["tokens"].folded
        by_region = folded._replace(rules=folded.rules.model_copy(update={"dimension_keys": ("region",)}))
        others = {**meters, "tokens": replace(meters["tokens"], folded=(by_region,))}
        numbers, head = {customer: number for number, customer in enumerate(CUSTOMERS, 1)}, ledger.head()

        def ids_of(customers: Sequence[str]) -> list[int]:
            return [numbers[customer] for customer in customers]

        CountingWorkerPool.calls = 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(MAX_PROCESSES_SETTING, "1")
            local_projector = PageProjector(ledger, PAGE, 1_000, head, WORKER_PROCESSES)
        with local_projector, PageProjector(ledger, PAGE, 1_000, head, WORKER_PROCESSES) as parallel_projector:
            for after, known_meters in ((PAGE, meters), (2 * PAGE, others), (3 * PAGE, others), (4 * PAGE, meters)):
                parallel_page, local_page = (
                    folder.fold_next(after, head, known_meters, ids_of, {})
                    for folder in (parallel_projector, local_projector)
                )
                assert parallel_page == local_page._replace(last_event=None)  # workers don't return it
        assert CountingWorkerPool.calls > 0


@pytest.mark.usefixtures("two_workers")
def test_a_page_is_counted_again_if_a_newer_page_cancels_its_events(
    persistent_store: PersistentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest page is read last, after the older pages were counted."""
    with persistent_store.metering() as metering:
        metering._projector.page_size = PAGE  # pyright: ignore[reportPrivateUsage]
        record_history(metering, 100)
        early = [metering.event(identifier) for identifier in ("use-00001", "use-00012", "use-00034")]
        for receipt in early:
            metering.cancel(receipt.event_name, receipt.identifier)
        plain = {name: metering.totals(name, START, END) for name in METERS}
        newest = (metering._ledger.head() - 1) // PAGE * PAGE  # pyright: ignore[reportPrivateUsage]
        page_at_once, read = Ledger.read_page_bulk, PageReader.read
        counted_again: list[int] = []

        def slow_page(self: Ledger, after: int, limit: int) -> RawPage:
            time.sleep(0.3 if after == newest else 0)  # the other pages are counted first
            return page_at_once(self, after, limit)

        def read_here(self: PageReader, after: int, until: int) -> LedgerPage:
            counted_again.append(after)
            return read(self, after, until)

        monkeypatch.setattr(Ledger, "read_page_bulk", slow_page)
        monkeypatch.setattr(PageReader, "read", read_here)
        for name in METERS:
            assert metering.replay_totals(name, START, END) == plain[name]
        assert {(receipt.position - 1) // PAGE * PAGE for receipt in early} <= set(counted_again)


@pytest.mark.usefixtures("two_workers")
def test_a_killed_worker_is_replaced_by_local_folding(
    persistent_store: PersistentStore, caplog: pytest.LogCaptureFixture
) -> None:
    """The calling process folds the pages of the killed worker, and a warning is logged."""
    with persistent_store.metering() as metering, persistent_store.components() as (ledger, views):
        record_history(metering, 300)
        metering.catch_up()
        plain = read_model_rows(views)
        views.reset()

        def kill(_: object) -> None:
            for child in worker_pids():
                os.kill(child, signal.SIGKILL)

        with caplog.at_level(logging.WARNING, "tallybook"):
            Projector(ledger, views, PAGE, workers=WORKER_PROCESSES).catch_up(kill)
        assert read_model_rows(views) == plain
        assert [record.getMessage().split(" (")[0] for record in caplog.records] == ["A worker process was lost"]


@pytest.mark.usefixtures("two_workers")
def test_a_folding_error_in_a_worker_is_raised_to_the_caller(persistent_store: PersistentStore) -> None:
    """The events before the invalid event are folded, and totals are not computed past it."""
    with persistent_store.metering() as metering, persistent_store.components() as (ledger, views):
        metering._projector.page_size = PAGE  # pyright: ignore[reportPrivateUsage]
        record_history(metering, 300)
        position = ledger.head() - 50
        assert (
            persistent_store.corrupt_ledger("UPDATE stored_events SET state = ? WHERE position = ?", b"{", position)
            == 1
        )
        with pytest.raises(ProjectionStopped) as stopped:
            Projector(ledger, views, PAGE, workers=WORKER_PROCESSES).catch_up()
        assert (stopped.value.position, read_model_rows(views)[0]) == (position, position - 1)
        with pytest.raises(ProjectionStopped) as stopped:
            metering.replay_totals("tokens", START, END)
        assert stopped.value.position == position


@pytest.mark.usefixtures("two_workers")
def test_while_waiting_for_a_page_the_caller_folds_an_upcoming_page(
    persistent_store: PersistentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the only worker is slow, the calling process folds pages too. Pages are applied in order."""
    monkeypatch.setenv(MAX_PROCESSES_SETTING, "2")
    call, here = CountingWorkerPool.call, parallel_pages.call_locally
    done_here: list[object] = []

    def slow(self: CountingWorkerPool, *arguments: Any) -> Any:
        time.sleep(0.05)  # the pool is slow
        return call(self, *arguments)

    def count_local_call(*arguments: Any) -> bytes:
        done_here.append(arguments)
        return here(*arguments)

    monkeypatch.setattr(CountingWorkerPool, "call", slow)
    monkeypatch.setattr(parallel_pages, "call_locally", count_local_call)
    with persistent_store.metering() as metering, persistent_store.components() as (ledger, views):
        record_history(metering, 300)
        metering.catch_up()
        plain = read_model_rows(views)
        views.reset()
        Projector(ledger, views, PAGE, workers=WORKER_PROCESSES).catch_up()
        assert read_model_rows(views) == plain
        assert done_here


def test_pages_can_be_requested_repeatedly(persistent_store: PersistentStore) -> None:
    """A page can be requested again while later pages are pending, as a store does when it retries a page."""
    with (
        persistent_store.metering() as metering,
        persistent_store.components() as (ledger, _),
        pytest.MonkeyPatch.context() as patch,
    ):
        record_history(metering, 300)
        patch.setenv(MAX_PROCESSES_SETTING, "2")
        spans = [(after, after + PAGE) for after in range(0, ledger.head() - PAGE, PAGE)]
        pages: ParallelPages[int] = ParallelPages(ledger, 1_000_000, WORKER_PROCESSES)
        with pages:
            for index, span in [*enumerate(spans), *enumerate(spans)]:
                for _ in range(2):
                    assert (
                        pages.result(span, spans[index + 1 :], lambda span, page, _: page.last_position - span[0])
                        == PAGE
                    )
    worker_pool.shutdown_idle_workers()


def test_a_page_error_is_raised_when_the_page_is_requested(
    persistent_store: PersistentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is not raised with an earlier page, and the page can be requested again."""
    monkeypatch.setenv(MAX_PROCESSES_SETTING, "2")
    with persistent_store.metering() as metering, persistent_store.components() as (ledger, _):
        record_history(metering, 100)
        page_at_once, broken = ledger.read_page_bulk, [3 * PAGE]

        def failing_page(after: int, limit: int) -> RawPage:
            if after in broken:
                raise LedgerUnavailable("gone")
            return page_at_once(after, limit)

        monkeypatch.setattr(ledger, "read_page_bulk", failing_page)
        spans = [(after, after + PAGE) for after in range(0, 5 * PAGE, PAGE)]
        pages: ParallelPages[int] = ParallelPages(ledger, 1_000_000, WORKER_PROCESSES)

        def result_at(index: int) -> int | None:
            return pages.result(spans[index], spans[index + 1 :], lambda _, page, __: page.last_position)

        with pages:
            assert [result_at(index) for index in range(3)] == [PAGE, 2 * PAGE, 3 * PAGE]
            for _ in range(2):
                with pytest.raises(LedgerUnavailable):
                    result_at(3)
            broken.clear()
            assert [result_at(3), result_at(4)] == [4 * PAGE, 5 * PAGE]
    worker_pool.shutdown_idle_workers()


def test_no_worker_is_started_for_few_events_or_if_disabled(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting a worker process takes as long as folding tens of thousands of events."""
    started: list[int] = []
    monkeypatch.setattr(WORKER_PROCESSES, "pool", started.append)
    with store.metering() as metering, store.components() as (ledger, views):
        record_history(metering, 30)
        Projector(ledger, views, workers=WORKER_PROCESSES).catch_up()
        monkeypatch.setattr(WORKER_PROCESSES, "min_events", 0)
        monkeypatch.setenv(MAX_PROCESSES_SETTING, "1")
        views.reset()
        Projector(ledger, views, workers=WORKER_PROCESSES).catch_up()
        metering.replay_totals("tokens", START, END)
    assert started == []
