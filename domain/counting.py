"""Which meter events count: the one rule behind every figure.

Cancelled events count as if they had never been reported. Under a window only the newest arrival of each
customer, combination of dimension values and UTC window counts; without one every event does.
Source: Stripe's raw and pre-aggregated meters; that a cancel uncovers the report before is decided here.
"""

import hashlib
from collections.abc import Iterable
from decimal import Decimal
from operator import attrgetter

import msgspec

from .instants import iso_of
from .quantities import plain
from .rules import EventTimeWindow


class Usage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One meter event as it is counted. Times are microseconds since 1970 UTC; positions are the ledger's.

    `customer` is the customer's number in the read models, `dimensions` the dimension values as one text.
    """

    customer: int
    occurred_at: int
    position: int
    dimensions: str
    value: Decimal | None
    recorded_at: int
    cancelled_at: int | None = None
    cancelled_position: int | None = None


def window_start(occurred_at: int, window: EventTimeWindow) -> int:
    """When the UTC window around `occurred_at` began, in microseconds since 1970."""
    return occurred_at - occurred_at % window.microseconds


def survivors(usages: Iterable[Usage], window: EventTimeWindow | None) -> dict[int, Usage]:
    """For the position of each event that is not cancelled, the event that counts in its place.

    An event that counts stands for itself; an overwritten one is given with the arrival that replaced it.
    `usages` must hold the windows it touches whole.
    """
    effective = [usage for usage in usages if usage.cancelled_position is None]
    if window is None:
        return {usage.position: usage for usage in effective}
    width = window.microseconds
    places = [(usage.customer, usage.dimensions, usage.occurred_at // width) for usage in effective]
    newest: dict[tuple[int, str, int], Usage] = {}
    for place, usage in zip(places, effective, strict=True):
        if place not in newest or newest[place].position < usage.position:
            newest[place] = usage
    return {usage.position: newest[place] for place, usage in zip(places, effective, strict=True)}


def counted(usages: Iterable[Usage], window: EventTimeWindow | None) -> list[Usage]:
    """The events of `usages` that count. `usages` must hold the windows it touches whole."""
    if window is None:
        return [usage for usage in usages if usage.cancelled_position is None]
    standing = survivors(usages, window)
    return [usage for position, usage in standing.items() if usage.position == position]


def digest(usages: Iterable[Usage]) -> str:
    """The SHA-256 of `usages`: a line for each, by time and position, of its position, time and value."""
    lines = hashlib.sha256()
    for usage in sorted(usages, key=_BY_TIME):
        value = "" if usage.value is None else plain(usage.value)
        lines.update(f"{usage.position},{iso_of(usage.occurred_at)},{value}\n".encode())
    return lines.hexdigest()


_BY_TIME = attrgetter("occurred_at", "position")
