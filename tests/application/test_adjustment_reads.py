"""What adjustments read: a range once for many customers, and no more events than are asked for."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tallybook.application import AcceptancePolicy, Adjustment, ClosedPeriod, Metering
from tallybook.application.ledger.ledger import Ledger
from tallybook.application.queries.period_adjustment import AdjustmentCalculator
from tallybook.domain.errors import InvalidIdentifier, InvalidParameter
from tallybook.domain.meter_event import MeterEventData

START, END, NOW = (
    datetime(2026, 10, 1, tzinfo=UTC),
    datetime(2026, 11, 1, tzinfo=UTC),
    datetime(2026, 11, 2, tzinfo=UTC),
)
CUSTOMERS = [f"customer-{number}" for number in range(20)]


@pytest.fixture
def read_positions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the positions of the meter events that are read from the ledger from now on."""
    positions_read: list[int] = []
    meter_events_at = Ledger.meter_events_at

    def counted(ledger: Ledger, positions: Iterable[int]) -> Mapping[int, tuple[str, MeterEventData]]:
        listed = list(positions)
        positions_read.extend(listed)
        return meter_events_at(ledger, listed)

    monkeypatch.setattr(Ledger, "meter_events_at", counted)
    return positions_read


def test_payloads_are_parsed_once_for_all_customers_of_a_range(read_positions: list[int]) -> None:
    """After a change of the customer key, closed periods are read from the payloads of the whole range."""
    with Metering.open("sqlite://", policy=AcceptancePolicy(max_age=None), clock=lambda: NOW) as metering:
        metering.meters.configure("calls", customer_key="customer", value_key="calls")
        metering.record_many(
            {
                "event_name": "calls",
                "payload": {"customer": customer, "account": "all", "calls": "1"},
                "timestamp": START,
            }
            for customer in CUSTOMERS
        )
        for customer in CUSTOMERS:
            metering.periods.close("calls", customer, START, END)
        metering.rules.change("calls", {"customer_key": "account"}, reason="billed by account")
        read_positions.clear()
        adjustments = metering.periods.adjustments("calls")
    assert [(adjustment.difference, adjustment.rules_difference) for adjustment in adjustments] == [(0, -1)] * 20
    assert len(read_positions) == len(CUSTOMERS)


@pytest.fixture
def adjusted() -> Iterator[Metering]:
    """Return a ledger with a closed period of one customer, after which five events were recorded."""
    with Metering.open("sqlite://", policy=AcceptancePolicy(max_age=None), clock=lambda: NOW) as metering:
        metering.meters.configure("users", formula="unique_count", customer_key="customer", value_key="user")
        metering.periods.close("users", "acme", START, END, allow_empty=True)
        for number in range(5):
            payload = {"customer": "acme", "user": f"{number}" * 1_000}
            metering.record("users", payload, identifier=f"req-{number}", timestamp=START + timedelta(days=number))
        yield metering


@pytest.mark.parametrize("maximum", [0, 2, 5, 9])
def test_an_adjustment_has_the_first_events_that_the_query_asks_for(
    adjusted: Metering, read_positions: list[int], maximum: int
) -> None:
    """Only these are read from the ledger. The number of all, and the other fields, are the same."""
    (whole,) = adjusted.periods.adjustments("users")
    read_positions.clear()
    (limited,) = adjusted.periods.adjustments("users", max_events=maximum)
    assert limited.events == whole.events[:maximum]
    assert read_positions == [event.position for event in limited.events]
    assert replace(limited, events=whole.events) == whole
    assert (limited.event_count, limited.is_open) == (5, True)


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("maximum", [None, 2])
def test_further_events_are_read_after_or_before_one(
    adjusted: Metering, read_positions: list[int], number: int, maximum: int | None
) -> None:
    """The first ones after it, and the last ones before it; no others are read from the ledger."""
    (whole,) = adjusted.periods.adjustments("users")
    cursor = f"req-{number}"
    read_positions.clear()
    (after,) = adjusted.periods.adjustments("users", max_events=maximum, events_after=cursor)
    (before,) = adjusted.periods.adjustments("users", max_events=maximum, events_before=cursor)
    assert after.events == whole.events[number + 1 :][:maximum]
    assert before.events == whole.events[:number][-(maximum or 5) :]
    assert read_positions == [event.position for event in (*after.events, *before.events)]


def test_adjustments_are_computed_while_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the first of 100,000 is there before the others, and these need not be in memory at once."""
    computed: list[ClosedPeriod] = []
    adjustment_of = AdjustmentCalculator.adjustment

    def counted(calculator: AdjustmentCalculator, period: ClosedPeriod, **options: Any) -> Adjustment | None:
        computed.append(period)
        return adjustment_of(calculator, period, **options)

    monkeypatch.setattr(AdjustmentCalculator, "adjustment", counted)
    with Metering.open("sqlite://", policy=AcceptancePolicy(max_age=None), clock=lambda: NOW) as metering:
        metering.meters.configure("calls", formula="count", customer_key="customer")
        for days in (3, 0, 2, 1):
            bounds = START + timedelta(days=days), START + timedelta(days=days + 1)
            for customer in ("zeta", "acme"):
                metering.periods.close("calls", customer, *bounds, allow_empty=True)
                metering.record("calls", {"customer": customer}, timestamp=bounds[0])
        expected = metering.periods.adjustments("calls")
        computed.clear()
        with metering.periods.read_adjustments("calls") as adjustments:
            first = next(adjustments)
            assert len(computed) == 1
            read = [first, *adjustments]
    assert sorted(read, key=lambda adjustment: (adjustment.period.customer, adjustment.period.start)) == expected
    assert len(expected) == 8


def test_further_events_of_an_unknown_one_are_an_error(adjusted: Metering) -> None:
    """The error names the argument."""
    with pytest.raises(InvalidIdentifier, match="No meter event is recorded under the identifier 'x'") as raised:
        adjusted.periods.adjustments("users", events_before="x")
    assert raised.value.field == "events_before"


def test_invoice_lines_and_settlements_read_no_events(adjusted: Metering, read_positions: list[int]) -> None:
    """They have the figures alone, also of an adjustment whose events add up to 0."""
    november = END, END + timedelta(days=30)
    lines = adjusted.periods.invoice_lines(*november)
    assert [line.quantity for line in lines.lines] == [5]
    settled = adjusted.periods.invoice_lines(*november, settle="invoice run 11", as_of=lines.position)
    assert settled.settlement is not None
    assert settled.settlement.settled == 1
    adjusted.record("users", {"customer": "acme", "user": "0" * 1_000}, timestamp=START)
    assert adjusted.periods.settle("users", "acme", START, END, document="CN-1").settlements[-1].difference == 0
    assert read_positions == []


def test_a_number_of_events_is_not_negative(adjusted: Metering) -> None:
    """The error names the argument."""
    with pytest.raises(InvalidParameter, match="max_events"):
        adjusted.periods.adjustments("users", max_events=-1)
