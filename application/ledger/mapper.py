"""Maps domain events to stored JSON and back. The topics below and the fields of the models are the storage format."""

from collections.abc import Mapping
from typing import Any, cast

import msgspec
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import Mapper, MapperDeserialisationError, StoredEvent
from eventsourcing.utils import get_topic
from pydantic import ValidationError
from pydantic_core import from_json

from ...domain.access_key import AccessKey
from ...domain.aggregate import Aggregate
from ...domain.approval_policy import ApprovalPolicy
from ...domain.billing_run import BillingRun
from ...domain.bulk_cancellation import BulkCancellation
from ...domain.customer_periods import CustomerPeriods
from ...domain.history_pruning import HistoryPruning
from ...domain.import_run import ImportRun
from ...domain.meter import Meter
from ...domain.meter_event import MeterEvent, MeterEventData
from ...domain.proposal import Proposal
from ...projections.ports import USAGE_RECORDED
from ..storage.ports import EventRow
from ..system_user import library

_AGGREGATES: dict[type[Aggregate], tuple[type[Aggregate.Event], ...]] = {
    Meter: (
        Meter.Configured, Meter.Renamed, Meter.RulesChanged, Meter.Deactivated, Meter.Reactivated,
        Meter.DerivedMeterAdded,
    ),
    MeterEvent: (MeterEvent.UsageRecorded, MeterEvent.EventCancelled, MeterEvent.CancelRevoked),
    CustomerPeriods: (
        CustomerPeriods.PeriodClosed, CustomerPeriods.PeriodReopened, CustomerPeriods.AdjustmentSettled,
    ),
    BulkCancellation: (
        BulkCancellation.EventsCancelled,
        BulkCancellation.EventsCancelledPart,
        BulkCancellation.EventsCancelRevoked,
        BulkCancellation.EventsCancelRevokedPart,
    ),
    ImportRun: (ImportRun.ImportStarted, ImportRun.ImportBatchRecorded, ImportRun.ImportFinished),
    BillingRun: (BillingRun.BillingRunStarted, BillingRun.BillingRunClosed),
    AccessKey: (AccessKey.AccessKeyCreated, AccessKey.AccessKeyRevoked),
    HistoryPruning: (HistoryPruning.HistoryPruned,),
    ApprovalPolicy: (ApprovalPolicy.ApprovalPolicySet, ApprovalPolicy.ApprovalPolicyChanged),
    Proposal: (
        Proposal.ChangeProposed, Proposal.ProposalApproved, Proposal.ProposalRejected, Proposal.ProposalExpired,
    ),
}  # fmt: skip
TOPICS: dict[str, type[Aggregate.Event]] = {
    event.__name__: event for events in _AGGREGATES.values() for event in events
}
_CREATED_TOPICS: dict[str, str] = {
    event.__name__: get_topic(aggregate)
    for aggregate, events in _AGGREGATES.items()
    for event in events
    if issubclass(event, Aggregate.Created)
}


encode_meter_event = msgspec.json.Encoder(enc_hook=str).encode  # the hook encodes subclasses of str
decode_meter_event = msgspec.json.Decoder(MeterEventData).decode


class NewMeterEvents(dict[str, MeterEventData]):
    """New meter events by identifier."""

    _rows: list[EventRow] | None = None

    def encode(self) -> list[EventRow]:
        """Return the rows to store. They are encoded when this is first called, after which no event may be added."""
        if self._rows is None:
            self._rows = _encode_rows(self)
        return self._rows


def meter_event_rows(data_by_identifier: Mapping[str, MeterEventData]) -> list[EventRow]:
    """Return the rows to store for new meter events, by identifier."""
    if isinstance(data_by_identifier, NewMeterEvents):
        return data_by_identifier.encode()
    return _encode_rows(data_by_identifier)


def _encode_rows(data_by_identifier: Mapping[str, MeterEventData]) -> list[EventRow]:
    return [
        (MeterEvent.stream_id(identifier), 1, USAGE_RECORDED, encode_meter_event(data))
        for identifier, data in data_by_identifier.items()
    ]


def with_author(event: Aggregate.Event) -> Aggregate.Event:
    """Return an event with how it reached the ledger: by the library, unless somebody else acts.

    The events of a bulk cancellation are as many as its meter events: how is stored with its decision alone.
    """
    if event.via is not None or getattr(event, "cancellation_id", None) is not None:
        return event
    return event.model_copy(update={"via": library()})


def _meter_event_fields(stored_event: StoredEvent) -> dict[str, Any]:
    data = decode_meter_event(stored_event.state)
    return {"timestamp": data.recorded_at, "data": data}


class EventMapper(Mapper[str]):
    """Stores an event as compact JSON, with the name of its class as the topic."""

    def to_stored_event(self, domain_event: DomainEventProtocol[str]) -> StoredEvent:
        """Return the stored form of an event."""
        event = cast(Aggregate.Event, domain_event)
        return StoredEvent(*self.to_row(event))

    def to_row(self, event: Aggregate.Event) -> EventRow:
        """Return the row to store for an event: stream, version, topic and state."""
        if isinstance(event, MeterEvent.UsageRecorded):
            return event.originator_id, 1, USAGE_RECORDED, encode_meter_event(event.data)
        state = event.__pydantic_serializer__.to_json(event, by_alias=True)
        return event.originator_id, event.originator_version, type(event).__name__, state

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[str]:
        """Return the domain event of a stored event. Raises MapperDeserialisationError, which names the event."""
        try:
            event = TOPICS[stored_event.topic]
            state = (
                _meter_event_fields(stored_event)
                if event is MeterEvent.UsageRecorded
                else from_json(stored_event.state)
            )
            state["originator_id"] = stored_event.originator_id
            state["originator_version"] = stored_event.originator_version
            if stored_event.topic in _CREATED_TOPICS:
                state["originator_topic"] = _CREATED_TOPICS[stored_event.topic]
            return cast(DomainEventProtocol[str], event.model_validate(state))
        except (KeyError, ValueError, ValidationError, msgspec.MsgspecError) as error:
            raise MapperDeserialisationError(
                f"Can't read the stored event {stored_event.topic} at version {stored_event.originator_version} "
                f"of {stored_event.originator_id!r}: {error}"
            ) from error
