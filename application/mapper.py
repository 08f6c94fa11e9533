"""Domain events to stored JSON and back. The models themselves say how; the topics below are the storage format."""

from typing import Any, cast

import msgspec
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import Mapper, MapperDeserialisationError, StoredEvent
from eventsourcing.utils import get_topic
from pydantic import ValidationError
from pydantic_core import from_json

from ..domain.access_key import AccessKey
from ..domain.aggregate import Aggregate
from ..domain.closed_periods import ClosedPeriods
from ..domain.meter import Meter
from ..domain.meter_event import MeterEvent, ReportedUse
from ..projections.rows import USAGE_RECORDED
from .stores.store import StoredRow

_AGGREGATES: dict[type[Aggregate], tuple[type[Aggregate.Event], ...]] = {
    Meter: (Meter.Configured, Meter.Renamed, Meter.RulesChanged, Meter.Deactivated, Meter.Reactivated),
    MeterEvent: (MeterEvent.UsageRecorded, MeterEvent.EventCancelled),
    ClosedPeriods: (ClosedPeriods.PeriodClosed, ClosedPeriods.PeriodReopened),
    AccessKey: (AccessKey.AccessKeyCreated, AccessKey.AccessKeyRevoked),
}
TOPICS: dict[str, type[Aggregate.Event]] = {
    event.__name__: event for events in _AGGREGATES.values() for event in events
}
_BEGINNINGS: dict[str, str] = {
    event.__name__: get_topic(aggregate)
    for aggregate, events in _AGGREGATES.items()
    for event in events
    if issubclass(event, Aggregate.Created)
}


encode_use = msgspec.json.Encoder(enc_hook=str).encode  # the hook is for kinds of text, subclasses of str
decode_use = msgspec.json.Decoder(ReportedUse).decode


def use_row(stream: str, use: ReportedUse) -> StoredRow:
    """A reported use as the row that is stored."""
    return stream, 1, USAGE_RECORDED, encode_use(use)


def _use_fields(stored_event: StoredEvent) -> dict[str, Any]:
    use = decode_use(stored_event.state)
    return {"timestamp": use.recorded_at, "use": use}


class EventMapper(Mapper[str]):
    """Stores an event as compact JSON under a short topic, its class's name."""

    def to_stored_event(self, domain_event: DomainEventProtocol[str]) -> StoredEvent:
        """The event as it is stored."""
        event = cast(Aggregate.Event, domain_event)
        return StoredEvent(*self.to_row(event))

    def to_row(self, event: Aggregate.Event) -> StoredRow:
        """The event as the row that is stored: stream, version, topic and state."""
        if isinstance(event, MeterEvent.UsageRecorded):
            return use_row(event.originator_id, event.use)
        state = event.__pydantic_serializer__.to_json(event, by_alias=True)
        return event.originator_id, event.originator_version, type(event).__name__, state

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[str]:
        """The stored event as it was triggered. Raises MapperDeserialisationError, saying which could not be read."""
        try:
            event = TOPICS[stored_event.topic]
            state = _use_fields(stored_event) if event is MeterEvent.UsageRecorded else from_json(stored_event.state)
            state["originator_id"] = stored_event.originator_id
            state["originator_version"] = stored_event.originator_version
            if stored_event.topic in _BEGINNINGS:
                state["originator_topic"] = _BEGINNINGS[stored_event.topic]
            return cast(DomainEventProtocol[str], event.model_validate(state))
        except (KeyError, ValueError, ValidationError, msgspec.MsgspecError) as error:
            raise MapperDeserialisationError(
                f"Can't read the stored event {stored_event.topic} at version {stored_event.originator_version} "
                f"of {stored_event.originator_id!r}: {error}"
            ) from error
