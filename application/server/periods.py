"""The names of closed periods: each closing of the same bounds has one of its own."""

from collections import Counter
from datetime import datetime
from typing import NamedTuple

from ...domain.closed_period import ClosedPeriod
from ...domain.errors import InvalidParameter, NoMeter
from ...domain.instants import microseconds
from .compound_ids import compound_id, mark_of, marked, parts_of
from .desk import Desk
from .ids import CLOSED_PERIOD
from .times import at_unix

Bounds = tuple[datetime | None, datetime | None]
EVER: Bounds = None, None


class ClosingName(NamedTuple):
    """What tells one closing from all others: whose, of when in microseconds, and which of the same period."""

    event_name: str
    mark: str
    start: int
    end: int
    turn: int


class Closing(NamedTuple):
    """A closing and its name."""

    name: ClosingName
    period: ClosedPeriod


def id_of_closing(one: Closing, kind: str = CLOSED_PERIOD) -> str:
    """The id of a closing, or of what there is one of for each."""
    return compound_id(kind, one.name)


def optional_range(start: int | None, end: int | None) -> Bounds:
    """A range of times of which either end may be open."""
    return None if start is None else at_unix(start), None if end is None else at_unix(end)


def closings(
    desk: Desk,
    event_name: str,
    customer: str | None,
    bounds: Bounds = EVER,
    as_of: datetime | int | None = None,
) -> list[Closing]:
    """All closings of periods that touch `bounds`, also reopened ones, with their names."""
    start, end = bounds
    turns: Counter[tuple[str, int, int]] = Counter()
    found: list[Closing] = []
    for period in desk.metering.closed_periods(
        event_name, customer, start=start, end=end, as_of=as_of, reopened=True
    ):  # those of the same bounds come in their order
        place = mark_of(period.customer), microseconds(period.start), microseconds(period.end)
        found.append(Closing(ClosingName(event_name, *place, turns[place]), period))
        turns[place] += 1
    return found


def closing_named(
    desk: Desk, given: str, as_of: datetime | int | None = None, kind: str = CLOSED_PERIOD
) -> Closing | None:
    """The closing with an id, if there was one then."""
    name = parts_of(kind, given, ClosingName)
    if name is None:
        return None
    try:
        of_customer = closings(desk, name.event_name, marked(name.mark), as_of=as_of)
    except (NoMeter, InvalidParameter):
        return None
    return next((one for one in of_customer if one.name == name), None)
