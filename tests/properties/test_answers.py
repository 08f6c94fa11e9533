"""Whatever was reported and cancelled, each answer is what plain loops over all of it give."""

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tallybook.application import ExplainedEvent, Explanation, MeterEventView, Metering, Verdict
from tallybook.projections import replay

from .histories import (
    BEGINNING,
    CUSTOMERS,
    METERS,
    MINUTES,
    MeterRules,
    Step,
    asking,
    of,
    opened,
    outcomes,
    steps,
    tell,
)
from .naive import Said, effective, figures

WHOLE = BEGINNING - timedelta(days=40), BEGINNING + timedelta(days=40)
RANGES = st.tuples(MINUTES, MINUTES).map(
    lambda ends: (BEGINNING + timedelta(minutes=min(ends)), BEGINNING + timedelta(minutes=max(ends)))
)
EVERY = st.integers(1, 12)
ZONES = ("UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia", "America/New_York")


def listed(event: ExplainedEvent) -> MeterEventView:
    """An event of an explanation as one of a list."""
    return MeterEventView(*(getattr(event, field.name) for field in fields(MeterEventView)))


def told(history: list[Step]) -> list[MeterRules]:
    """The meters of a history."""
    return [meter for meter in METERS if any(step.meter == meter for step in history)]


@given(steps(), RANGES, EVERY)
def test_a_total_is_what_plain_counting_gives(
    history: list[Step], between: tuple[datetime, datetime], every: int
) -> None:
    """Sum, count, last, value and billable, of each customer and of all together, in any range."""
    with opened() as (metering, clock):
        said = tell(metering, clock, history, after=asking(metering, every))
        for meter in told(history):
            uses = effective(said, meter.name, meter.window)
            for start, end in (between, WHOLE):
                for customer in (*CUSTOMERS, None):
                    total = metering.total(meter.name, customer, start, end)
                    expected = figures(uses, customer, start, end)
                    assert of(total) == expected
                    assert Fraction(total.value) == value(meter, expected)
                    assert Fraction(total.billable) == max(Fraction(0), value(meter, expected))
                    assert (total.customer, total.start, total.end) == (customer, start, end)


def value(meter: MeterRules, expected: tuple[Fraction, int, Fraction | None]) -> Fraction:
    """The figure by the meter's formula."""
    total, count, last = expected
    return {"sum": total, "count": Fraction(count), "last": last or Fraction(0)}[meter.formula]


@given(steps(), RANGES)
def test_totals_are_the_total_of_each_customer_with_usage(
    history: list[Step], between: tuple[datetime, datetime]
) -> None:
    """Ordered by customer; who has no usage that counts is left out."""
    with opened() as (metering, clock):
        tell(metering, clock, history)
        for meter in told(history):
            for start, end in (between, WHOLE):
                each = [metering.total(meter.name, customer, start, end) for customer in CUSTOMERS]
                assert metering.totals(meter.name, start, end) == [one for one in each if one.count]


@given(steps(), RANGES, st.sampled_from([1, 2, 5, 40_000]))
def test_the_ledger_alone_gives_the_same_totals(
    history: list[Step], between: tuple[datetime, datetime], page_size: int
) -> None:
    """Counted by another way than the read models are made in, however the ledger is cut into pages."""
    with opened() as (metering, clock), pytest.MonkeyPatch.context() as patched:
        patched.setattr(replay, "PAGE_SIZE", page_size)
        tell(metering, clock, history)
        for meter in told(history):
            for start, end in (between, WHOLE):
                assert metering.totals_from_ledger(meter.name, start, end) == metering.totals(meter.name, start, end)


@given(steps(), RANGES, EVERY, st.sampled_from(["minute", "hour", "day", "month", "year"]), st.sampled_from(ZONES))
def test_summaries_are_totals_of_the_windows_that_tile_the_range(
    history: list[Step], between: tuple[datetime, datetime], every: int, window: str, timezone: str
) -> None:
    """Each use that counts is in the window of its local minute, hour, day, month or year, and in no other."""
    with opened() as (metering, clock):
        said = tell(metering, clock, history, after=asking(metering, every))
        for meter in told(history):
            uses = effective(said, meter.name, meter.window)
            for customer in (CUSTOMERS[0], None):
                summaries = metering.summaries(meter.name, customer, *between, window=window, timezone=timezone)
                assert [of(one) for one in summaries] == [
                    figures(uses, customer, max(one.start, between[0]), min(one.end, between[1])) for one in summaries
                ]
                assert sum(one.count for one in summaries) == figures(uses, customer, *between)[1]
                assert all(one.count for one in summaries)
                labels = [label(one.start, window, timezone) for one in summaries]
                assert labels == [label(one.end - timedelta(microseconds=1), window, timezone) for one in summaries]
                assert len(set(labels)) == len(labels)


def label(at: datetime, window: str, timezone: str) -> str:
    """The name of a window on the clocks of a timezone; two hours of one name differ in their offset."""
    pattern = {
        "minute": "%Y-%m-%d %H:%M %z",
        "hour": "%Y-%m-%d %H %z",
        "day": "%Y-%m-%d",
        "month": "%Y-%m",
        "year": "%Y",
    }[window]
    local = at.astimezone(UTC).astimezone(ZoneInfo(timezone))
    if window == "hour" and timezone == "Australia/Lord_Howe":
        pattern = "%Y-%m-%d %H"  # its clocks go back half an hour: the hour from 1:30 to 2:30
    return local.strftime(pattern)


@given(steps(), RANGES)
def test_an_explanation_adds_up_to_its_total(history: list[Step], between: tuple[datetime, datetime]) -> None:
    """Every event of the range is in it once, in order, with its verdict; those that counted make the figure."""
    with opened() as (metering, clock):
        said = tell(metering, clock, history)
        for meter in told(history):
            for customer in (*CUSTOMERS, None):
                explanation = metering.explain(meter.name, customer, *between)
                assert explanation.total == metering.total(meter.name, customer, *between)
                assert verdicts(explanation) == expected_verdicts(said, meter, customer, between)
                counts = [one for one in explanation.events if one.verdict is Verdict.COUNTED]
                added = sum((Fraction(one.value) for one in counts if one.value is not None), Fraction(0))
                assert (added, len(counts)) == of(explanation.total)[:2]


Verdicts = list[tuple[str, str]]


def verdicts(explanation: Explanation) -> Verdicts:
    """The identifiers of the events and what became of each."""
    return [(one.identifier, str(one.verdict)) for one in explanation.events]


def expected_verdicts(
    said: list[Said], meter: MeterRules, customer: str | None, between: tuple[datetime, datetime]
) -> Verdicts:
    """What plain loops say of each event in the range."""
    cancelled = {one.identifier for one in said if one.cancels}
    counts = {one.identifier for one in effective(said, meter.name, meter.window)}
    within = [
        one
        for one in said
        if one.meter == meter.name and customer in (None, one.customer) and between[0] <= one.occurred_at < between[1]
    ]
    return [
        (
            one.identifier,
            "cancelled" if one.identifier in cancelled else "counted" if one.identifier in counts else "overwritten",
        )
        for one in sorted(within, key=lambda one: (one.occurred_at, one.position))
    ]


@given(steps(), st.integers(1, 5))
def test_events_are_listed_whole_page_by_page(history: list[Step], limit: int) -> None:
    """The pages of any size, one after another, are the explanation of all time."""
    with opened() as (metering, clock):
        tell(metering, clock, history)
        for meter in told(history):
            explained = metering.explain(meter.name, None, *WHOLE).events
            assert paged(metering, meter.name, limit) == [listed(one) for one in explained]


def paged(metering: Metering, event_name: str, limit: int) -> list[object]:
    """All events, `limit` at a time."""
    listed: list[object] = []
    page = metering.events(event_name, limit=limit)
    while page:
        assert len(page) <= limit
        listed += page
        page = metering.events(event_name, limit=limit, starting_after=page[-1].identifier)
    return listed


@given(steps(), st.lists(st.integers(1, 8), min_size=1))
def test_a_batch_is_answered_as_its_reports_one_by_one(history: list[Step], sizes: list[int]) -> None:
    """However reports are cut into batches, each is answered, and the ledger ends, as if it came alone."""
    reports: list[dict[str, object]] = [step.report for step in history]
    for number, report in enumerate(reports):
        if number % 5 == 4:
            report["payload"] = {"customer": "acme", "value": "many", "region": "eu"}
    with opened() as (alone, _), opened() as (batched, _):
        expected = [receipt for report in reports for receipt in alone.record_many([report])]
        answered = list(expected[:0])
        rest, turn = reports, 0
        while rest:
            size = sizes[turn % len(sizes)]
            answered += batched.record_many(rest[:size])
            rest, turn = rest[size:], turn + 1
        assert outcomes(answered) == outcomes(expected)
        assert [one.position for one in answered] == [one.position for one in expected]
        for meter in told(history):
            assert batched.totals(meter.name, *WHOLE) == alone.totals(meter.name, *WHOLE)


def test_the_histories_hold_what_they_should() -> None:
    """Of many histories some overwrite, some cancel what counts, some are late and some repeat an identifier."""
    seen: set[str] = set()

    @settings(max_examples=80, derandomize=True)
    @given(steps())
    def look(history: list[Step]) -> None:
        with opened() as (metering, clock):
            said = tell(metering, clock, history)
        seen.update(kinds(history, said))

    look()
    assert seen == {"overwritten", "cancelled", "late", "repeated", "equal", "negative", "long"}


def kinds(history: list[Step], said: list[Said]) -> set[str]:
    """What a history has in it."""
    uses = [one for one in said if not one.cancels]
    moments = [(one.meter, one.customer, one.occurred_at) for one in uses]
    meters = {meter.name: meter for meter in METERS}
    counts = {one.identifier for name, meter in meters.items() for one in effective(said, name, meter.window)}
    cancelled = {one.identifier for one in said if one.cancels}
    found = {
        "overwritten": any(one.identifier not in counts | cancelled for one in uses),
        "cancelled": bool(cancelled),
        "late": any(earlier.occurred_at > later.occurred_at for earlier, later in pairwise(uses)),
        "repeated": len(uses) < sum(not step.cancels for step in history),
        "equal": len(set(moments)) < len(moments),
        "negative": any((one.value or "").startswith("-") for one in uses),
        "long": any(len(one.value or "") > 28 for one in uses),
    }
    return {kind for kind, is_there in found.items() if is_there}
