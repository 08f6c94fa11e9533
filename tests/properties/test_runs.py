"""Usage is kept in runs. However these are cut and joined, each answer is what plain loops give."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tallybook.application import Metering
from tallybook.application.stores import stored_rows
from tallybook.domain.counting import Usage
from tallybook.domain.instants import microseconds
from tallybook.projections import runs
from tallybook.projections.runs import Run

from ..notation import Clock
from .histories import BEGINNING, METERS, Step, asking, of, opened, steps, tell
from .naive import Said, effective, figures
from .test_answers import WHOLE, expected_verdicts, told, verdicts

CUSTOMERS = ("acme", "beta")
DAY = timedelta(days=1)
MINUTES = st.integers(0, 30 * 4).map(lambda quarter: quarter * 15.0)
"""Thirty hours on two days, the first of which has two."""
DENSE = steps(
    2, 50, least=10, among=[one for one in METERS if one.window != "day"], customers=CUSTOMERS, minutes=MINUTES
)
RANGES = st.lists(
    st.tuples(MINUTES, MINUTES).map(lambda ends: tuple(BEGINNING + timedelta(minutes=end) for end in sorted(ends))),
    min_size=1,
    max_size=4,
)
LIMITS = st.sampled_from([(1, 1, 2), (2, 3, 4), (3, 4, 9), (64, 256, 1_000)])
PAGES = st.integers(1, 40)
EVERY = st.integers(1, 20)


@contextmanager
def opened_with(limits: tuple[int, int, int], page_size: int) -> Generator[tuple[Metering, Clock]]:
    """A ledger whose runs are joined and cut by these limits, folded in pages of this size."""
    short, long, longest = limits
    with pytest.MonkeyPatch.context() as patch, opened() as (metering, clock):
        patch.setattr(stored_rows, "SHORT", short)
        for name, limit in (("SHORT", short), ("LONG", long), ("LONGEST", longest)):
            patch.setattr(runs, name, limit)
        metering._projector.page_size = page_size  # pyright: ignore[reportPrivateUsage]
        yield metering, clock


@given(DENSE, LIMITS, PAGES, EVERY, RANGES)
def test_any_range_and_window_adds_up_to_what_plain_counting_gives(
    history: list[Step],
    limits: tuple[int, int, int],
    page_size: int,
    every: int,
    ranges: list[tuple[datetime, datetime]],
) -> None:
    """Within a day, over midnight, and hours on the clocks of a zone that is 45 minutes off."""
    with opened_with(limits, page_size) as (metering, clock):
        said = tell(metering, clock, history, after=asking(metering, every))
        for meter in told(history):
            uses = effective(said, meter.name, meter.window)
            for between in ranges:
                for customer in (*CUSTOMERS, None):
                    assert of(metering.total(meter.name, customer, *between)) == figures(uses, customer, *between)
                by_hour = metering.summaries(meter.name, None, *between, window="hour", timezone="Asia/Kathmandu")
                assert [of(one) for one in by_hour] == [
                    figures(uses, None, max(one.start, between[0]), min(one.end, between[1])) for one in by_hour
                ]
                assert sum(one.count for one in by_hour) == figures(uses, None, *between)[1]


@given(DENSE, LIMITS, PAGES, EVERY, RANGES)
def test_events_come_in_order_of_time_out_of_runs_that_overlap(
    history: list[Step],
    limits: tuple[int, int, int],
    page_size: int,
    every: int,
    ranges: list[tuple[datetime, datetime]],
) -> None:
    """And at one time in the order that they were recorded in; now, and as of an earlier position."""
    with opened_with(limits, page_size) as (metering, clock):
        said = tell(metering, clock, history, after=asking(metering, every))
        middle = len(METERS) + len(said) // 2
        for meter in told(history):
            listed = [one.identifier for one in metering.events(meter.name)]
            assert listed == [identifier for identifier, _ in expected_verdicts(said, meter, None, WHOLE)]
            for between in ranges:
                for as_of in (None, middle):
                    known = said if as_of is None else [one for one in said if one.position <= as_of]
                    explained = metering.explain(meter.name, None, *between, as_of=as_of)
                    assert verdicts(explained) == expected_verdicts(known, meter, None, between)


@given(DENSE, LIMITS, PAGES, EVERY)
def test_runs_are_what_their_usages_say(
    history: list[Step], limits: tuple[int, int, int], page_size: int, every: int
) -> None:
    """Each use is in one run, in the ledger's order, and a run tells when and how much its own are."""
    with opened_with(limits, page_size) as (metering, clock):
        said = tell(metering, clock, history, after=asking(metering, every))
        kept = list(kept_runs(metering))
        assert all(run == Run.with_cancels(run.key, usages) for run, usages in kept)
        positions = [usage.position for _, usages in kept for usage in usages]
        assert sorted(positions) == [one.position for one in said if not one.cancels]


def kept_runs(metering: Metering) -> Iterator[tuple[Run, list[Usage]]]:
    """All runs, with their usages, of one meter after another."""
    metering.catch_up()
    start, end = map(microseconds, (BEGINNING - 2 * DAY, BEGINNING + 9 * DAY))
    with metering._views.reading() as rows:  # pyright: ignore[reportPrivateUsage]
        for meter in rows.meters().values():
            bucket_seconds = 3_600 if meter.rules.event_time_window else 86_400
            found = list(rows.runs(meter.number, None, bucket_seconds, start, end))
            yield from zip(found, rows.usages_of(meter.number, found), strict=True)


def test_the_histories_hold_what_they_should() -> None:
    """Of many, some have runs that were cut, joined, overlap, are cancelled whole, or reach over a ragged edge."""
    seen: set[str] = set()

    @settings(max_examples=60, derandomize=True)
    @given(DENSE, LIMITS, PAGES, EVERY, RANGES)
    def look(
        history: list[Step],
        limits: tuple[int, int, int],
        page_size: int,
        every: int,
        ranges: list[tuple[datetime, datetime]],
    ) -> None:
        caught_up: list[int] = []

        def ask(said: list[Said]) -> None:
            if len(said) % every == 0:
                caught_up.append(metering.catch_up())

        with opened_with(limits, page_size) as (metering, clock):
            tell(metering, clock, history, after=ask)
            kept = list(kept_runs(metering))
        neighbours = [(one, other) for (one, _), (other, _) in pairwise(kept) if one.key == other.key]
        edges = [microseconds(edge) for between in ranges for edge in between]
        found = {
            "cut": bool(neighbours),
            "joined": any(usages[0].position <= at < usages[-1].position for _, usages in kept for at in caught_up),
            "overlapping": any(max(a.earliest, b.earliest) <= min(a.latest, b.latest) for a, b in neighbours),
            "cancelled whole": any(not run.totals.count for run, _ in kept),
            "over an edge": any(run.earliest < edge <= run.latest for run, _ in kept for edge in edges),
            "within": any(len(usages) > 1 for _, usages in kept),
            "of an hour": any(run.key[1] % (86_400 * 10**6) for run, _ in kept),
        }
        seen.update(kind for kind, is_there in found.items() if is_there)

    look()
    assert seen == {"cut", "joined", "overlapping", "cancelled whole", "over an edge", "within", "of an hour"}
