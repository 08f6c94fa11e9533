"""Period adjustments: what is owed, signed, on closed periods, and the events that caused it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec

from ....domain.errors import InvalidIdentifier, InvalidParameter, NoMeterEvent
from ...results import AdjustingEvent, Adjustment
from ..asof import KnownAsOf, ListKnownAsOf, as_of
from ..compound_ids import mark_of
from ..desk import Call, Desk
from ..ids import METER, METER_EVENT, id_of, name_of
from ..paging import listed, page
from ..periods import Bounds, Closing, closing_named, closings, id_of_closing, optional_range
from ..refusals import missing_object
from ..routes import Routes
from ..times import UnixTime, unix
from ..wire import Customer, Id, Listed, Number, number
from .closed_periods import event_name_of
from .recorded_events import STATUSES, RecordedMeterEvent, Status, recorded_fields

URL = "/v1/billing/period_adjustments"
PERIOD_ADJUSTMENT = "mtrpadj"
EVENTS_TOLD = 10
routes = Routes("Period adjustments")


class AdjustingMeterEvent(RecordedMeterEvent, kw_only=True):
    """A meter event that was recorded or cancelled, or came to count or not, since its period was closed.

    `status_at_closing` is null where it wasn't recorded then; `change` is what it adds to the figure since.
    """

    change: Number
    status_at_closing: Status | None


class PeriodAdjustment(msgspec.Struct, kw_only=True):
    """What is owed on a closed period, signed.

    `aggregated_value` and `billable_value` are what the period comes to now, by the rules that it was closed with, and
    the differences what that adds to the frozen figures. `rules_difference`, which isn't owed, is what the rules in
    force would add to it. The `change` of all `events`, of which the first 10 are told here, is the `difference`.
    """

    id: str
    object: Literal["billing.period_adjustment"] = "billing.period_adjustment"
    aggregated_value: Number
    billable_difference: Number
    billable_value: Number
    closed_period: str
    customer: str
    difference: Number
    end_time: int
    events: Listed[AdjustingMeterEvent]
    livemode: bool
    meter: str
    position: int
    rules_difference: Number
    start_time: int


class ListPeriodAdjustments(ListKnownAsOf, kw_only=True):
    """What is owed on a meter's closed periods: of one customer or all, that touch [start_time, end_time) or ever."""

    customer: Customer | None = None
    end_time: UnixTime | None = None
    meter: Id
    start_time: UnixTime | None = None


class RetrievePeriodAdjustment(KnownAsOf, kw_only=True):
    """What is owed on one closed period."""


class ListAdjustingEvents(ListKnownAsOf, kw_only=True):
    """The events that caused an adjustment."""


@routes.get(URL)
def list_period_adjustments(call: Call[ListPeriodAdjustments]) -> Listed[PeriodAdjustment]:
    """List what is owed on closed periods, by customer and start. Those that nothing happened to since aren't in it."""
    asked, desk, known = call.asked, call.desk, as_of(call.asked)
    event_name, bounds = event_name_of(desk, asked.meter), optional_range(asked.start_time, asked.end_time)
    found = _adjustments(desk, event_name, asked.customer, bounds, known)

    def cursor(given: str) -> tuple[object, ...] | None:
        one = closing_named(desk, given, kind=PERIOD_ADJUSTMENT)
        return None if one is None else _place(one)

    data, has_more = page(found, lambda one: _place(one[0]), cursor, asked, rises=True)
    keys = desk.metering.meter(event_name, as_of=known).dimension_keys if data else ()
    return listed([_shown(*one, keys, desk) for one in data], URL, has_more=has_more)


@routes.get(URL + "/{id}")
def retrieve_period_adjustment(call: Call[RetrievePeriodAdjustment]) -> PeriodAdjustment:
    """Retrieve what is owed on a closed period."""
    closing, adjustment, keys = _found(call.desk, call.path["id"], as_of(call.asked))
    return _shown(closing, adjustment, keys, call.desk)


@routes.get(URL + "/{id}/events")
def list_adjusting_events(call: Call[ListAdjustingEvents]) -> Listed[AdjustingMeterEvent]:
    """List the events that caused an adjustment, oldest first."""
    given, desk = call.path["id"], call.desk
    _, adjustment, keys = _found(desk, given, as_of(call.asked))

    def cursor(event_id: str) -> tuple[object, ...] | None:
        try:
            event = desk.metering.event(name_of(METER_EVENT, event_id) or "")
        except (NoMeterEvent, InvalidIdentifier, InvalidParameter):
            return None
        return event.occurred_at, event.position

    data, has_more = page(
        adjustment.events, lambda event: (event.occurred_at, event.position), cursor, call.asked, rises=True
    )
    return listed(_events(data, keys, desk), f"{URL}/{given}/events", has_more=has_more)


def _adjustments(
    desk: Desk,
    event_name: str,
    customer: str | None,
    bounds: Bounds,
    as_of: datetime | int | None,
) -> list[tuple[Closing, Adjustment]]:
    """What is owed on each closing that stands, by customer and start."""
    start, end = bounds
    standing = {
        (one.name.mark, one.period.start, one.period.end): one
        for one in closings(desk, event_name, customer, bounds, as_of)
        if one.period.is_standing
    }
    owed = desk.metering.adjustments(event_name, customer, start=start, end=end, as_of=as_of)
    found = [(standing.get((mark_of(one.period.customer), one.period.start, one.period.end)), one) for one in owed]
    return [(closing, one) for closing, one in found if closing is not None]


def _found(desk: Desk, given: str, as_of: datetime | int | None) -> tuple[Closing, Adjustment, Sequence[str]]:
    closing = closing_named(desk, given, as_of, PERIOD_ADJUSTMENT)
    if closing is not None:
        period = closing.period
        bounds = period.start, period.end
        for one, adjustment in _adjustments(desk, period.event_name, period.customer, bounds, as_of):
            if one.name == closing.name:
                return one, adjustment, desk.metering.meter(period.event_name, as_of=as_of).dimension_keys
    raise missing_object("period adjustment", given)


def _place(one: Closing) -> tuple[object, ...]:
    return one.period.customer, one.period.start


def _shown(closing: Closing, adjustment: Adjustment, keys: Sequence[str], desk: Desk) -> PeriodAdjustment:
    period, given = adjustment.period, id_of_closing(closing, PERIOD_ADJUSTMENT)
    first = _events(adjustment.events[:EVENTS_TOLD], keys, desk)
    return PeriodAdjustment(
        id=given,
        aggregated_value=number(adjustment.quantity),
        billable_difference=number(adjustment.billable_difference),
        billable_value=number(adjustment.billable),
        closed_period=id_of_closing(closing),
        customer=period.customer,
        difference=number(adjustment.difference),
        end_time=unix(period.end),
        events=listed(first, f"{URL}/{given}/events", has_more=len(adjustment.events) > EVENTS_TOLD),
        livemode=desk.livemode,
        meter=id_of(METER, period.event_name),
        position=adjustment.position,
        rules_difference=number(adjustment.rules_difference),
        start_time=unix(period.start),
    )


def _events(events: Sequence[AdjustingEvent], keys: Sequence[str], desk: Desk) -> list[AdjustingMeterEvent]:
    return [
        AdjustingMeterEvent(
            **recorded_fields(event, keys, desk),
            change=number(event.change),
            status_at_closing=None if event.before is None else STATUSES[event.before],
        )
        for event in events
    ]
