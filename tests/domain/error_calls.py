"""Calls that raise an error, for the table of errors."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal

from tallybook.application import Metering
from tallybook.domain import AcceptancePolicy, CustomerPeriods, PeriodTotals, Rules

from ..notation import moment

NOW = moment("12:00")
NAIVE = NOW.replace(tzinfo=None)
DAY = moment("00:00"), moment("11T00:00")
Call = Callable[[Metering], object]


def record_call(
    payload: object = None, identifier: object = None, timestamp: object = None, event_name: object = "calls"
) -> Call:
    """Return a call that records a meter event; omitted arguments are valid."""
    event_payload = {"customer": "acme", "value": "1"} if payload is None else payload
    return lambda metering: metering.record(event_name, event_payload, identifier=identifier, timestamp=timestamp)  # type: ignore[arg-type]


def configure_call(event_name: object = "new", **arguments: object) -> Call:
    """Return a call that configures a meter."""
    return lambda metering: metering.meters.configure(event_name, **arguments)  # type: ignore[arg-type]


def total_call(start: object = DAY[0], end: object = DAY[1], as_of: object = None, customer: object = "acme") -> Call:
    """Return a call that queries a total."""
    return lambda metering: metering.total("calls", customer, start, end, as_of=as_of)  # type: ignore[arg-type]


def summaries_call(window: object = "hour", timezone: object = "UTC", end: datetime = DAY[1]) -> Call:
    """Return a call that queries summaries."""
    return lambda metering: metering.summaries("calls", "acme", DAY[0], end, window=window, timezone=timezone)  # type: ignore[arg-type]


def events_call(**arguments: object) -> Call:
    """Return a call that lists events."""
    return lambda metering: metering.events("calls", **arguments)  # type: ignore[arg-type]


def revoke_call(event_name: object = "calls", identifier: object = "old", reason: object = "a test") -> Call:
    """Return a call that revokes the cancellation of a meter event."""
    return lambda metering: metering.revoke_cancel(event_name, identifier, reason=reason)  # type: ignore[arg-type]


def cancel_many_call(event_name: object = "calls", reason: object = "a test", **selection: object) -> Call:
    """Return a call that cancels many meter events."""
    return lambda metering: metering.cancellations.cancel_many(event_name, reason=reason, **selection)  # type: ignore[arg-type]


def cancel_call(event_name: object = "calls", identifier: object = "taken", **arguments: object) -> Call:
    """Return a call that cancels a meter event."""
    return lambda metering: metering.cancel(event_name, identifier, **arguments)  # type: ignore[arg-type]


def close_call(start: object, end: object, at: datetime = NOW) -> Call:
    """Return a call that closes a period."""
    return lambda _: periods_closed_yesterday().close(start, end, NO_TOTALS, at=at, policy=AcceptancePolicy())  # type: ignore[arg-type]


def reopen_call(start: object, end: object) -> Call:
    """Return a call that reopens a period."""
    return lambda _: periods_closed_yesterday().reopen(start, end, reason=None, by=None, at=NOW)  # type: ignore[arg-type]


def periods_closed_yesterday() -> CustomerPeriods:
    """Return a customer's periods, of which yesterday is closed."""
    periods = CustomerPeriods.empty("calls", "acme", at=NOW)
    periods.close(*YESTERDAY, NO_TOTALS, at=NOW, policy=AcceptancePolicy())
    return periods


def settle_call(
    start: object, end: object, position: int, document: str = "CN-7", *, then_reopen: bool = False
) -> Call:
    """Return a call that settles a period, of which yesterday is settled by CN-7 as of position 5."""

    def call(_: Metering) -> object:
        periods = periods_closed_yesterday()
        totals = {"quantity": Decimal(3), "billable": Decimal(3), "by": None, "at": NOW}
        periods.settle(*YESTERDAY, **totals, position=5, document="CN-7")  # type: ignore[arg-type]
        if then_reopen:
            return periods.reopen(*YESTERDAY, reason="why", by=None, at=NOW)
        return periods.settle(start, end, **totals, position=position, document=document)  # type: ignore[arg-type]

    return call


def create_key_call(scopes: object, **arguments: object) -> Call:
    """Return a call that creates an access key."""
    return lambda metering: metering.access_keys.create(scopes, **arguments)  # type: ignore[arg-type]


YESTERDAY = DAY[0] - timedelta(days=1), DAY[0]
NO_TOTALS = PeriodTotals(
    quantity=Decimal(0), billable=Decimal(0), sum=Decimal(0), count=0, last=None,
    rules=Rules(), revision=1, position=0, digest="",
)  # fmt: skip


def promote_call(generation: object, **arguments: object) -> Call:
    """Return a call that promotes a generation."""
    return lambda metering: metering.generations.promote(generation, **arguments)  # type: ignore[arg-type]


def change_rules_call(rules: object, event_name: object = "calls", reason: object = "a test") -> Call:
    """Return a call that changes rules."""
    return lambda metering: metering.rules.change(event_name, rules, reason=reason)  # type: ignore[arg-type]


def promote_candidate_call(**arguments: object) -> Call:
    """Return a call that promotes a candidate with other rules."""

    def call(metering: Metering) -> object:
        return promote_call(metering.generations.rebuild(rules={"calls": {"formula": "last"}}).number, **arguments)(
            metering
        )

    return call


def promote_half_built(metering: Metering) -> object:
    """Promote a generation whose rebuild was interrupted."""

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        metering.generations.rebuild(progress=interrupt)
    return metering.generations.promote(metering.generations.list()[-1].number)


def rebuild_twice_concurrently(metering: Metering) -> object:
    """Rebuild while a rebuild is running."""
    return metering.generations.rebuild(progress=lambda _: metering.generations.rebuild() and None)
