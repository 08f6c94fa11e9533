"""The contract of the projector: it applies each page exactly once, and stops at events that can't be folded."""

import threading
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from typing import Any, cast

import pytest
from tallybook.application.storage.sql_writer import SqlReadModels
from tallybook.domain import Formula, Rules
from tallybook.domain.rules_schedule import ALWAYS, RulesPart
from tallybook.projections import Progress
from tallybook.projections.blocks import MIN_BLOCK_SIZE
from tallybook.projections.models import PinnedMeter
from tallybook.projections.ports import (
    PageFold,
    ReadModelReader,
    ReadModelStore,
    ReadModelWriter,
)
from tallybook.projections.projector import Projector

from .histories import fold_from_start, read_model_rows, record_history
from .persistent_stores import PersistentStore
from .stores import NOW, Store

LOCK_TIMEOUT_SECONDS = 0.3
PAGE = 9


class Fault(Exception):
    """A simulated crash."""


class FaultyWriter:
    """A writer that raises Fault before or after one of its calls."""

    def __init__(self, rows: ReadModelWriter, should_fail: Callable[[], bool], *, after: bool) -> None:
        self._rows = rows
        self._should_fail = should_fail
        self._after = after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._rows, name)
        if not callable(method):
            return method

        def called(*args: Any) -> Any:
            struck = self._should_fail()
            if struck and not self._after:
                raise Fault
            result = method(*args)
            if struck:
                raise Fault
            return result

        return called


class FaultyReadModels:
    """Read models that raise Fault once, at the nth call to their writers, counted over all pages."""

    def __init__(self, read_models: ReadModelStore, nth: int, *, after: bool) -> None:
        self._read_models = read_models
        self._calls = count(1)
        self._nth = nth
        self._after = after
        self.struck = False
        self._is_repaired = False

    def repair(self) -> None:
        """Raise no Fault from now on."""
        self._is_repaired = True

    def read_session(self) -> Any:
        """Open a session that raises no Fault."""
        return self._read_models.read_session()

    def write_session(self) -> Any:
        """Open a session that raises no Fault."""
        return self._read_models.write_session()

    def apply_next_page(self, fold: PageFold) -> int:
        """Apply a page with a writer that may raise Fault."""

        def faulty(rows: ReadModelReader) -> Callable[[ReadModelWriter], None] | None:
            write = fold(rows)
            return None if write is None else lambda onto: write(self._faulty(onto))

        return self._read_models.apply_next_page(faulty)

    def _faulty(self, rows: ReadModelWriter) -> ReadModelWriter:
        return cast(ReadModelWriter, FaultyWriter(rows, self._should_fail, after=self._after))

    def _should_fail(self) -> bool:
        self.struck = self.struck or next(self._calls) == self._nth
        return self.struck and not self._is_repaired


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_page_is_applied_atomically(store: Store, after: bool) -> None:
    """After a crash at any call of a page, the rows match the stored position, and catching up gives the same rows as
    a fold without a crash: with another projector, or with the same one, which holds rows of the pages before."""
    with store.metering() as metering:
        record_history(metering, 10)
        with store.components() as (ledger, views):
            views.reset()
            after_page = {0: read_model_rows(views)}
            Projector(ledger, views, PAGE).catch_up(
                lambda page: after_page.update({page.position: read_model_rows(views)})
            )
            nth, struck = 0, True
            while struck:
                nth += 1
                views.reset()
                faulty = FaultyReadModels(views, nth, after=after)
                projector = Projector(ledger, faulty, PAGE)
                try:
                    projector.catch_up()
                except Fault:
                    reached, rows = read_model_rows(views)
                    assert (reached, rows) == after_page[reached], f"call {nth}"
                    faulty.repair()
                    (projector if nth % 2 else Projector(ledger, views, PAGE)).catch_up()
                    assert read_model_rows(views) == after_page[ledger.head()], f"call {nth}"
                struck = faulty.struck
            assert nth > 4 * len(after_page)


def test_alternating_projectors_apply_no_page_twice(store: Store) -> None:
    """Two projectors that alternate fold each event once."""
    with store.metering() as metering:
        record_history(metering)
        with store.components() as (ledger, views):
            expected = fold_from_start(ledger, views, 10_000)
            store.reset_read_models()
            turn_numbers = count()

            def other(_: Progress) -> None:
                if next(turn_numbers) % 2:
                    Projector(ledger, views, 7).catch_up()

            Projector(ledger, views, 11).catch_up(other)
            assert read_model_rows(views) == expected


def test_rows_of_a_rebuild_replace_those_in_memory(persistent_store: PersistentStore) -> None:
    """If another process rebuilds the read models up to the same position, in pages of another size, their blocks are
    others: a projector that wrote rows before reads them again."""
    with persistent_store.metering() as metering:
        metering.meters.configure("tokens", customer_key="customer")

        def record(count: int) -> None:
            payload = {"customer": "acme", "value": "1"}
            metering.record_many([{"event_name": "tokens", "timestamp": NOW, "payload": payload}] * count)

        with persistent_store.components() as (ledger, views), persistent_store.components() as (_, others):
            projector = Projector(ledger, views)
            for count in (MIN_BLOCK_SIZE // 8, MIN_BLOCK_SIZE):  # two blocks, one after a rebuild
                record(count)
                projector.catch_up()
            others.reset()
            Projector(ledger, others).catch_up()
            record(1)
            projector.catch_up()
            assert read_model_rows(views) == fold_from_start(ledger, others, 10_000)


def test_ids_of_customers_are_read_once_for_the_same_rows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """They aren't read again for the next page, but in a generation whose rules name the customers in another order."""
    read: list[str] = []
    monkeypatch.setattr(
        SqlReadModels, "customer_ids", _recording_method(SqlReadModels.customer_ids, "customer_ids", read)
    )
    rules = {"tokens": PinnedMeter((RulesPart(ALWAYS, Rules(customer_key="region")),))}
    with store.metering() as metering, store.components() as (ledger, views):
        metering.meters.configure("tokens", customer_key="customer")
        projector = Projector(ledger, views)

        def record_and_catch_up() -> int:
            """Record an event of two customers; return how often their ids were read."""
            for customer, region in (("acme", "bolt"), ("bolt", "acme")):
                metering.record("tokens", {"customer": customer, "region": region, "value": "1"})
            read.clear()
            projector.catch_up()
            return len(read)

        assert [record_and_catch_up() for _ in range(3)] == [1, 1, 0]  # new, stored and known customers
        other = views.create(rules).number
        Projector(ledger, views.read_models(other)).catch_up()
        views.make_live(other, {})
        assert record_and_catch_up() == 1
        with views.temporary(rules) as scratch:
            Projector(ledger, scratch).catch_up()
            assert read_model_rows(views) == read_model_rows(scratch)


class OvertakenReadModels:
    """Read models that run an action between the folding and the writing of the first page.

    Depending on the store, the action runs immediately or waits until the page is written.
    """

    def __init__(self, read_models: ReadModelStore, action: Callable[[], object]) -> None:
        self.read_session = read_models.read_session
        self.write_session = read_models.write_session
        self._read_models = read_models
        self._happening = threading.Thread(target=action)

    def apply_next_page(self, fold: PageFold) -> int:
        """Apply a page; run the action during the first page."""

        def overtaken(rows: ReadModelReader) -> Callable[[ReadModelWriter], None] | None:
            write = fold(rows)
            if self._happening.ident is None:
                self._happening.start()
                self._happening.join(LOCK_TIMEOUT_SECONDS)
            return write

        reached = self._read_models.apply_next_page(overtaken)
        self._happening.join()
        return reached


def test_a_page_applied_by_another_projector_is_not_applied_again(persistent_store: PersistentStore) -> None:
    """If another projector applies a smaller page between folding and writing, the page is folded again."""
    with persistent_store.metering() as metering:
        record_history(metering)
        with persistent_store.components() as (ledger, views), persistent_store.components() as (_, others):
            expected = fold_from_start(ledger, views, 10_000)
            for page_size in (5, 40, 10_000):
                views.reset()
                overtaken = OvertakenReadModels(views, lambda: Projector(ledger, others, 7).catch_up(until=21))
                assert Projector(ledger, overtaken, page_size).catch_up() == ledger.head()
                assert read_model_rows(views) == expected, f"page size {page_size}"


def test_a_page_of_one_generation_is_never_written_into_another(persistent_store: PersistentStore) -> None:
    """If another generation is promoted between folding and writing, the page is not written into it."""
    with persistent_store.metering() as metering:
        record_history(metering)
        with persistent_store.components() as (ledger, views), persistent_store.components() as (_, others):
            head = ledger.head()
            persistent_store.reset_read_models()
            Projector(ledger, views).catch_up(until=head // 2)
            last_by_region = RulesPart(ALWAYS, Rules(formula=Formula.LAST, customer_key="region"))
            rules = {"tokens": PinnedMeter((last_by_region,))}
            other = views.create(rules).number
            Projector(ledger, views.read_models(other)).catch_up(until=head // 2)
            overtaken = OvertakenReadModels(views, lambda: others.make_live(other, {}))
            Projector(ledger, overtaken).catch_up()
            Projector(ledger, views).catch_up()  # if the promotion waited for the page
            with views.temporary(rules) as scratch:
                Projector(ledger, scratch).catch_up()
                assert read_model_rows(views) == read_model_rows(scratch)


def test_rows_of_every_page_size_are_equal(store: Store) -> None:
    """The rows don't depend on the page size."""
    with store.metering() as metering:
        record_history(metering, 60)
        with store.components() as (ledger, views):
            expected = fold_from_start(ledger, views, 10_000)
            for page_size in (1, 2, 3, 7, 10, 11, 50, ledger.head() - 1, ledger.head()):
                assert fold_from_start(ledger, views, page_size) == expected, f"page size {page_size}"


def test_a_page_with_many_cancellations_is_split(store: Store) -> None:
    """A page is limited to a number of cancellations; the rows are the same as without the limit."""
    with store.metering() as metering:
        record_history(metering, 60)
        with store.components() as (ledger, views):
            expected = fold_from_start(ledger, views, 10_000)
            views.reset()
            reached: list[int] = []
            Projector(ledger, views, max_cancellations=2).catch_up(lambda page: reached.append(page.position))
            assert len(reached) > 2
            assert reached[-1] == ledger.head()
            assert read_model_rows(views) == expected


def test_read_models_reset_meanwhile_are_folded_from_the_start(store: Store) -> None:
    """Customer ids of the previous read models are not used for the new ones."""
    with store.metering() as metering:
        record_history(metering, 60)
        with store.components() as (ledger, views):
            expected = fold_from_start(ledger, views, 10_000)
            pages: list[Progress] = []

            def reset(page: Progress) -> None:
                pages.append(page)
                if len(pages) == 4:
                    views.reset()

            views.reset()
            Projector(ledger, views, 10).catch_up(reset)
            assert [pages[3].position, pages[4].position] == [40, 10]
            assert read_model_rows(views) == expected


def test_catching_up_folds_to_the_head_as_of_the_call(store: Store) -> None:
    """Events recorded before the call are folded; progress reports position and head after each page."""
    with store.metering() as metering:
        record_history(metering)
        store.reset_read_models()
        with store.components() as (ledger, views):
            progress: list[Progress] = []
            reached = Projector(ledger, views, 50).catch_up(progress.append)
            assert reached == ledger.head()
            assert [step.position for step in progress] == [*range(50, reached, 50), reached]
            assert {step.head for step in progress} == {reached}
            assert all(step.events_per_second > 0 for step in progress)
            later_progress: list[Progress] = []
            assert Projector(ledger, views).catch_up(later_progress.append) == reached
            assert later_progress == []


@pytest.mark.parametrize("window", [None, "hour"])
def test_a_bucket_is_read_once_however_many_dimension_values_it_has(
    store: Store, window: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a customer's day with 3,000 dimension values would be read 3,000 times."""
    with store.metering() as metering, store.components() as (ledger, views):
        metering.meters.configure("calls", event_time_window=window, dimension_keys=["place"])
        for number in range(10):
            payload = {"stripe_customer_id": "acme", "value": "1", "place": str(number)}
            metering.record("calls", payload, identifier=f"use {number}")
        metering.catch_up()
        for number in range(9):
            metering.cancel("calls", f"use {number}")
        read: list[str] = []
        for name in ("blocks_between", "blocks_of", "usage_between", "buckets_between", "buckets_in"):
            recording = _recording_method(getattr(SqlReadModels, name), name, read)
            monkeypatch.setattr(SqlReadModels, name, recording)
        Projector(ledger, views).catch_up()
        assert len(read) <= 3, read
        (total,) = metering.totals("calls", NOW - timedelta(days=1), NOW + timedelta(days=1))
        assert total.count == 1


def _recording_method(method: Callable[..., Any], name: str, calls: list[str]) -> Callable[..., Any]:
    def called(*args: Any) -> Any:
        calls.append(name)
        return method(*args)

    return called
