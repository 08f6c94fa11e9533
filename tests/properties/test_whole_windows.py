"""Ranges of whole event time windows: they tile, in every timezone and under rules that change on a date."""

from datetime import datetime, timedelta
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tallybook.application import AcceptancePolicy, BillingCycle, Metering
from tallybook.domain.errors import InvalidTimeRange, PeriodNotEnded

from ..notation import Clock
from ..sampling import examples
from .histories import BEGINNING, LIFTED, WINDOWS
from .naive import next_window_start

MIDNIGHT = BEGINNING.replace(hour=0, minute=0, second=0, microsecond=0)
DAYS = 6
RANGE = BEGINNING, BEGINNING + timedelta(days=DAYS - 1)
MINUTES = st.integers(0, DAYS * 24 * 60) | st.sampled_from([day * 24 * 60 for day in range(DAYS)])
TIMES = MINUTES.map(lambda minutes: MIDNIGHT + timedelta(minutes=minutes))
USES = st.lists(st.tuples(TIMES, st.integers(-9, 9)), min_size=1, max_size=20)
CHANGES = st.lists(st.tuples(st.integers(1, DAYS), st.sampled_from(WINDOWS)), max_size=4)
"""Windows of the rules, from a day on."""
CUTS = st.lists(TIMES, max_size=6).map(
    lambda times: [RANGE[0], *sorted(at for at in times if RANGE[0] < at < RANGE[1]), RANGE[1]]
)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns"])


def open_meter(clock: Clock, window: str | None, policy: AcceptancePolicy = LIFTED) -> Metering:
    """Open a ledger with a meter."""
    metering = Metering.open("sqlite://", policy=policy, clock=clock)
    metering.meters.configure("calls", event_time_window=window, customer_key="customer")
    return metering


def change_windows(metering: Metering, changes: list[tuple[int, str | None]]) -> None:
    """Change the window of the meter from some days on."""
    for day, window in sorted(changes, key=lambda change: change[0]):
        current = metering.meters.history("calls")[-1].rules.event_time_window
        if window != current:
            effective_from = MIDNIGHT + timedelta(days=day)
            metering.rules.change(
                "calls", {"event_time_window": window}, reason="a contract", effective_from=effective_from
            )


def record(metering: Metering, uses: list[tuple[datetime, int]]) -> None:
    """Record usage of acme."""
    for number, (at, value) in enumerate(uses):
        metering.record("calls", {"customer": "acme", "value": str(value)}, identifier=str(number), timestamp=at)


@settings(max_examples=examples(60))
@given(st.sampled_from(WINDOWS), CHANGES, USES, CUTS, ZONES, st.sampled_from(["hour", "day", "month"]))
def test_ranges_tile(
    window: str | None,
    changes: list[tuple[int, str | None]],
    uses: list[tuple[datetime, int]],
    cuts: list[datetime],
    zone: str,
    calendar_window: str,
) -> None:
    """Any partition of a range has each event once, in lists too, and totals that add up to that of the range."""
    with open_meter(Clock(RANGE[1] + timedelta(days=2)), window) as metering:
        record(metering, uses)
        change_windows(metering, changes)
        whole = metering.total("calls", "acme", *RANGE)
        totals = [metering.total("calls", "acme", *bounds) for bounds in pairwise(cuts)]
        summaries = metering.summaries("calls", "acme", *RANGE, window=calendar_window, timezone=zone)
        for parts in (totals, summaries):
            assert (sum(part.value for part in parts), sum(part.count for part in parts)) == (whole.value, whole.count)
        for before, after in pairwise(totals):
            assert (before.counted_until or before.end) == (after.counted_from or after.start)
        explanation = metering.explain("calls", "acme", *RANGE)
        parts = [metering.explain("calls", "acme", *bounds).events for bounds in pairwise(cuts)]
        assert [event.identifier for part in parts for event in part] == [
            event.identifier for event in explanation.events
        ]
        for bounds in pairwise(cuts):
            listed = metering.events("calls", start=bounds[0], end=bounds[1])
            explained = metering.explain("calls", None, *bounds)
            assert [event.identifier for event in listed] == [event.identifier for event in explained.events]
            assert metering.replay_totals("calls", *bounds) == metering.totals("calls", *bounds)


@settings(max_examples=examples(40))
@given(st.sampled_from(WINDOWS), CHANGES, USES, CUTS, st.data())
def test_closings_tile(
    window: str | None,
    changes: list[tuple[int, str | None]],
    uses: list[tuple[datetime, int]],
    cuts: list[datetime],
    data: st.DataObject,
) -> None:
    """Closings of any partition, in any order, add up to the total; a period without a window can't be closed."""
    with open_meter(Clock(RANGE[1] + timedelta(days=2)), window) as metering:
        record(metering, uses)
        change_windows(metering, changes)
        closed = Fraction(0)
        for bounds in data.draw(st.permutations(list(pairwise(sorted(set(cuts)))))):
            total = metering.total("calls", "acme", *bounds)
            if (total.counted_from or total.start) == (total.counted_until or total.end):
                assert total.count == 0
                with pytest.raises(InvalidTimeRange, match="starts in it"):
                    metering.periods.close("calls", "acme", *bounds)
                continue
            period = metering.periods.close("calls", "acme", *bounds)
            assert (period.counted_from, period.counted_until) == (total.counted_from, total.counted_until)
            assert (period.quantity, period.count) == (total.value, total.count)
            closed += Fraction(period.quantity)
        assert closed == Fraction(metering.total("calls", "acme", *RANGE).value)
        assert metering.periods.adjustments("calls") == []
        assert metering.verify().is_equal


@settings(max_examples=examples(40))
@given(
    st.sampled_from(["hour", "day"]),
    st.sampled_from(["last", "sum", "max"]),
    ZONES,
    TIMES,
    st.lists(st.tuples(st.integers(1, 300), st.integers(0, 59), st.integers(0, 9)), min_size=5, max_size=40),
)
def test_punctual_usage_never_adjusts_a_period(
    window: str, formula: str, zone: str, anchor: datetime, uses: list[tuple[int, int, int]]
) -> None:
    """Usage that is recorded within the grace period, with closings as early as they are possible."""
    clock, cycle = Clock(anchor), BillingCycle("day", zone, anchor)
    with open_meter(clock, window, AcceptancePolicy()) as metering:
        metering.rules.change("calls", {"formula": formula}, reason="a test") if formula != "sum" else None
        start, end = cycle.period_containing(anchor)
        occurred_at = anchor
        for pause, delay, value in uses:
            occurred_at += timedelta(minutes=pause)
            recorded_at = max(clock.now, occurred_at + timedelta(minutes=delay))
            while (possible_at := next_window_start(end, window) + timedelta(hours=1)) <= recorded_at:
                clock.now = max(clock.now, possible_at - timedelta(microseconds=1))
                if clock.now < possible_at:
                    with pytest.raises(PeriodNotEnded):
                        metering.periods.close("calls", "acme", start, end)
                clock.now = max(clock.now, possible_at)
                metering.periods.close("calls", "acme", start, end)
                start, end = cycle.period_containing(end)
            clock.now = recorded_at
            if occurred_at + timedelta(hours=1) > clock.now:
                payload = {"customer": "acme", "value": str(value)}
                metering.record("calls", payload, timestamp=occurred_at)
        assert metering.periods.adjustments("calls") == []
