"""For any meter events and cancellations, each query result equals the naive model."""

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st
from tallybook.application import ExplainedEvent, Explanation, MeterEventView, Metering, Verdict

from .coverage import first_examples, search, stop_if_covered
from .histories import (
    BEGINNING,
    CUSTOMERS,
    FORMULAS,
    MINUTES,
    MeterRules,
    Step,
    catch_up_every,
    meters_of,
    open_ledger,
    outcomes,
    run_steps,
    steps,
    totals_of,
)
from .naive import (
    HistoryEntry,
    cancelled_identifiers,
    compute_contributions,
    compute_quantity,
    compute_totals,
    effective,
    entries_between,
    window_start,
)

ALL_TIME = BEGINNING - timedelta(days=40), BEGINNING + timedelta(days=40)
RANGES = st.tuples(MINUTES, MINUTES).map(
    lambda ends: (BEGINNING + timedelta(minutes=min(ends)), BEGINNING + timedelta(minutes=max(ends)))
)
CATCH_UP_INTERVALS = st.integers(1, 12)
ZONES = ("UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia", "America/New_York")


def as_listed(event: ExplainedEvent) -> MeterEventView:
    """Return an event of an explanation in the form of a listed event."""
    return MeterEventView(*(getattr(event, field.name) for field in fields(MeterEventView)))


@given(steps(), RANGES, CATCH_UP_INTERVALS)
def test_a_total_equals_the_reference_model(
    history: list[Step], between: tuple[datetime, datetime], interval: int
) -> None:
    """Sum, count, last, value and billable of each customer and of all customers, in any range."""
    with open_ledger(meters_of(history)) as (metering, clock):
        entries = run_steps(metering, clock, history, after=catch_up_every(metering, interval))
        for meter in meters_of(history):
            counted = effective(entries, meter.name, meter.window)
            for start, end in (between, ALL_TIME):
                for customer in (*CUSTOMERS, None):
                    total = metering.total(meter.name, customer, start, end)
                    assert totals_of(total) == compute_totals(counted, customer, start, end, meter.window)
                    quantity = expected_quantity(meter, entries_between(counted, customer, start, end, meter.window))
                    assert Fraction(total.value) == quantity
                    assert Fraction(total.billable) == max(Fraction(0), quantity)
                    assert (total.customer, total.start, total.end) == (customer, start, end)


def expected_quantity(meter: MeterRules, counted: list[HistoryEntry]) -> Fraction:
    """Return the quantity by the meter's formula and multiplier."""
    return compute_quantity(meter.formula, counted, meter.multiplier)


@given(steps(), RANGES)
def test_totals_are_the_total_of_each_customer_with_usage(
    history: list[Step], between: tuple[datetime, datetime]
) -> None:
    """They are ordered by customer; customers without counted usage are omitted."""
    with open_ledger(meters_of(history)) as (metering, clock):
        run_steps(metering, clock, history)
        for meter in meters_of(history):
            for start, end in (between, ALL_TIME):
                customer_totals = [metering.total(meter.name, customer, start, end) for customer in CUSTOMERS]
                assert metering.totals(meter.name, start, end) == [total for total in customer_totals if total.count]


@given(steps(), RANGES, st.sampled_from([1, 2, 5, 40_000]))
def test_replaying_the_ledger_gives_the_same_totals(
    history: list[Step], between: tuple[datetime, datetime], page_size: int
) -> None:
    """Replay doesn't use the read models, and its result doesn't depend on the page size."""
    with open_ledger(meters_of(history)) as (metering, clock):
        metering._projector.page_size = page_size  # pyright: ignore[reportPrivateUsage]
        run_steps(metering, clock, history)
        for meter in meters_of(history):
            for start, end in (between, ALL_TIME):
                assert metering.replay_totals(meter.name, start, end) == metering.totals(meter.name, start, end)


@given(
    steps(),
    RANGES,
    CATCH_UP_INTERVALS,
    st.sampled_from(["minute", "hour", "day", "month", "year"]),
    st.sampled_from(ZONES),
)
def test_summaries_are_totals_of_the_windows_that_tile_the_range(
    history: list[Step], between: tuple[datetime, datetime], interval: int, window: str, timezone: str
) -> None:
    """Each counted event is in the window of its local minute, hour, day, month or year, and in no other."""
    with open_ledger(meters_of(history)) as (metering, clock):
        entries = run_steps(metering, clock, history, after=catch_up_every(metering, interval))
        for meter in meters_of(history):
            counted = effective(entries, meter.name, meter.window)
            for customer in (CUSTOMERS[0], None):
                summaries = metering.summaries(meter.name, customer, *between, window=window, timezone=timezone)
                assert [totals_of(summary) for summary in summaries] == [
                    compute_totals(
                        counted, customer, max(summary.start, between[0]), min(summary.end, between[1]), meter.window
                    )
                    for summary in summaries
                ]
                assert (
                    sum(summary.count for summary in summaries)
                    == compute_totals(counted, customer, *between, meter.window)[1]
                )
                assert all(summary.count for summary in summaries)
                labels = [label(summary.start, window, timezone) for summary in summaries]
                assert labels == [
                    label(summary.end - timedelta(microseconds=1), window, timezone) for summary in summaries
                ]
                assert len(set(labels)) == len(labels)


def label(at: datetime, window: str, timezone: str) -> str:
    """Return the local name of a window; the two hours of the same name at a DST change differ in their offset."""
    pattern = {
        "minute": "%Y-%m-%d %H:%M %z",
        "hour": "%Y-%m-%d %H %z",
        "day": "%Y-%m-%d",
        "month": "%Y-%m",
        "year": "%Y",
    }[window]
    local = at.astimezone(UTC).astimezone(ZoneInfo(timezone))
    if window == "hour" and timezone == "Australia/Lord_Howe":
        pattern = "%Y-%m-%d %H"  # the DST change is half an hour: the hour from 1:30 to 2:30
    return local.strftime(pattern)


@given(steps(), RANGES)
def test_an_explanation_adds_up_to_its_total(history: list[Step], between: tuple[datetime, datetime]) -> None:
    """It has every event of the range once, in order, with its verdict and contribution; these add up to the total."""
    with open_ledger(meters_of(history)) as (metering, clock):
        entries = run_steps(metering, clock, history)
        for meter in meters_of(history):
            for customer in (*CUSTOMERS, None):
                explanation = metering.explain(meter.name, customer, *between)
                assert explanation.total == metering.total(meter.name, customer, *between)
                assert verdicts(explanation) == expected_verdicts(entries, meter, customer, between)
                counts = [event for event in explanation.events if event.verdict is Verdict.COUNTED]
                added = sum((Fraction(event.value) for event in counts if event.value is not None), Fraction(0))
                assert (added, len(counts)) == totals_of(explanation.total)[:2]
                contributions = {event.identifier: Fraction(event.contribution) for event in explanation.events}
                counted = entries_between(
                    effective(entries, meter.name, meter.window), customer, *between, meter.window
                )
                expected = compute_contributions(meter.formula, counted, meter.multiplier)
                assert contributions == {**dict.fromkeys(contributions, 0), **expected}
                assert sum(contributions.values()) == Fraction(explanation.total.value)


Verdicts = list[tuple[str, str]]


def verdicts(explanation: Explanation) -> Verdicts:
    """Return the identifier and verdict of each event."""
    return [(event.identifier, str(event.verdict)) for event in explanation.events]


def expected_verdicts(
    entries: list[HistoryEntry], meter: MeterRules, customer: str | None, between: tuple[datetime, datetime]
) -> Verdicts:
    """Return the verdict on each event in the range by the naive model."""
    cancelled = cancelled_identifiers(entries)
    counts = {entry.identifier for entry in effective(entries, meter.name, meter.window)}
    within = [
        entry
        for entry in entries
        if entry.meter == meter.name
        and customer in (None, entry.customer)
        and between[0] <= window_start(entry.occurred_at, meter.window) < between[1]
    ]

    def verdict(entry: HistoryEntry) -> str:
        if entry.identifier in cancelled:
            return "cancelled"
        if entry.is_filtered:
            return "filtered"
        return "counted" if entry.identifier in counts else "superseded"

    in_order = sorted(within, key=lambda entry: (entry.occurred_at, entry.position))
    return [(entry.identifier, verdict(entry)) for entry in in_order]


@given(steps(), st.integers(1, 5))
def test_events_are_listed_whole_page_by_page(history: list[Step], limit: int) -> None:
    """The pages of any size, concatenated, equal the explanation of all time."""
    with open_ledger(meters_of(history)) as (metering, clock):
        run_steps(metering, clock, history)
        for meter in meters_of(history):
            explained = metering.explain(meter.name, None, *ALL_TIME).events
            assert paged(metering, meter.name, limit) == [as_listed(event) for event in explained]


def paged(metering: Metering, event_name: str, limit: int) -> list[object]:
    """Return all events, read in pages of `limit`."""
    listed: list[object] = []
    page = metering.events(event_name, limit=limit)
    while page:
        assert len(page) <= limit
        listed += page
        page = metering.events(event_name, limit=limit, starting_after=page[-1].identifier)
    return listed


@given(steps(), st.lists(st.integers(1, 8), min_size=1))
def test_a_batch_gives_the_same_receipts_as_single_meter_events(history: list[Step], sizes: list[int]) -> None:
    """Batches of any sizes have the same receipts and leave the same ledger as single calls."""
    events: list[dict[str, object]] = [step.event_input for step in history]
    for number, event in enumerate(events):
        if number % 5 == 4:
            event["payload"] = {"customer": "acme", "value": "many", "region": "eu"}
    with open_ledger(meters_of(history)) as (single, _), open_ledger(meters_of(history)) as (batched, _):
        expected = [receipt for event in events for receipt in single.record_many([event])]
        receipts = list(expected[:0])
        rest, batch_number = events, 0
        while rest:
            size = sizes[batch_number % len(sizes)]
            receipts += batched.record_many(rest[:size])
            rest, batch_number = rest[size:], batch_number + 1
        assert outcomes(receipts) == outcomes(expected)
        assert [row.position for row in receipts] == [row.position for row in expected]
        for meter in meters_of(history):
            assert batched.totals(meter.name, *ALL_TIME) == single.totals(meter.name, *ALL_TIME)


def test_the_histories_cover_every_case() -> None:
    """Some supersede, some cancel a counted event, some have late events and some repeat an identifier."""
    expected_kinds = {
        "superseded", "cancelled", "filtered", "late", "repeated", "equal", "negative", "long", "no region",
        "revoked", *FORMULAS,
    }  # fmt: skip
    seen_kinds: set[str] = set()

    @first_examples(600)
    @given(steps())
    def collect(history: list[Step]) -> None:
        with open_ledger(meters_of(history)) as (metering, clock):
            entries = run_steps(metering, clock, history)
        seen_kinds.update(kinds_in(history, entries))
        stop_if_covered(seen_kinds, expected_kinds)

    search(collect)
    assert seen_kinds == expected_kinds


def kinds_in(history: list[Step], entries: list[HistoryEntry]) -> set[str]:
    """Return the cases that a history covers."""
    counted = [entry for entry in entries if not entry.cancels]
    moments = [(entry.meter, entry.customer, entry.occurred_at) for entry in counted]
    meters = meters_of(history)
    counts = {entry.identifier for meter in meters for entry in effective(entries, meter.name, meter.window)}
    cancelled = cancelled_identifiers(entries)
    filtered = {entry.identifier for entry in counted if entry.is_filtered}
    present = {
        "superseded": any(entry.identifier not in counts | cancelled | filtered for entry in counted),
        "cancelled": bool(cancelled),
        "revoked": any(entry.revokes and entry.identifier in counts for entry in entries),
        "filtered": bool(filtered),
        "no region": any(entry.dimensions == (None,) for entry in counted),
        **{formula: any(meter.formula == formula for meter in meters) for formula in FORMULAS},
        "late": any(earlier.occurred_at > later.occurred_at for earlier, later in pairwise(counted)),
        "repeated": len(counted) < sum(not step.cancels for step in history),
        "equal": len(set(moments)) < len(moments),
        "negative": any((entry.value or "").startswith("-") for entry in counted),
        "long": any(len(entry.value or "") > 28 for entry in counted),
    }
    return {kind for kind, is_there in present.items() if is_there}
