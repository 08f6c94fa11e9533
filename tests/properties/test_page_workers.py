"""Pages processed independently, as in worker processes, give the result of one sequential fold, for any page size."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.application import Metering
from tallybook.projections import projector
from tallybook.projections.parallel_pages import PageSpan, ParallelPages, call_locally
from tallybook.projections.ports import TableRow

from .histories import Step, meters_of, open_ledger, run_steps, steps
from .test_queries import ALL_TIME

PAGES = st.integers(1, 40)


@contextmanager
def fold_in_worker() -> Generator[list[PageSpan]]:
    """Process each page independently; return the spans of the pages for which that was possible."""
    spans: list[PageSpan] = []

    def run_in_worker(
        pages: ParallelPages[object],
        span: PageSpan,
        following: Sequence[PageSpan],
        job: Callable[..., bytes | tuple[bytes, object]],
    ) -> object:
        del following
        page = pages._ledger.read_page_bulk(span[0], span[1] - span[0])  # pyright: ignore[reportPrivateUsage]
        result = job(span, page, call_locally)
        if result[0] if isinstance(result, tuple) else result:
            spans.append(span)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ParallelPages, "result", run_in_worker)
        patch.setattr(projector, "MAX_FEW_EVENTS", 0)  # which are folded without a worker
        yield spans


def fold_rows(metering: Metering, page_size: int) -> dict[str, list[TableRow]]:
    """Return all rows of rebuilt read models."""
    metering._read_models.reset()  # pyright: ignore[reportPrivateUsage]
    metering._projector.page_size = page_size  # pyright: ignore[reportPrivateUsage]
    metering.catch_up()
    with metering._read_models.read_session() as rows:  # pyright: ignore[reportPrivateUsage]
        return {table: list(rows.table_rows(table)) for table in rows.table_names()}


@given(steps(), PAGES)
def test_pages_folded_in_a_worker_give_the_same_rows(history: list[Step], page_size: int) -> None:
    """Customer ids are the same too. Pages that configure meters are folded in the main process."""
    with open_ledger(meters_of(history)) as (metering, clock):
        run_steps(metering, clock, history)
        plain = fold_rows(metering, page_size)
        with fold_in_worker() as spans:
            assert fold_rows(metering, page_size) == plain
        starts = range(0, metering.catch_up(), page_size)
        assert [after for after, _ in spans] == [after for after in starts if after >= len(meters_of(history))]


@given(steps(), PAGES, PAGES)
def test_stored_totals_are_the_same_with_other_pages(history: list[Step], page_size: int, other_size: int) -> None:
    """Also the minimum and the maximum, although 5, 5.0 and 5.00 are equal: to the character."""
    with open_ledger(meters_of(history)) as (metering, clock):
        run_steps(metering, clock, history)
        totals = fold_rows(metering, page_size)["totals"]
        assert fold_rows(metering, other_size)["totals"] == totals


@given(steps(), PAGES)
def test_pages_counted_in_a_worker_give_the_same_totals(history: list[Step], page_size: int) -> None:
    """Cancellations may be in another page than their events, and the events of a window in several pages."""
    with open_ledger(meters_of(history)) as (metering, clock):
        metering._projector.page_size = page_size  # pyright: ignore[reportPrivateUsage]
        run_steps(metering, clock, history)
        for meter in meters_of(history):
            totals = metering.totals(meter.name, *ALL_TIME)
            with fold_in_worker() as spans:
                assert metering.replay_totals(meter.name, *ALL_TIME) == totals
            assert spans
