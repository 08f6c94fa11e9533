"""Decodes stored events for the fold: a chunk of a page at once, or row by row.

Both return the same events. Decoding a chunk takes half the time; if it fails, decoding row by row finds the event that
can't be decoded. docs/decisions/0016 describes the format of a chunk.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple, cast

import msgspec

from ..domain.errors import ProjectionStopped
from ..domain.meter import Meter
from ..domain.meter_event import MeterEventData
from ..domain.timestamps import MIN_DATETIME
from .models import NON_USAGE_MARKER, LedgerEvent
from .ports import CANCEL_REVOKED, CANCELLATION_TOPICS, EVENT_CANCELLED, USAGE_RECORDED


class OtherData(msgspec.Struct, frozen=True):
    """A stored event that doesn't affect usage, so that only its time of recording is decoded."""

    recorded_at: datetime


class EventCancelledData(msgspec.Struct, frozen=True):
    """The stored event `EventCancelled`: a meter event was cancelled."""

    recorded_at: datetime
    event_name: str
    payload: dict[str, str]
    occurred_at: datetime
    recorded_position: int


class CancelRevokedData(EventCancelledData, frozen=True):
    """The stored event `CancelRevoked`: the cancellation of a meter event was revoked."""


class ConfiguredData(msgspec.Struct, frozen=True):
    """The stored event `Configured`: a meter was created."""

    recorded_at: datetime
    event_name: str
    rules: msgspec.Raw
    source: str | None = None


class RulesChangedData(msgspec.Struct, frozen=True):
    """The stored event `RulesChanged`: the rules of a meter changed."""

    recorded_at: datetime
    event_name: str
    revision: int
    rules: msgspec.Raw
    effective_from: datetime | None = None


DecodedEvent = MeterEventData | EventCancelledData | ConfiguredData | RulesChangedData | OtherData
"""A decoded event."""

PositionedEvent = tuple[int, DecodedEvent]
"""The position of an event, and the decoded event."""


class EventChunk(NamedTuple):
    """Consecutive events that were decoded together, at least one, and the position of each."""

    positions: Sequence[int]
    events: Sequence[DecodedEvent]

    @classmethod
    def of(cls, events: Iterable[PositionedEvent]) -> "EventChunk":
        """Return a chunk of at least one event."""
        return cls(*zip(*events, strict=True))

    def divided_at(self, index: int) -> "tuple[EventChunk, EventChunk]":
        """Return the chunk of the events before an index, and that of the others."""
        positions, events = self
        return EventChunk(positions[:index], events[:index]), EventChunk(positions[index:], events[index:])


def decode_chunk(
    usage_json: bytes, other_events: Sequence[LedgerEvent], after: int, last_position: int
) -> Sequence[DecodedEvent] | None:
    """Return the events of a chunk, after the position `after` up to `last_position`; None if it can't be decoded.

    `usage_json` is a JSON array of the states of meter events, with NON_USAGE_MARKER in place of each other event.
    """
    if other_events and usage_json.count(NON_USAGE_MARKER) != len(other_events):
        return None  # a state contains the marker, so it is no JSON
    try:
        events: list[DecodedEvent | None] = (
            _decode_usage_or_null(usage_json.replace(NON_USAGE_MARKER, b"null"))
            if other_events
            else _decode_usage(usage_json)
        )
        for position, topic, state in other_events:
            if events[position - after - 1] is not None:
                return None
            events[position - after - 1] = _decode_event(topic, state)
    except (msgspec.MsgspecError, LookupError, TypeError, ValueError):
        return None
    if not events or len(events) != last_position - after:
        return None  # the state of one event contains several JSON values
    if other_events and None in events:
        return None  # the state of a meter event is null
    return cast(Sequence[DecodedEvent], events)


def decode_rows(rows: Iterable[LedgerEvent]) -> Iterator[PositionedEvent]:
    """Yield the decoded events of rows, in order. Raises ProjectionStopped at the first that can't be decoded."""
    for position, topic, state in rows:
        try:
            event = _decode_event(topic, state)
        except (msgspec.MsgspecError, TypeError, ValueError) as error:
            raise projection_stopped(position, topic, error) from error
        yield position, event


def cancellations_of(events: Iterable[LedgerEvent]) -> Iterator[tuple[int, int, bool]]:
    """Yield each cancellation and revocation: position of the meter event, own position, and whether it cancels.

    Raises ProjectionStopped.
    """
    for position, event in decode_rows(event for event in events if event[1] in CANCELLATION_TOPICS):
        if isinstance(event, EventCancelledData):
            if event.recorded_position >= position:
                raise projection_stopped(position, topic_for(event), ValueError("it cancels a later event"))
            yield event.recorded_position, position, not isinstance(event, CancelRevokedData)


def topic_for(event: DecodedEvent | None) -> str:
    """Return the topic of a decoded event that affects usage."""
    return next(topic for topic, (event_type, _) in _DECODERS.items() if type(event) is event_type)


def projection_stopped(position: int, topic: str, error: Exception) -> ProjectionStopped:
    """Return the error for an event that can't be folded."""
    return ProjectionStopped(
        f"The event at position {position} ({topic}) can't be folded: {type(error).__name__}: {error}", position
    )


def decode_recorded_at(state: bytes) -> datetime:
    """Return when an event was recorded; a time before all others if it can't be read.

    An event that can't be read stops the projection only if it affects usage, and no time is known without it.
    """
    try:
        return _decode_other(state).recorded_at
    except (msgspec.MsgspecError, ValueError):
        return MIN_DATETIME


def _decode_event(topic: str, state: bytes) -> DecodedEvent:
    if topic in _NON_USAGE_TOPICS:
        return OtherData(decode_recorded_at(state))
    if topic not in _DECODERS:
        raise ValueError(f"unknown topic {topic!r}; a newer version of Tallybook may have written it")
    return _DECODERS[topic][1](state)


_CONFIGURED, _RULES_CHANGED = Meter.Configured.__name__, Meter.RulesChanged.__name__
METER_TOPICS = frozenset({_CONFIGURED, _RULES_CHANGED})
"""The topics of events that change the fold of a meter."""
_NON_USAGE_TOPICS = frozenset(
    {
        "Renamed", "Deactivated", "Reactivated", "DerivedMeterAdded", "PeriodClosed", "PeriodReopened",
        "AdjustmentSettled", "BillingRunStarted", "BillingRunClosed", "AccessKeyCreated", "AccessKeyRevoked",
        "EventsCancelled", "EventsCancelledPart", "EventsCancelRevoked", "EventsCancelRevokedPart", "ImportStarted",
        "ImportBatchRecorded", "ImportFinished", "HistoryPruned", "ApprovalPolicySet", "ApprovalPolicyChanged",
        "ChangeProposed", "ProposalApproved", "ProposalRejected", "ProposalExpired",
    }
)  # fmt: skip
_DECODERS: dict[str, tuple[type, Callable[[bytes], Any]]] = {
    topic: (event_type, msgspec.json.Decoder(event_type).decode)
    for topic, event_type in (
        (USAGE_RECORDED, MeterEventData),
        (EVENT_CANCELLED, EventCancelledData),
        (CANCEL_REVOKED, CancelRevokedData),
        (_CONFIGURED, ConfiguredData),
        (_RULES_CHANGED, RulesChangedData),
    )
}
_decode_other: Callable[[bytes], OtherData] = msgspec.json.Decoder(OtherData).decode
_decode_usage: Callable[[bytes], list[Any]] = msgspec.json.Decoder(list[MeterEventData]).decode
_decode_usage_or_null: Callable[[bytes], list[Any]] = msgspec.json.Decoder(list[MeterEventData | None]).decode
