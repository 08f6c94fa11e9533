"""The vendors' cases of periods closed in order: each total, and the corrections of earlier periods."""

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from .timeline import Bounds, Period, Timeline
from .vendor_cases import Action, AnyCase, VendorEvent
from .vendor_meter import Part


class Correction(Part):
    """The change of the adjustment of an earlier period since the previous close."""

    start: datetime
    end: datetime
    delta: Decimal


class Expected(Part):
    """The expected result of a close."""

    total: Decimal
    corrections: list[Correction]


class Close(Part):
    """A close of a period, with all events received up to and including `at`."""

    at: datetime
    period: Period
    expect: Expected


class CloseSequence(AnyCase):
    """A case of one customer whose periods are closed in order."""

    kind: Literal["close_sequence"]
    query: None
    expected: None
    closes: list[Close]
    actions: tuple[Action, ...] = ()


def check_close_sequence(stored: dict[str, Any], *, in_one_batch: bool) -> None:
    """Check the total and the corrections of each close. Events are recorded one by one, when they are received."""
    case = CloseSequence.model_validate(stored)
    timeline, (customer,) = Timeline(case.meter), {event.customer for event in case.events}
    happening = events_in_order(case)
    frozen: dict[Bounds, Decimal] = {}
    earlier_position = 0
    with timeline.metering:
        for close in case.closes:
            while happening and _received_at(happening[0]) <= close.at:
                apply(timeline, happening.pop(0))
            timeline.advance_to(close.at)
            adjustments, earlier_adjustments = (
                timeline.adjustments(customer),
                timeline.adjustments(customer, earlier_position),
            )
            new_adjustments = {
                bounds: adjustments.get(bounds, 0) - earlier_adjustments.get(bounds, 0)
                for bounds in adjustments.keys() | earlier_adjustments.keys()
            }
            corrections = {
                (correction.start, correction.end): correction.delta for correction in close.expect.corrections
            }
            assert {bounds: delta for bounds, delta in new_adjustments.items() if delta} == corrections
            frozen[close.period.bounds] = timeline.close(customer, close.period).quantity
            assert frozen[close.period.bounds] == close.expect.total
            earlier_position = timeline.metering.catch_up()
        closed = timeline.metering.periods.list(case.meter.event_name, customer)
        assert {(period.start, period.end): period.quantity for period in closed} == frozen


def events_in_order(case: CloseSequence) -> list[VendorEvent | Action]:
    """Return events and cancellations in the order received; an event before a cancellation of the same moment."""
    return sorted([*case.events, *case.actions], key=_received_at)


def apply(timeline: Timeline, entry: VendorEvent | Action) -> None:
    """Record or cancel an event."""
    if isinstance(entry, VendorEvent):
        assert timeline.record(entry) == "accepted"
    else:
        timeline.advance_to(entry.at)
        timeline.metering.cancel(timeline.event_name, entry.event_id)


def _received_at(entry: VendorEvent | Action) -> datetime:
    return entry.at if isinstance(entry, Action) else entry.received_at or entry.timestamp
