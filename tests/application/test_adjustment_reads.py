"""Adjustments of many customers read a range once, although each customer has a closed period of its own."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import pytest
from tallybook.application import AcceptancePolicy, Metering
from tallybook.application.ledger.ledger import Ledger
from tallybook.domain.meter_event import MeterEventData

START, END, NOW = (
    datetime(2026, 10, 1, tzinfo=UTC),
    datetime(2026, 11, 1, tzinfo=UTC),
    datetime(2026, 11, 2, tzinfo=UTC),
)
CUSTOMERS = [f"customer-{number}" for number in range(20)]


def test_payloads_are_parsed_once_for_all_customers_of_a_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a change of the customer key, closed periods are read from the payloads of the whole range."""
    read_positions: list[int] = []
    meter_events_at = Ledger.meter_events_at

    def counted(ledger: Ledger, positions: Iterable[int]) -> Mapping[int, tuple[str, MeterEventData]]:
        listed = list(positions)
        read_positions.extend(listed)
        return meter_events_at(ledger, listed)

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
        monkeypatch.setattr(Ledger, "meter_events_at", counted)
        adjustments = metering.periods.adjustments("calls")
    assert [(adjustment.difference, adjustment.rules_difference) for adjustment in adjustments] == [(0, -1)] * 20
    assert len(read_positions) == len(CUSTOMERS)
