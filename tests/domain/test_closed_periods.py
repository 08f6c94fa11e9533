"""Closing periods: totals are frozen once, and periods are reopened explicitly."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from hashlib import sha256
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tallybook.domain import AcceptancePolicy, ClosedPeriod, CustomerPeriods, PeriodTotals, Rules, TallybookError
from tallybook.domain.aggregate import Aggregate
from tallybook.domain.errors import InvalidTimeRange, PeriodNotClosed, PeriodOverlaps

JANUARY, FEBRUARY, MARCH, APRIL = (datetime(2026, month, 1, tzinfo=UTC) for month in (1, 2, 3, 4))
LATER = datetime(2026, 6, 1, tzinfo=UTC)
HOUR, DAY, MICROSECOND = timedelta(hours=1), timedelta(days=1), timedelta(microseconds=1)
POLICY = AcceptancePolicy()


def acme_periods() -> CustomerPeriods:
    """Return the periods of one customer, none closed yet."""
    return CustomerPeriods.empty("tokens", "acme", at=JANUARY)


def totals(quantity: int | str, position: int = 10) -> PeriodTotals:
    """Return period totals."""
    number = Decimal(quantity)
    return PeriodTotals(
        quantity=number, billable=max(number, Decimal(0)), sum=number, count=3, last=None,
        rules=Rules(), revision=1, position=position, digest="d" * 64,
    )  # fmt: skip


def close(
    periods: CustomerPeriods, start: datetime, end: datetime, quantity: int | str = 5, at: datetime = LATER
) -> ClosedPeriod:
    """Close a period with this quantity."""
    return periods.close(start, end, totals(quantity), at=at, policy=POLICY)


def error_of(call: Any, *arguments: Any, **keywords: Any) -> tuple[str, str | None]:
    """Return the code and the field of the raised error."""
    with pytest.raises(TallybookError) as exc_info:
        call(*arguments, **keywords)
    return exc_info.value.code, exc_info.value.field


def replay(periods: CustomerPeriods) -> CustomerPeriods:
    """Return the aggregate replayed from its events, as the ledger does."""
    rebuilt: CustomerPeriods | None = None
    for event in periods.pending_events:
        rebuilt = event.mutate(rebuilt)
    assert rebuilt is not None
    return rebuilt


def test_a_closed_period_stores_its_totals_and_rules() -> None:
    """Totals, rules and position: everything that an invoice line is based on."""
    closed = acme_periods().close(JANUARY, FEBRUARY, totals(-7, position=42), at=LATER, policy=POLICY)
    assert (closed.event_name, closed.customer) == ("tokens", "acme")
    assert (closed.start, closed.end, closed.closed_at) == (JANUARY, FEBRUARY, LATER)
    assert (closed.quantity, closed.billable, closed.sum, closed.count, closed.last) == (-7, 0, -7, 3, None)
    assert (closed.rules, closed.revision, closed.position, closed.digest) == (Rules(), 1, 42, "d" * 64)
    assert (closed.is_closed, closed.reopened_at, closed.reason, closed.by) == (True, None, None, None)


def test_closing_again_returns_the_first_result() -> None:
    """Other totals are ignored: the invoiced totals stay, and no event is triggered."""
    periods = acme_periods()
    first = close(periods, JANUARY, FEBRUARY, 5)
    closed_again = close(periods, JANUARY, FEBRUARY, 8, at=LATER + DAY)
    assert closed_again == first
    assert len(periods.pending_events) == 1


def test_closing_again_ignores_the_policy() -> None:
    """A longer grace period has no effect on a closed period."""
    periods = acme_periods()
    first = close(periods, JANUARY, FEBRUARY, at=FEBRUARY + HOUR)
    patient = AcceptancePolicy(grace_period=timedelta(hours=72))
    assert periods.close(JANUARY, FEBRUARY, totals(8), at=FEBRUARY + HOUR, policy=patient) == first


def test_a_period_is_the_same_in_any_timezone() -> None:
    """Bounds are instants: in another timezone they are the same period."""
    tokyo = timezone(timedelta(hours=9))
    periods = acme_periods()
    first = close(periods, JANUARY, FEBRUARY)
    assert periods.find_closed(JANUARY.astimezone(tokyo), FEBRUARY.astimezone(tokyo)) == first
    assert close(periods, JANUARY.astimezone(tokyo), FEBRUARY.astimezone(tokyo)) == first
    assert close(periods, FEBRUARY.astimezone(tokyo), MARCH.astimezone(tokyo)).start.tzinfo is UTC


def test_a_closed_period_can_be_looked_up_before_counting() -> None:
    """Only with exactly the bounds of the closed period."""
    periods = acme_periods()
    assert periods.find_closed(JANUARY, FEBRUARY) is None
    closed = close(periods, JANUARY, FEBRUARY)
    assert periods.find_closed(JANUARY, FEBRUARY) is closed
    assert periods.find_closed(JANUARY, FEBRUARY - DAY) is None
    assert periods.find_closed(FEBRUARY, MARCH) is None


@pytest.mark.parametrize(
    ("grace_period", "after_end", "closes"),
    [
        (HOUR, HOUR, True),
        (HOUR, HOUR - MICROSECOND, False),
        (HOUR, -DAY, False),
        (timedelta(hours=72), timedelta(hours=72), True),
        (timedelta(hours=72), timedelta(hours=72) - MICROSECOND, False),
        (timedelta(0), timedelta(0), True),
        (timedelta(0), -MICROSECOND, False),
        (None, timedelta(0), True),
        (None, -MICROSECOND, False),
    ],
)
def test_a_period_can_be_closed_after_it_ends(
    grace_period: timedelta | None, after_end: timedelta, closes: bool
) -> None:
    """After its grace period; without a grace period it must still have ended."""
    periods, policy = acme_periods(), AcceptancePolicy(grace_period=grace_period)

    def close_now() -> ClosedPeriod:
        return periods.close(JANUARY, FEBRUARY, totals(5), at=FEBRUARY + after_end, policy=policy)

    if closes:
        assert close_now().quantity == 5
    else:
        assert error_of(close_now) == ("period_not_ended", "end")
        assert periods.pending_events == []


def test_a_period_to_the_end_of_time_never_ends() -> None:
    """No calculation overflows."""
    end = datetime.max.replace(tzinfo=UTC)
    assert error_of(close, acme_periods(), JANUARY, end) == ("period_not_ended", "end")


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (FEBRUARY, MARCH - DAY),
        (FEBRUARY + DAY, MARCH),
        (FEBRUARY + DAY, MARCH - DAY),
        (JANUARY, APRIL),
        (JANUARY, FEBRUARY + MICROSECOND),
        (MARCH - MICROSECOND, APRIL),
    ],
)
def test_closed_periods_never_overlap(start: datetime, end: datetime) -> None:
    """An overlapping period is rejected with the bounds of the closed one; adjacent periods are accepted."""
    periods = acme_periods()
    close(periods, FEBRUARY, MARCH)
    with pytest.raises(TallybookError, match=r"from 2026-02-01 .* to 2026-03-01 ") as exc_info:
        close(periods, start, end)
    assert (exc_info.value.code, exc_info.value.field) == ("period_overlaps", "start")
    close(periods, JANUARY, FEBRUARY)
    close(periods, MARCH, APRIL)
    assert len(periods.pending_events) == 3


def test_a_reopened_period_is_closed_again_with_new_totals() -> None:
    """The first closing stays in the history, with the author, time and reason of its reopening."""
    periods = acme_periods()
    close(periods, JANUARY, FEBRUARY, 5)
    reopened = periods.reopen(JANUARY, FEBRUARY, reason="a report was missing", by="ops@acme", at=LATER + DAY)
    assert (reopened.quantity, reopened.reopened_at) == (5, LATER + DAY)
    assert (reopened.reason, reopened.by, reopened.is_closed) == ("a report was missing", "ops@acme", False)
    assert periods.find_closed(JANUARY, FEBRUARY) is None

    fresh = close(periods, JANUARY, FEBRUARY, 8, at=LATER + 2 * DAY)
    assert periods.closed_periods == [reopened, fresh]
    assert (fresh.quantity, fresh.is_closed, fresh.reopened_at) == (8, True, None)
    assert close(periods, JANUARY, FEBRUARY, 9) is fresh


def test_a_reopened_period_may_be_split_differently() -> None:
    """Two halves may replace a month that was closed by mistake."""
    periods, half = acme_periods(), datetime(2026, 1, 15, tzinfo=UTC)
    close(periods, JANUARY, FEBRUARY)
    periods.reopen(JANUARY, FEBRUARY, reason=None, by=None, at=LATER)
    close(periods, JANUARY, half)
    close(periods, half, FEBRUARY)
    assert error_of(close, periods, JANUARY, FEBRUARY) == ("period_overlaps", "start")


def test_only_a_closed_period_can_be_reopened() -> None:
    """With exactly its bounds, and once."""
    periods = acme_periods()
    close(periods, JANUARY, FEBRUARY)
    for start, end in ((FEBRUARY, MARCH), (JANUARY, MARCH), (JANUARY, FEBRUARY - DAY)):
        error = error_of(periods.reopen, start, end, reason="", by=None, at=LATER)
        assert error == ("period_not_closed", "start")
    periods.reopen(JANUARY, FEBRUARY, reason=None, by=None, at=LATER)
    second_error = error_of(periods.reopen, JANUARY, FEBRUARY, reason=None, by=None, at=LATER)
    assert second_error == ("period_not_closed", "start")


@pytest.mark.parametrize(
    ("start", "end", "field"),
    [
        (FEBRUARY, JANUARY, "start"),
        (JANUARY, JANUARY, "end"),
        (JANUARY.replace(tzinfo=None), FEBRUARY, "start"),
        (JANUARY, FEBRUARY.replace(tzinfo=None), "end"),
    ],
)
def test_a_period_is_a_range_of_time(start: datetime, end: datetime, field: str) -> None:
    """It starts before it ends, and both bounds are aware datetimes."""
    assert error_of(close, acme_periods(), start, end) == ("invalid_time_range", field)


def test_meters_and_customers_have_streams_of_their_own() -> None:
    """No two share a stream, whatever characters their names contain."""
    names = ["a", "b", "a/b", "b/a", "a%2Fb", "%", "Zoë", "a b", "."]
    assert len({CustomerPeriods.stream_id(meter, customer) for meter in names for customer in names}) == len(names) ** 2
    assert CustomerPeriods.stream_id("tokens/out", "Zoë & Søn") == "period/tokens%2Fout/Zo%C3%AB%20%26%20S%C3%B8n"


def test_the_first_close_creates_the_aggregate_and_later_ones_extend_it() -> None:
    """Replayed from its events, it is the same after each closing."""
    periods = acme_periods()
    close(periods, JANUARY, FEBRUARY)
    periods.reopen(JANUARY, FEBRUARY, reason="why", by=None, at=LATER)
    close(periods, JANUARY, FEBRUARY)
    close(periods, FEBRUARY, MARCH)
    rebuilt = replay(periods)
    assert (rebuilt.id, rebuilt.version) == (periods.id, 4)
    assert (rebuilt.event_name, rebuilt.customer) == ("tokens", "acme")
    assert rebuilt.closed_periods == periods.closed_periods


def test_a_closed_period_is_immutable() -> None:
    """It is a frozen value."""
    closed = close(acme_periods(), JANUARY, FEBRUARY)
    with pytest.raises(ValidationError, match="frozen"):
        closed.quantity = Decimal(0)  # type: ignore[misc]


@pytest.mark.parametrize("number", ["0", "-25.50", "1E+3", "1E-7", "12345678901234567890.000000000000000001"])
def test_totals_are_stored_as_plain_text(number: str) -> None:
    """No float and no exponent; parsing returns the same number."""
    periods = acme_periods()
    close(periods, JANUARY, FEBRUARY, number)
    stored = cast(Aggregate.Event, periods.pending_events[0]).model_dump(mode="json")
    assert stored["quantity"] == stored["sum"] == f"{Decimal(number):f}"
    assert PeriodTotals.model_validate(stored).quantity == Decimal(number)


DAYS = st.integers(0, 12)


@given(st.lists(st.tuples(st.booleans(), DAYS, DAYS), max_size=40))
def test_random_closed_periods_never_overlap(commands: list[tuple[bool, int, int]]) -> None:
    """After any closings and reopenings, each day is in at most one closed period."""
    periods = acme_periods()
    for closes, first, last in commands:
        bounds = JANUARY + first * DAY, JANUARY + last * DAY
        with suppress(InvalidTimeRange, PeriodOverlaps, PeriodNotClosed):
            if closes:
                close(periods, *bounds)
            else:
                periods.reopen(*bounds, reason=None, by=None, at=LATER)
    closed = sorted((period.start, period.end) for period in periods.closed_periods if period.is_closed)
    assert all(start < end for start, end in closed)
    assert all(before[1] <= after[0] for before, after in pairwise(closed))
    assert not periods.pending_events or replay(periods).closed_periods == periods.closed_periods


@pytest.mark.parametrize(
    ("customer", "stream"),
    [
        ("acme", "period/tokens/acme"),
        ("é/=", "period/tokens/%C3%A9%2F%3D"),
        ("a" * 1_000, f"period/tokens/{'a' * 1_000}"),
        ("a" * 1_001, f"period/tokens/={sha256(b'a' * 1_001).hexdigest()}"),
        ("é" * 167, f"period/tokens/={sha256('é'.encode() * 167).hexdigest()}"),
    ],
)
def test_a_stream_is_named_after_its_customer(customer: str, stream: str) -> None:
    """A name that some databases can't index is replaced by its digest, which differs from every encoded name."""
    assert CustomerPeriods.stream_id("tokens", customer) == stream
