"""Totals as of any position or time equal the naive model, whatever parts of the usage changed since.

The clock goes backwards in these histories, and pages and blocks are small, so that the point lies within them.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import cycle, pairwise
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tallybook.application import Metering
from tallybook.application.queries import meter_query
from tallybook.application.storage.ports import EventRow
from tallybook.application.storage.sqlite import event_recorder
from tallybook.domain import rules_schedule
from tallybook.domain.timestamps import to_microseconds
from tallybook.domain.totals import Totals
from tallybook.projections import high_water_marks
from tallybook.projections.blocks import UsageBlock
from tallybook.projections.buckets import DAY_SECONDS, HOUR_SECONDS, MONTH_SECONDS
from tallybook.projections.models import AsOf, Bucket
from tallybook.projections.usage_source import ProjectedUsage
from tallybook.projections.usage_view import UsageView, ViewPart

from ..notation import Clock
from ..sampling import examples
from .coverage import first_examples, search, stop_if_covered
from .histories import BEGINNING, Step, catch_up_every, meters_of, run_steps, steps, totals_of
from .naive import HistoryEntry, ReferenceTotals, compute_totals, effective, known_at
from .test_blocks import CATCH_UP_INTERVALS, CUSTOMERS, LIMITS, MINUTES, PAGES, Limits, open_with_limits
from .test_queries import ALL_TIME

BUCKET_KINDS = {MONTH_SECONDS: "month", DAY_SECONDS: "day", HOUR_SECONDS: "hour"}
PAUSES = st.lists(st.sampled_from([0, 1, 60, 3_600, -1, -60, -7_200]), min_size=1, max_size=12)
"""Seconds between two steps, in turns; negative if the clock was set back."""


@contextmanager
def open_earlier_ledger(history: list[Step], limits: Limits, page_size: int) -> Generator[tuple[Metering, Clock]]:
    """Open a ledger as `open_with_limits` does, that stores decreasing times as earlier versions did."""

    def unchanged(rows: Sequence[EventRow], *_: object) -> Sequence[EventRow]:
        return rows

    with pytest.MonkeyPatch.context() as patch, open_with_limits(history, limits, page_size) as (metering, clock):
        patch.setattr(event_recorder, "in_order_of_time", unchanged)
        recorder = cast(event_recorder.SQLiteEventRecorder, metering._ledger.ledger_recorder)  # pyright: ignore[reportPrivateUsage]
        with recorder.store.transaction(commit=True) as cursor:
            cursor.execute("DROP TRIGGER recorded_times_never_decrease")
        yield metering, clock


def set_clock(history: list[Step], pauses: list[int]) -> list[Step]:
    """Return the steps with these pauses, in turns."""
    return [replace(step, pause_seconds=pause) for step, pause in zip(history, cycle(pauses), strict=False)]


MIXED = st.builds(set_clock, steps(2, 50, min_size=10, customers=CUSTOMERS, minutes=MINUTES), PAUSES)
BOUNDARIES = st.lists(
    MINUTES.map(lambda minutes: BEGINNING + timedelta(minutes=minutes)), min_size=2, max_size=4, unique=True
).map(sorted)
POINTS = st.lists(st.tuples(st.booleans(), st.integers(0, 99)), min_size=1, max_size=6)
"""Whether the point is a time, and the percentage of the events that come before it."""
MARK_INTERVALS = st.sampled_from([1, 2, 3, 256])


def points_in(
    entries: list[HistoryEntry], shares: list[tuple[bool, int]]
) -> Iterator[tuple[datetime | int, list[HistoryEntry]]]:
    """Yield times and positions, and the entries that were known at each."""
    times = sorted(entry.recorded_at for entry in entries)
    for is_time, share in shares:
        if is_time:
            moment = times[len(times) * share // 100]
            is_configured = moment >= BEGINNING  # when the meters were configured, before all entries
            yield moment, known_at(entries, moment) if is_configured else []
        else:
            count = len(entries) * share // 100
            yield entries[0].position - 1 + count, entries[:count]


@contextmanager
def mark_every(interval: int) -> Generator[None]:
    """Store a high-water mark for every `interval` positions."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (high_water_marks, meter_query):
            patch.setattr(module, "MARK_INTERVAL", interval)
        yield


def totals_by_window(
    view: UsageView, customer: str | None, boundaries: Sequence[datetime], as_of: AsOf
) -> list[ReferenceTotals]:
    """Return the totals of the windows between boundaries, added up if `customer` is None."""
    edges = [to_microseconds(boundary) for boundary in boundaries]
    customer_id = None if customer is None else view.customer_id(customer) or 0
    totals = view.totals(customer_id, edges, as_of)
    windows = [[part for (index, *_), part in totals.items() if index == window] for window in range(len(edges) - 1)]
    merged = [Totals.merge_all(parts) for parts in windows]
    return [
        ReferenceTotals(
            Fraction(part.sum),
            part.count,
            *(None if value is None else Fraction(value) for value in (part.last, part.min, part.max)),
        )
        for part in merged
    ]


@given(MIXED, LIMITS, PAGES, CATCH_UP_INTERVALS, BOUNDARIES, POINTS)
def test_totals_as_of_any_point_equal_the_reference_model(
    history: list[Step],
    limits: Limits,
    page_size: int,
    interval: int,
    boundaries: list[datetime],
    shares: list[tuple[bool, int]],
) -> None:
    """In one range and in several windows, of one customer and of all."""
    with open_earlier_ledger(history, limits, page_size) as (metering, clock):
        entries = run_steps(metering, clock, history, after=catch_up_every(metering, interval))
        if not entries:
            return
        metering.catch_up()
        with metering._read_models.read_session() as reader:  # pyright: ignore[reportPrivateUsage]
            for meter in meters_of(history):
                (folded,) = reader.meters()[meter.name].folded
                part = ViewPart(*rules_schedule.ALL_TIME, ProjectedUsage(reader, folded))
                view = UsageView([part], reader.customer_names)
                for _, known in points_in(entries, shares):
                    as_of = AsOf(entries[0].position - 1 + len(known))
                    counted = effective(known, meter.name, meter.window)
                    for edges in (boundaries, ALL_TIME):
                        for customer in (*CUSTOMERS, None):
                            assert totals_by_window(view, customer, edges, as_of) == [
                                compute_totals(counted, customer, start, end, meter.window)
                                for start, end in pairwise(edges)
                            ]


@settings(max_examples=examples(30))
@given(MIXED, LIMITS, PAGES, CATCH_UP_INTERVALS, POINTS, MARK_INTERVALS)
def test_queries_as_of_any_point_equal_the_reference_model(
    history: list[Step],
    limits: Limits,
    page_size: int,
    interval: int,
    shares: list[tuple[bool, int]],
    mark_interval: int,
) -> None:
    """The totals of each customer, and the days of one; also while later events aren't projected yet."""
    with mark_every(mark_interval), open_earlier_ledger(history, limits, page_size) as (metering, clock):
        entries = run_steps(metering, clock, history, after=catch_up_every(metering, interval))
        for as_of, known in points_in(entries, shares) if entries else ():
            for meter in meters_of(history):
                counted = effective(known, meter.name, meter.window)
                by_customer = {
                    str(total.customer): totals_of(total)
                    for total in metering.totals(meter.name, *ALL_TIME, as_of=as_of)
                }
                expected = {
                    customer: compute_totals(counted, customer, *ALL_TIME, meter.window) for customer in CUSTOMERS
                }
                assert by_customer == {customer: totals for customer, totals in expected.items() if totals[1]}
                days = metering.summaries(meter.name, "acme", *ALL_TIME, window="day", as_of=as_of)
                assert [totals_of(day) for day in days] == [
                    compute_totals(counted, "acme", day.start, day.end, meter.window) for day in days
                ]
                assert sum(day.count for day in days) == expected["acme"][1]


def test_the_histories_cover_every_case() -> None:
    """Buckets and blocks are known, partly known and unknown; some events have an earlier time, and aren't known."""
    expected_kinds = {
        *(
            f"{known} {kind}"
            for known in ("known", "partly known", "unknown")
            for kind in ("month", "day", "hour", "block")
        ),
        "clock set back",
        "not known at its own time",
    }
    seen_kinds: set[str] = set()

    def classify(kind: str, as_of: AsOf, part: Bucket | UsageBlock) -> None:
        if as_of.includes_all(part.changes):
            seen_kinds.add(f"known {kind}")
        elif as_of.includes_some(part.changes):
            seen_kinds.add(f"partly known {kind}")
        else:
            seen_kinds.add(f"unknown {kind}")

    @first_examples(600)
    @given(MIXED, LIMITS, PAGES, CATCH_UP_INTERVALS, POINTS)
    def collect(
        history: list[Step],
        limits: Limits,
        page_size: int,
        interval: int,
        shares: list[tuple[bool, int]],
    ) -> None:
        with open_earlier_ledger(history, limits, page_size) as (metering, clock):
            entries = run_steps(metering, clock, history, after=catch_up_every(metering, interval))
            if not entries:
                return
            if any(earlier.recorded_at > later.recorded_at for earlier, later in pairwise(entries)):
                seen_kinds.add("clock set back")
            for point, known in points_in(entries, shares):
                as_of = AsOf(entries[0].position - 1 + len(known))
                if isinstance(point, datetime) and any(
                    entry.recorded_at <= point and not as_of.includes(entry.position) for entry in entries
                ):
                    seen_kinds.add("not known at its own time")
                for kind, part in stored_parts(metering):
                    classify(kind, as_of, part)
        stop_if_covered(seen_kinds, expected_kinds)

    search(collect)
    assert seen_kinds == expected_kinds


def stored_parts(metering: Metering) -> Iterator[tuple[str, Bucket | UsageBlock]]:
    """Yield all months, days, hours and blocks of all meters."""
    metering.catch_up()
    start, end = map(to_microseconds, ALL_TIME)
    with metering._read_models.read_session() as reader:  # pyright: ignore[reportPrivateUsage]
        for meter in reader.meters().values():
            (folded,) = meter.folded
            usage = ProjectedUsage(reader, folded)
            for size in usage.bucket_sizes:
                yield from ((BUCKET_KINDS[size], bucket) for bucket in usage.buckets_between(size, None, start, end))
            yield from (("block", block) for block in usage.blocks_between(None, start, end))
