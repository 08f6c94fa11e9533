"""The meter event stream of Stripe's v2 API: up to 100 events per request; errors are reported later."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .....domain.access_key import Scope
from .....domain.meter_event_input import MeterEventInput
from ....results import Receipt
from ....storage.key_value import KeyValueEntry
from ..api_types import NoParameters, Rfc3339, to_rfc3339
from ..ledgers import RequestContext
from ..operations import OperationRegistry
from ..pending_requests import RecordRequest, RecordResponse
from ..rejected_events import rejected_event
from .meter_events import CreateMeterEventV2

operations = OperationRegistry("Meter event stream")
MAX_EVENTS = 100


class MeterEventSession(msgspec.Struct, kw_only=True):
    """A session for the stream. The token appears only in this response and is valid for 15 minutes."""

    id: str
    object: Literal["v2.billing.meter_event_session"] = "v2.billing.meter_event_session"
    authentication_token: str
    created: Rfc3339
    expires_at: Rfc3339
    livemode: bool


class SendEvents(msgspec.Struct, forbid_unknown_fields=True):
    """Meter events to record, up to 100."""

    events: Annotated[list[CreateMeterEventV2], Meta(min_length=1, max_length=MAX_EVENTS)]


class EmptyResponse(msgspec.Struct):
    """An empty response: rejected events appear in error reports."""


@operations.post("/v2/billing/meter_event_session", Scope.RECORD, is_secret=True)
def create_meter_event_session(context: RequestContext[NoParameters]) -> MeterEventSession:
    """Create a session for the meter event stream."""
    session = context.ledger.sessions.create(context.access_key)
    return MeterEventSession(
        id=session.id,
        authentication_token=session.token,
        created=to_rfc3339(session.created),
        expires_at=to_rfc3339(session.expires_at),
        livemode=context.ledger.livemode,
    )


@operations.record("/v2/billing/meter_event_stream", EmptyResponse, by_session=True)
def send_meter_events(context: RequestContext[SendEvents]) -> RecordRequest:
    """Record meter events, with a session token. They are durable and included in all totals when this returns.

    Events that are recorded already are skipped. A rejected event is stored with the reason, up to a limit: see meter
    event errors.
    """
    event_inputs = [
        MeterEventInput(event.event_name, event.payload, event.identifier, event.timestamp)
        for event in context.params.events
    ]

    def build_response(receipts: Sequence[Receipt], at: datetime) -> RecordResponse:
        entries: list[KeyValueEntry] = []
        for event_input, receipt in zip(event_inputs, receipts, strict=True):
            if receipt.error is not None:
                rejected = rejected_event(
                    event_input, receipt.error, context.access_key.id, context.request_id, context.idempotency_key
                )
                entries += context.ledger.rejected_events.entries_for(rejected, at)
        return RecordResponse(EmptyResponse(), entries)

    return RecordRequest(event_inputs, build_response)
