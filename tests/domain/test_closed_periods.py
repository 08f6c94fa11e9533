"""Closing periods: the figures of an invoice are frozen once, never twice, and reopened for a reason only."""

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
from tallybook.domain import AcceptancePolicy, ClosedPeriod, ClosedPeriods, Figures, Rules, TallybookError
from tallybook.domain.aggregate import Aggregate
from tallybook.domain.errors import InvalidTimeRange, PeriodNotClosed, PeriodOverlaps

JANUARY, FEBRUARY, MARCH, APRIL = (datetime(2026, month, 1, tzinfo=UTC) for month in (1, 2, 3, 4))
LATER = datetime(2026, 6, 1, tzinfo=UTC)
HOUR, DAY, MICROSECOND = timedelta(hours=1), timedelta(days=1), timedelta(microseconds=1)
POLICY = AcceptancePolicy()


def acme() -> ClosedPeriods:
    """Acme's periods of tokens, none closed yet."""
    return ClosedPeriods.begin("tokens", "acme", at=JANUARY)


def figures(quantity: int | str, position: int = 10) -> Figures:
    """What was counted."""
    number = Decimal(quantity)
    return Figures(
        quantity=number, billable=max(number, Decimal(0)), sum=number, count=3, last=None,
        rules=Rules(), revision=1, position=position, digest="d" * 64,
    )  # fmt: skip


def close(
    periods: ClosedPeriods, start: datetime, end: datetime, quantity: int | str = 5, at: datetime = LATER
) -> ClosedPeriod:
    """Close a period of so many tokens."""
    return periods.close(start, end, figures(quantity), at=at, policy=POLICY)


def refusal(call: Any, *arguments: Any, **named: Any) -> tuple[str, str | None]:
    """The code and the field of a refusal."""
    with pytest.raises(TallybookError) as refused:
        call(*arguments, **named)
    return refused.value.code, refused.value.field


def replayed(periods: ClosedPeriods) -> ClosedPeriods:
    """The aggregate made again from its events, as the ledger does."""
    again: ClosedPeriods | None = None
    for event in periods.pending_events:
        again = event.mutate(again)
    assert again is not None
    return again


def test_a_closed_period_keeps_what_was_counted_and_how() -> None:
    """Figures, rules, and what the ledger knew: all that an invoice line rests on."""
    closed = acme().close(JANUARY, FEBRUARY, figures(-7, position=42), at=LATER, policy=POLICY)
    assert (closed.event_name, closed.customer) == ("tokens", "acme")
    assert (closed.start, closed.end, closed.closed_at) == (JANUARY, FEBRUARY, LATER)
    assert (closed.quantity, closed.billable, closed.sum, closed.count, closed.last) == (-7, 0, -7, 3, None)
    assert (closed.rules, closed.revision, closed.position, closed.digest) == (Rules(), 1, 42, "d" * 64)
    assert (closed.is_standing, closed.reopened_at, closed.reason, closed.by) == (True, None, None, None)


def test_closing_again_gives_the_first_answer() -> None:
    """Whatever was counted since: an invoice that went out stays as it is, and nothing is written."""
    periods = acme()
    first = close(periods, JANUARY, FEBRUARY, 5)
    again = close(periods, JANUARY, FEBRUARY, 8, at=LATER + DAY)
    assert again == first
    assert len(periods.pending_events) == 1


def test_closing_again_is_no_matter_of_the_policy() -> None:
    """A grace that was made longer since doesn't take back what was closed."""
    periods = acme()
    first = close(periods, JANUARY, FEBRUARY, at=FEBRUARY + HOUR)
    patient = AcceptancePolicy(grace=timedelta(hours=72))
    assert periods.close(JANUARY, FEBRUARY, figures(8), at=FEBRUARY + HOUR, policy=patient) == first


def test_a_period_is_the_same_in_any_timezone() -> None:
    """Bounds are moments: told by Tokyo's clocks they are the same period."""
    tokyo = timezone(timedelta(hours=9))
    periods = acme()
    first = close(periods, JANUARY, FEBRUARY)
    assert periods.standing(JANUARY.astimezone(tokyo), FEBRUARY.astimezone(tokyo)) == first
    assert close(periods, JANUARY.astimezone(tokyo), FEBRUARY.astimezone(tokyo)) == first
    assert close(periods, FEBRUARY.astimezone(tokyo), MARCH.astimezone(tokyo)).start.tzinfo is UTC


def test_whether_a_period_is_closed_can_be_asked_before_it_is_counted() -> None:
    """Only exactly the period that was closed is."""
    periods = acme()
    assert periods.standing(JANUARY, FEBRUARY) is None
    closed = close(periods, JANUARY, FEBRUARY)
    assert periods.standing(JANUARY, FEBRUARY) is closed
    assert periods.standing(JANUARY, FEBRUARY - DAY) is None
    assert periods.standing(FEBRUARY, MARCH) is None


@pytest.mark.parametrize(
    ("grace", "after_end", "closes"),
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
def test_a_period_is_closed_when_it_is_over(grace: timedelta | None, after_end: timedelta, closes: bool) -> None:
    """Once its grace for late reports is; where the grace is lifted it must have ended all the same."""
    periods, policy = acme(), AcceptancePolicy(grace=grace)

    def closing() -> ClosedPeriod:
        return periods.close(JANUARY, FEBRUARY, figures(5), at=FEBRUARY + after_end, policy=policy)

    if closes:
        assert closing().quantity == 5
    else:
        assert refusal(closing) == ("period_not_over", "end")
        assert periods.pending_events == []


def test_the_end_of_time_is_never_over() -> None:
    """Nor does it overflow."""
    end = datetime.max.replace(tzinfo=UTC)
    assert refusal(close, acme(), JANUARY, end) == ("period_not_over", "end")


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
def test_a_use_is_in_one_closed_period_only(start: datetime, end: datetime) -> None:
    """What overlaps a closed period is refused, and told which one; the neighbours on both sides are not."""
    periods = acme()
    close(periods, FEBRUARY, MARCH)
    with pytest.raises(TallybookError, match=r"from 2026-02-01 .* to 2026-03-01 ") as refused:
        close(periods, start, end)
    assert (refused.value.code, refused.value.field) == ("period_overlaps", "start")
    close(periods, JANUARY, FEBRUARY)
    close(periods, MARCH, APRIL)
    assert len(periods.pending_events) == 3


def test_a_reopened_period_is_closed_anew_with_fresh_figures_and_both_closings_are_kept() -> None:
    """What was invoiced first stays on record, with who asked to reopen it, when and why."""
    periods = acme()
    close(periods, JANUARY, FEBRUARY, 5)
    reopened = periods.reopen(JANUARY, FEBRUARY, reason="a report was missing", by="ops@acme", at=LATER + DAY)
    assert (reopened.quantity, reopened.reopened_at) == (5, LATER + DAY)
    assert (reopened.reason, reopened.by, reopened.is_standing) == ("a report was missing", "ops@acme", False)
    assert periods.standing(JANUARY, FEBRUARY) is None

    fresh = close(periods, JANUARY, FEBRUARY, 8, at=LATER + 2 * DAY)
    assert periods.closings == [reopened, fresh]
    assert (fresh.quantity, fresh.is_standing, fresh.reopened_at) == (8, True, None)
    assert close(periods, JANUARY, FEBRUARY, 9) is fresh


def test_once_reopened_a_period_may_be_cut_otherwise() -> None:
    """Two halves may take the place of a month that was closed by mistake."""
    periods, half = acme(), datetime(2026, 1, 15, tzinfo=UTC)
    close(periods, JANUARY, FEBRUARY)
    periods.reopen(JANUARY, FEBRUARY, reason=None, by=None, at=LATER)
    close(periods, JANUARY, half)
    close(periods, half, FEBRUARY)
    assert refusal(close, periods, JANUARY, FEBRUARY) == ("period_overlaps", "start")


def test_only_what_is_closed_is_reopened() -> None:
    """With exactly its bounds, and once."""
    periods = acme()
    close(periods, JANUARY, FEBRUARY)
    for start, end in ((FEBRUARY, MARCH), (JANUARY, MARCH), (JANUARY, FEBRUARY - DAY)):
        asked = refusal(periods.reopen, start, end, reason="", by=None, at=LATER)
        assert asked == ("period_not_closed", "start")
    periods.reopen(JANUARY, FEBRUARY, reason=None, by=None, at=LATER)
    again = refusal(periods.reopen, JANUARY, FEBRUARY, reason=None, by=None, at=LATER)
    assert again == ("period_not_closed", "start")


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
    """It begins before it ends, and both bounds name their timezone."""
    assert refusal(close, acme(), start, end) == ("invalid_time_range", field)


def test_meters_and_customers_have_streams_of_their_own() -> None:
    """Whatever characters their names are of, no two share one."""
    names = ["a", "b", "a/b", "b/a", "a%2Fb", "%", "Zoë", "a b", "."]
    assert len({ClosedPeriods.stream(meter, customer) for meter in names for customer in names}) == len(names) ** 2
    assert ClosedPeriods.stream("tokens/out", "Zoë & Søn") == "period/tokens%2Fout/Zo%C3%AB%20%26%20S%C3%B8n"


def test_the_first_closing_begins_the_aggregate_and_later_ones_go_on_with_it() -> None:
    """Made again from what was stored it is the same, closing by closing."""
    periods = acme()
    close(periods, JANUARY, FEBRUARY)
    periods.reopen(JANUARY, FEBRUARY, reason="why", by=None, at=LATER)
    close(periods, JANUARY, FEBRUARY)
    close(periods, FEBRUARY, MARCH)
    again = replayed(periods)
    assert (again.id, again.version) == (periods.id, 4)
    assert (again.event_name, again.customer) == ("tokens", "acme")
    assert again.closings == periods.closings


def test_what_a_closing_says_can_t_be_changed() -> None:
    """It is a frozen value."""
    closed = close(acme(), JANUARY, FEBRUARY)
    with pytest.raises(ValidationError, match="frozen"):
        closed.quantity = Decimal(0)  # type: ignore[misc]


@pytest.mark.parametrize("number", ["0", "-25.50", "1E+3", "1E-7", "12345678901234567890.000000000000000001"])
def test_figures_are_stored_as_plain_text(number: str) -> None:
    """No float, no exponent; and read back as the same number."""
    periods = acme()
    close(periods, JANUARY, FEBRUARY, number)
    stored = cast(Aggregate.Event, periods.pending_events[0]).model_dump(mode="json")
    assert stored["quantity"] == stored["sum"] == f"{Decimal(number):f}"
    assert Figures.model_validate(stored).quantity == Decimal(number)


DAYS = st.integers(0, 12)


@given(st.lists(st.tuples(st.booleans(), DAYS, DAYS), max_size=40))
def test_standing_periods_never_overlap(asked: list[tuple[bool, int, int]]) -> None:
    """Whatever is closed and reopened in whatever order, each day is in one standing period at most."""
    periods = acme()
    for closes, first, last in asked:
        bounds = JANUARY + first * DAY, JANUARY + last * DAY
        with suppress(InvalidTimeRange, PeriodOverlaps, PeriodNotClosed):
            if closes:
                close(periods, *bounds)
            else:
                periods.reopen(*bounds, reason=None, by=None, at=LATER)
    standing = sorted((one.start, one.end) for one in periods.closings if one.is_standing)
    assert all(start < end for start, end in standing)
    assert all(before[1] <= after[0] for before, after in pairwise(standing))
    assert not periods.pending_events or replayed(periods).closings == periods.closings


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
    """A name that is longer than every store can index is there as its digest; no other name can say the same."""
    assert ClosedPeriods.stream("tokens", customer) == stream
