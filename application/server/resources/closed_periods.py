"""Closed periods: the figures of an invoice, frozen."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ....domain.errors import PeriodNotClosed
from ..asof import KnownAsOf, ListKnownAsOf, as_of
from ..desk import Call, Desk
from ..ids import METER, id_of
from ..paging import listed, page
from ..periods import Closing, closing_named, closings, id_of_closing, optional_range
from ..refusals import Refusal, missing_object
from ..routes import Routes
from ..times import UnixTime, at_unix, unix
from ..wire import Customer, Id, Listed, Number, Parameters, number
from .counting_rules import CountingRules

URL = "/v1/billing/closed_periods"
routes = Routes("Closed periods")

Reason = Annotated[str, Meta(min_length=1, max_length=500)]


class Reopening(msgspec.Struct, kw_only=True):
    """When a closed period was reopened, why, and by whom, where that was told."""

    reopened_at: int
    reason: str | None
    by: str | None


class BillingClosedPeriod(msgspec.Struct, kw_only=True):
    """One closing of a customer's period: what it came to at `created`, by what the ledger held up to `position`.

    `digest` is the SHA-256 of the events that counted, `rules` are those that they were counted by.
    """

    id: str
    object: Literal["billing.closed_period"] = "billing.closed_period"
    aggregated_value: Number
    billable_value: Number
    count: int
    created: int
    customer: str
    digest: str
    end_time: int
    last: Number | None
    livemode: bool
    meter: str
    position: int
    reopening: Reopening | None
    revision: int
    rules: CountingRules
    start_time: int
    status: Literal["closed", "reopened"]
    sum: Number


class ClosePeriod(Parameters, kw_only=True):
    """The period of a customer to close."""

    customer: Customer
    end_time: UnixTime
    meter: Id
    start_time: UnixTime


class ListClosedPeriods(ListKnownAsOf, kw_only=True):
    """Closed periods: of one meter and customer or all, that touch [start_time, end_time) or any time."""

    customer: Customer | None = None
    end_time: UnixTime | None = None
    meter: Id | None = None
    reopened: bool = False
    start_time: UnixTime | None = None


class RetrieveClosedPeriod(KnownAsOf, kw_only=True):
    """A closed period, as it is or was."""


class ReopenPeriod(Parameters, kw_only=True):
    """Why a period is reopened, and on whose word; on that of the access key, where nobody is named."""

    reason: Reason
    by: Reason | None = None


@routes.post(URL)
def close_period(call: Call[ClosePeriod]) -> BillingClosedPeriod:
    """Close a period: freeze what a customer used in it, for an invoice.

    Closing it again gives the first closing. What is recorded later never changes it: see period adjustments.
    """
    asked, desk = call.asked, call.desk
    event_name = event_name_of(desk, asked.meter)
    start, end = at_unix(asked.start_time), at_unix(asked.end_time)
    closed = desk.metering.close_period(event_name, asked.customer, start, end)
    same = [one for one in closings(desk, event_name, asked.customer) if one.period.closed_at == closed.closed_at]
    return _shown([one for one in same if (one.period.start, one.period.end) == (start, end)][-1], desk)


@routes.get(URL)
def list_closed_periods(call: Call[ListClosedPeriods]) -> Listed[BillingClosedPeriod]:
    """List closed periods, newest first; with `reopened` also those that were reopened since."""
    asked, desk, known = call.asked, call.desk, as_of(call.asked)
    if asked.meter is None:
        event_names = [meter.event_name for meter in desk.metering.meters(as_of=known)]
    else:
        event_names = [event_name_of(desk, asked.meter)]
    bounds = optional_range(asked.start_time, asked.end_time)
    found = [one for name in event_names for one in closings(desk, name, asked.customer, bounds, known)]
    chosen = sorted((one for one in found if asked.reopened or one.period.is_standing), key=_place, reverse=True)

    def cursor(given: str) -> tuple[object, ...] | None:
        one = closing_named(desk, given)
        return None if one is None else _place(one)

    data, has_more = page(chosen, _place, cursor, asked)
    return listed([_shown(one, desk) for one in data], URL, has_more=has_more)


@routes.get(URL + "/{id}")
def retrieve_closed_period(call: Call[RetrieveClosedPeriod]) -> BillingClosedPeriod:
    """Retrieve a closed period, also one that was reopened since."""
    return _shown(_found(call.desk, call.path["id"], call.asked), call.desk)


@routes.post(URL + "/{id}/reopen")
def reopen_period(call: Call[ReopenPeriod]) -> BillingClosedPeriod:
    """Reopen a period, so that it can be closed anew for a new figure. This closing is kept."""
    desk, given = call.desk, call.path["id"]
    found = _found(desk, given)
    period, reason, by = found.period, call.asked.reason, call.asked.by or call.key.hint
    if period.is_standing:
        try:
            reopened = desk.metering.reopen_period(
                period.event_name, period.customer, period.start, period.end, reason=reason, by=by
            )
        except PeriodNotClosed:  # somebody else reopened it in between
            raise _not_closed(given) from None
        return _shown(Closing(found.name, reopened), desk)
    if call.was_begun and (period.reason, period.by) == (reason, by):
        return _shown(found, desk)
    raise _not_closed(given)


def event_name_of(desk: Desk, meter_id: str) -> str:
    """The event name of the meter that the parameter `meter` names. Raises Refusal."""
    try:
        return desk.meter(meter_id).event_name
    except Refusal:
        raise missing_object("meter", meter_id, "meter", 400) from None


def _found(desk: Desk, given: str, asked: KnownAsOf | None = None) -> Closing:
    found = closing_named(desk, given, None if asked is None else as_of(asked))
    if found is None:
        raise missing_object("closed period", given)
    return found


def _not_closed(given: str) -> Refusal:
    return Refusal(400, f"The period '{given}' is reopened already.", code=PeriodNotClosed.code, param="id")


def _place(one: Closing) -> tuple[object, ...]:
    return one.period.closed_at, id_of_closing(one)


def _shown(one: Closing, desk: Desk) -> BillingClosedPeriod:
    period = one.period
    at = period.reopened_at
    return BillingClosedPeriod(
        id=id_of_closing(one),
        aggregated_value=number(period.quantity),
        billable_value=number(period.billable),
        count=period.count,
        created=unix(period.closed_at),
        customer=period.customer,
        digest=period.digest,
        end_time=unix(period.end),
        last=None if period.last is None else number(period.last),
        livemode=desk.livemode,
        meter=id_of(METER, period.event_name),
        position=period.position,
        reopening=None if at is None else Reopening(reopened_at=unix(at), reason=period.reason, by=period.by),
        revision=period.revision,
        rules=CountingRules.of(period.rules),
        start_time=unix(period.start),
        status="closed" if period.is_standing else "reopened",
        sum=number(period.sum),
    )
