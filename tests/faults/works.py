"""What a ledger is asked to do while its store fails, and what there is before."""

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


def use(number: int, meter: str = "tokens", customer: str = "acme") -> dict[str, object]:
    """One report of many."""
    return {
        "event_name": meter,
        "identifier": f"use-{number}",
        "timestamp": DAY + timedelta(hours=number),
        "payload": {"customer": customer, "value": f"{number}.5", "region": "eu" if number % 3 else "us"},
    }


def begin(metering: Metering) -> None:
    """Two meters, usage of a day and a half with cancels, a closed period; and read models that lag behind."""
    metering.configure_meter("tokens", customer_key="customer", dimension_keys=["region"])
    metering.configure_meter("seats", formula="last", event_time_window="hour", customer_key="customer")
    metering.record_many([use(number, ("tokens", "seats")[number % 2]) for number in range(24)])
    metering.cancel("tokens", "use-2")
    metering.close_period("tokens", "acme", *PERIOD)
    metering.record_many([use(number, customer="beta") for number in range(24, 36)])
    metering.cancel("seats", "use-3")
    metering.cancel("tokens", "use-4")


def begin_with_a_candidate(metering: Metering) -> None:
    """The same, and a generation under other rules, which lags behind by now."""
    begin(metering)
    metering.candidate("tokens", RULES)
    metering.record_many([use(number) for number in range(40, 44)])


@dataclass(frozen=True)
class Work:
    """Something to be done; done again once it is done, it gives the same, or is refused with one of `refusals`."""

    name: str
    do: Callable[[Metering], Any]
    refusals: Collection[str] = ()
    begin: Callable[[Metering], None] = begin
    is_right: Callable[[Any], bool] = lambda _: True

    def __str__(self) -> str:
        return self.name


WORKS = (
    Work("record", lambda ledger: ledger.record_many([use(50)])),
    Work("record many", lambda ledger: ledger.record_many([use(50), use(51, "seats"), use(50), use(5), use(52)])),
    Work("cancel", lambda ledger: ledger.cancel("tokens", "use-30", reason="a test")),
    Work("configure", lambda ledger: ledger.configure_meter("jobs", formula="count")),
    Work("catch up", lambda ledger: ledger.catch_up()),
    Work("close a period", lambda ledger: ledger.close_period("tokens", "beta", *NEXT_PERIOD)),
    Work(
        "reopen", lambda ledger: ledger.reopen_period("tokens", "acme", *PERIOD, reason="a test"), {"period_not_closed"}
    ),
    Work("rebuild", lambda ledger: ledger.rebuild()),
    Work("change rules", lambda ledger: ledger.change_rules("tokens", RULES, reason="a test"), {"parameter_invalid"}),
    Work("ask", lambda ledger: ledger.total("tokens", None, DAY, NOW).count, is_right=lambda told: told == 22),
    Work("verify", lambda ledger: ledger.verify(), is_right=lambda told: told.is_equal),
    Work("promote", lambda ledger: ledger.promote(2, reason="a test"), (), begin_with_a_candidate),
)


def answers(metering: Metering) -> list[object]:
    """All that a ledger tells."""
    span = DAY - timedelta(days=1), NOW
    return [
        metering.meters(),
        *(
            (
                metering.totals(meter.event_name, *span),
                metering.explain(meter.event_name, None, *span),
                metering.closed_periods(meter.event_name, reopened=True),
                metering.adjustments(meter.event_name),
            )
            for meter in metering.meters()
        ),
    ]
