"""What is told of pages apart from each other is what one fold of them gives, however the ledger is cut into pages."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.application import Metering
from tallybook.projections import replay
from tallybook.projections.elsewhere import PagesElsewhere, Span, directly
from tallybook.projections.rows import Record

from .histories import METERS, Step, opened, steps, tell
from .test_answers import WHOLE, told

PAGES = st.integers(1, 40)


@contextmanager
def told_apart() -> Generator[list[Span]]:
    """Tell every page apart from the others; gives those that could be."""
    apart: list[Span] = []

    def tell_apart(
        pages: PagesElsewhere[object],
        span: Span,
        following: Sequence[Span],
        job: Callable[..., bytes | tuple[bytes, object]],
    ) -> object:
        del following
        page = pages._ledger.page_at_once(span[0], span[1] - span[0])  # pyright: ignore[reportPrivateUsage]
        found = job(span, page, directly)
        if found[0] if isinstance(found, tuple) else found:
            apart.append(span)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PagesElsewhere, "told", tell_apart)
        yield apart


def folded(metering: Metering, page_size: int) -> dict[str, list[Record]]:
    """All rows, made anew."""
    metering._views.begin_anew()  # pyright: ignore[reportPrivateUsage]
    metering._projector.page_size = page_size  # pyright: ignore[reportPrivateUsage]
    metering.catch_up()
    with metering._views.reading() as rows:  # pyright: ignore[reportPrivateUsage]
        return {table: list(rows.records(table)) for table in rows.tables()}


@given(steps(), PAGES)
def test_pages_folded_apart_make_the_same_rows(history: list[Step], page_size: int) -> None:
    """The numbers of customers too; pages that begin meters are folded where these are kept."""
    with opened() as (metering, clock):
        tell(metering, clock, history)
        plain = folded(metering, page_size)
        with told_apart() as apart:
            assert folded(metering, page_size) == plain
        starts = range(0, metering.catch_up(), page_size)
        assert [after for after, _ in apart] == [after for after in starts if after >= len(METERS)]


@given(steps(), PAGES)
def test_pages_counted_apart_add_up_to_the_same_totals(history: list[Step], page_size: int) -> None:
    """Also where a cancel is in another page than its use, and where a window's reports are in several."""
    with opened() as (metering, clock), pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay, "PAGE_SIZE", page_size)
        tell(metering, clock, history)
        for meter in told(history):
            totals = metering.totals(meter.name, *WHOLE)
            with told_apart() as apart:
                assert metering.totals_from_ledger(meter.name, *WHOLE) == totals
            assert apart
