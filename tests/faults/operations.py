"""The operations that run while a store fails, and the ledgers that they run on."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tallybook.application import Metering

DAY = datetime(2026, 3, 27, tzinfo=UTC)
NOW = DAY + timedelta(days=3)
PERIOD = DAY, DAY + timedelta(days=1)
NEXT_PERIOD = PERIOD[1], PERIOD[1] + timedelta(hours=12)
RULES: Mapping[str, object] = {"formula": "last", "event_time_window": "day"}


def meter_event(number: int, meter: str = "tokens", customer: str = "acme") -> dict[str, object]:
    """Return the meter event with a number."""
    return {
        "event_name": meter,
        "identifier": f"use-{number}",
        "timestamp": DAY + timedelta(hours=number),
        "payload": {"customer": customer, "value": f"{number}.5", "region": "eu" if number % 3 else "us"},
    }


def set_up_ledger(metering: Metering) -> None:
    """Create two meters, usage of 36 hours with cancellations, and a closed period. The read models are behind."""
    metering.meters.configure("tokens", customer_key="customer", dimension_keys=["region"])
    metering.meters.configure("seats", formula="last", event_time_window="hour", customer_key="customer")
    metering.record_many([meter_event(number, ("tokens", "seats")[number % 2]) for number in range(24)])
    metering.cancel("tokens", "use-2")
    metering.periods.close("tokens", "acme", *PERIOD)
    metering.record_many([meter_event(number, customer="beta") for number in range(24, 36)])
    metering.cancel("seats", "use-3")
    metering.cancel("tokens", "use-4")


def set_up_with_candidate(metering: Metering) -> None:
    """Create the same ledger, and a candidate under other rules, which is behind the head."""
    set_up_ledger(metering)
    metering.generations.build_candidate("tokens", RULES)
    metering.record_many([meter_event(number) for number in range(40, 44)])


@dataclass(frozen=True)
class Operation:
    """An operation; repeated after it succeeded, it returns the same result or raises one of `expected_errors`."""

    name: str
    run: Callable[[Metering], Any]
    expected_errors: Collection[str] = ()
    set_up: Callable[[Metering], None] = set_up_ledger
    is_expected: Callable[[Any], bool] = lambda _: True

    def __str__(self) -> str:
        return self.name


OPERATIONS = (
    Operation("record", lambda ledger: ledger.record_many([meter_event(50)])),
    Operation(
        "record many",
        lambda ledger: ledger.record_many(
            [meter_event(50), meter_event(51, "seats"), meter_event(50), meter_event(5), meter_event(52)]
        ),
    ),
    Operation("cancel", lambda ledger: ledger.cancel("tokens", "use-30", reason="a test")),
    Operation("configure", lambda ledger: ledger.meters.configure("jobs", formula="count")),
    Operation("catch up", lambda ledger: ledger.catch_up()),
    Operation("close a period", lambda ledger: ledger.periods.close("tokens", "beta", *NEXT_PERIOD, allow_empty=True)),
    Operation(
        "reopen",
        lambda ledger: ledger.periods.reopen("tokens", "acme", *PERIOD, reason="a test"),
        {"period_not_closed"},
    ),
    Operation("rebuild", lambda ledger: ledger.generations.rebuild()),
    Operation(
        "change rules", lambda ledger: ledger.rules.change("tokens", RULES, reason="a test"), {"parameter_invalid"}
    ),
    Operation("total", lambda ledger: ledger.total("tokens", None, DAY, NOW).count, is_expected=(22).__eq__),
    Operation("verify", lambda ledger: ledger.verify(), is_expected=lambda result: result.is_equal),
    Operation("promote", lambda ledger: ledger.generations.promote(2, reason="a test"), (), set_up_with_candidate),
)


def query_results(metering: Metering) -> list[object]:
    """Return the results of all queries."""
    span = DAY - timedelta(days=1), NOW
    return [
        metering.meters.list(),
        *(
            (
                metering.totals(meter.event_name, *span),
                metering.explain(meter.event_name, None, *span),
                metering.periods.list(meter.event_name, reopened=True),
                metering.periods.adjustments(meter.event_name),
            )
            for meter in metering.meters.list()
        ),
    ]
