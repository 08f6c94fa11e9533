"""Stored events as the fold reads them: a part of a page at once out of one JSON document, or row by row.

Both say the same. To read many at once takes half the time; where that can't be done, reading row by row tells which
event is in the way.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Union

import msgspec

from ..domain.errors import ProjectionStopped
from ..domain.meter_event import ReportedUse
from .rows import LedgerEvent


class _Stored(msgspec.Struct, frozen=True, array_like=True, tag=True, forbid_unknown_fields=True, gc=False):
    position: int

    @property
    def topic(self) -> str:
        """The topic that the event is stored under."""
        return type(self).__name__


class UsageRecorded(_Stored, frozen=True, gc=False):
    """A use was reported."""

    use: ReportedUse


class _Cancel(msgspec.Struct, frozen=True):
    recorded_at: datetime
    event_name: str
    payload: dict[str, str]
    occurred_at: datetime
    recorded_position: int


class EventCancelled(_Stored, frozen=True):
    """A use counts no more."""

    cancel: _Cancel


class _Meter(msgspec.Struct, frozen=True):
    recorded_at: datetime
    event_name: str
    rules: msgspec.Raw


class Configured(_Stored, frozen=True):
    """A meter began."""

    meter: _Meter


class _Rules(_Meter, frozen=True):
    revision: int


class RulesChanged(_Stored, frozen=True):
    """A meter counts by other rules."""

    changed: _Rules


class WithoutUsage(_Stored, frozen=True):
    """What says nothing about usage; its state isn't looked at."""


StoredEvent = UsageRecorded | EventCancelled | Configured | RulesChanged | WithoutUsage


def read_part(part: bytes, after: int, last: int) -> Sequence[StoredEvent] | None:
    """The events of a part of a page, from after a position to another; None where they can't be read at once."""
    try:
        events = _decode_part(part)
    except (msgspec.MsgspecError, ValueError):  # the latter for what isn't UTF-8
        return None
    # Or what is stored of one event was more than that, and made an event of its own.
    is_whole = bool(events) and events[0].position == after + 1 and events[-1].position == last == after + len(events)
    return events if is_whole else None


def read_rows(rows: Iterable[LedgerEvent]) -> Iterator[StoredEvent]:
    """The events of rows of the ledger, in order. Raises ProjectionStopped at the first that can't be read."""
    for position, topic, state in rows:
        try:
            event = _read_row(position, topic, state)
        except (msgspec.MsgspecError, TypeError, ValueError) as error:
            raise stopped(position, topic, error) from error
        yield event


def stopped(position: int, topic: str, error: Exception) -> ProjectionStopped:
    """That an event can't be folded."""
    return ProjectionStopped(
        f"The event at position {position} ({topic}) can't be folded: {type(error).__name__}: {error}", position
    )


def _read_row(position: int, topic: str, state: bytes) -> StoredEvent:
    if topic in _WITHOUT_USAGE:
        return WithoutUsage(position)
    if topic not in _WITH_USAGE:
        raise ValueError(f"unknown topic {topic!r}; a later Tallybook may have written it")
    event, decode = _WITH_USAGE[topic]
    return event(position, decode(state))


_WITHOUT_USAGE = {
    topic: msgspec.defstruct(topic, [("state", msgspec.Raw)], bases=(WithoutUsage,), frozen=True)
    for topic in (
        "Renamed", "Deactivated", "Reactivated", "PeriodClosed", "PeriodReopened", "AccessKeyCreated",
        "AccessKeyRevoked",
    )
}  # fmt: skip
_WITH_USAGE: dict[str, tuple[Callable[[int, Any], StoredEvent], Callable[[bytes], Any]]] = {
    event.__name__: (event, msgspec.json.Decoder(msgspec.structs.fields(event)[1].type).decode)
    for event in (UsageRecorded, EventCancelled, Configured, RulesChanged)
}
_EVENTS: Any = Union[(*_WITHOUT_USAGE.values(), *(event for event, _ in _WITH_USAGE.values()))]
_decode_part: Callable[[bytes], list[StoredEvent]] = msgspec.json.Decoder(list[_EVENTS]).decode
