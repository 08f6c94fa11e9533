"""The peers' cases of periods that are closed in turn: each figure, and what is owed on the periods before it."""

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from .peers import Action, CaseOfAnyKind, Part, PeerEvent
from .timeline import Bounds, Period, Timeline


class Correction(Part):
    """What is owed on a period that was closed before, beyond what the close before this one told."""

    start: datetime
    end: datetime
    delta: Decimal


class Expected(Part):
    """What a close answers."""

    total: Decimal
    corrections: list[Correction]


class Close(Part):
    """A period that is closed, knowing all that was received up to and including `at`."""

    at: datetime
    period: Period
    expect: Expected


class CloseSequence(CaseOfAnyKind):
    """A case of one customer's periods that are closed one after another."""

    kind: Literal["close_sequence"]
    query: None
    expected: None
    closes: list[Close]
    actions: tuple[Action, ...] = ()


def check_close_sequence(stored: dict[str, Any], *, in_one_batch: bool) -> None:
    """Hold the figure and the corrections of each close; what was received when is what such a case is about."""
    case = CloseSequence.model_validate(stored)
    timeline, (customer,) = Timeline(case.meter), {event.customer for event in case.events}
    happening = in_order(case)
    frozen: dict[Bounds, Decimal] = {}
    told_at = 0
    with timeline.metering:
        for close in case.closes:
            while happening and _received_at(happening[0]) <= close.at:
                tell(timeline, happening.pop(0))
            timeline.go_to(close.at)
            owed, told = timeline.owed(customer), timeline.owed(customer, told_at)
            news = {bounds: owed.get(bounds, 0) - told.get(bounds, 0) for bounds in owed.keys() | told.keys()}
            corrections = {(one.start, one.end): one.delta for one in close.expect.corrections}
            assert {bounds: delta for bounds, delta in news.items() if delta} == corrections
            frozen[close.period.bounds] = timeline.close(customer, close.period).quantity
            assert frozen[close.period.bounds] == close.expect.total
            told_at = timeline.metering.catch_up()
        closed = timeline.metering.closed_periods(case.meter.event_name, customer)
        assert {(one.start, one.end): one.quantity for one in closed} == frozen


def in_order(case: CloseSequence) -> list[PeerEvent | Action]:
    """What happens between the closes, as it was received; an event before a cancel of the same moment."""
    return sorted([*case.events, *case.actions], key=_received_at)


def tell(timeline: Timeline, one: PeerEvent | Action) -> None:
    """Record an event, or cancel one."""
    if isinstance(one, PeerEvent):
        assert timeline.record(one) == "accepted"
    else:
        timeline.go_to(one.at)
        timeline.metering.cancel(timeline.event_name, one.event_id)


def _received_at(one: PeerEvent | Action) -> datetime:
    return one.at if isinstance(one, Action) else one.received_at or one.timestamp
