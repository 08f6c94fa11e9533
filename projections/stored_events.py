"""Stored events as the fold reads them: the uses of a part of a page at once, or all events row by row.

Both say the same. To read many at once takes half the time; where that can't be done, reading row by row tells which
event is in the way.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec

from ..domain.errors import ProjectionStopped
from ..domain.meter import Meter
from ..domain.meter_event import ReportedUse
from .rows import EVENT_CANCELLED, OTHER, USAGE_RECORDED, LedgerEvent


class Cancel(msgspec.Struct, frozen=True):
    """That a use counts no more, under the topic `EventCancelled`."""

    recorded_at: datetime
    event_name: str
    payload: dict[str, str]
    occurred_at: datetime
    recorded_position: int


class NewMeter(msgspec.Struct, frozen=True):
    """That a meter began, under the topic `Configured`."""

    recorded_at: datetime
    event_name: str
    rules: msgspec.Raw


class NewRules(msgspec.Struct, frozen=True):
    """That a meter counts by other rules, under the topic `RulesChanged`."""

    recorded_at: datetime
    event_name: str
    revision: int
    rules: msgspec.Raw


Event = ReportedUse | Cancel | NewMeter | NewRules | None
"""What an event says about usage; None where that is nothing."""

StoredEvent = tuple[int, Event]
"""The position of an event, and what it says."""


def read_part(uses: bytes, others: Sequence[LedgerEvent], after: int, last: int) -> Sequence[Event] | None:
    """The events of a part of a page, from after a position to another; None where they can't be read at once.

    `uses` are the states of uses as a JSON array, but for OTHER in the place of each of `others`.
    """
    if others and uses.count(OTHER) != len(others):  # it is in a state, where it is no JSON
        return None
    try:
        events: list[Event] = _decode_with_others(uses.replace(OTHER, b"null")) if others else _decode_uses(uses)
        for position, topic, state in others:
            if events[position - after - 1] is not None:
                return None
            events[position - after - 1] = _read(topic, state)
    except (msgspec.MsgspecError, LookupError, TypeError, ValueError):
        return None
    if not events or len(events) != last - after:  # what is stored of one event was more than that
        return None
    if others and events.count(None) != sum(_says_nothing(topic) for _, topic, _ in others):  # or null
        return None
    return events


def read_rows(rows: Iterable[LedgerEvent]) -> Iterator[StoredEvent]:
    """The events of rows of the ledger, in order. Raises ProjectionStopped at the first that can't be read."""
    for position, topic, state in rows:
        try:
            event = _read(topic, state)
        except (msgspec.MsgspecError, TypeError, ValueError) as error:
            raise stopped(position, topic, error) from error
        yield position, event


def cancelled_uses(events: Iterable[LedgerEvent]) -> Iterator[int]:
    """The positions of the uses that are cancelled by one of `events`. Raises ProjectionStopped."""
    for position, event in read_rows(event for event in events if event[1] == EVENT_CANCELLED):
        if isinstance(event, Cancel):
            if event.recorded_position >= position:
                raise stopped(position, EVENT_CANCELLED, ValueError("it cancels what comes after it"))
            yield event.recorded_position


def topic_of(event: Event) -> str:
    """The topic that is stored for what says something about usage."""
    return next(topic for topic, (kind, _) in _KINDS.items() if isinstance(event, kind))


def stopped(position: int, topic: str, error: Exception) -> ProjectionStopped:
    """That an event can't be folded."""
    return ProjectionStopped(
        f"The event at position {position} ({topic}) can't be folded: {type(error).__name__}: {error}", position
    )


def _read(topic: str, state: bytes) -> Event:
    if _says_nothing(topic):
        return None
    if topic not in _KINDS:
        raise ValueError(f"unknown topic {topic!r}; a later Tallybook may have written it")
    return _KINDS[topic][1](state)


def _says_nothing(topic: str) -> bool:
    return topic in _WITHOUT_USAGE


_CONFIGURED, _RULES_CHANGED = Meter.Configured.__name__, Meter.RulesChanged.__name__
NEWS = frozenset({_CONFIGURED, _RULES_CHANGED})
"""The topics of what is told of meters themselves."""
_WITHOUT_USAGE = frozenset(
    {
        "Renamed", "Deactivated", "Reactivated", "PeriodClosed", "PeriodReopened", "AccessKeyCreated",
        "AccessKeyRevoked",
    }
)  # fmt: skip
_KINDS: dict[str, tuple[type, Callable[[bytes], Any]]] = {
    topic: (kind, msgspec.json.Decoder(kind).decode)
    for topic, kind in (
        (USAGE_RECORDED, ReportedUse),
        (EVENT_CANCELLED, Cancel),
        (_CONFIGURED, NewMeter),
        (_RULES_CHANGED, NewRules),
    )
}
_decode_uses: Callable[[bytes], list[Any]] = msgspec.json.Decoder(list[ReportedUse]).decode
_decode_with_others: Callable[[bytes], list[Any]] = msgspec.json.Decoder(list[ReportedUse | None]).decode
