"""The stream of meter events, as Stripe's v2 takes it: up to 100 at a time, whose refusals are told later."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ....domain.access_key import Scope
from ....domain.report import Report
from ...results import Receipt
from ...stores.kept import KeptRow
from ..committing import Recorded, Recording
from ..desk import Call
from ..refused_events import rows_of
from ..routes import Routes
from ..times import Rfc3339, rfc3339
from ..wire import NoParameters
from .meter_events import CreateMeterEventV2

routes = Routes("Meter event stream")
MOST_EVENTS = 100


class MeterEventSession(msgspec.Struct, kw_only=True):
    """A session for the stream. Its token is told here alone, and lives for 15 minutes."""

    id: str
    object: Literal["v2.billing.meter_event_session"] = "v2.billing.meter_event_session"
    authentication_token: str
    created: Rfc3339
    expires_at: Rfc3339
    livemode: bool


class SendEvents(msgspec.Struct, forbid_unknown_fields=True):
    """Uses to report, up to 100."""

    events: Annotated[list[CreateMeterEventV2], Meta(min_length=1, max_length=MOST_EVENTS)]


class Sent(msgspec.Struct):
    """Nothing is said: what could not be counted is told in error reports."""


@routes.post("/v2/billing/meter_event_session", Scope.RECORD, is_secret=True)
def create_meter_event_session(call: Call[NoParameters]) -> MeterEventSession:
    """Begin a session for the stream of meter events."""
    session = call.desk.sessions.begin(call.key)
    return MeterEventSession(
        id=session.id,
        authentication_token=session.token,
        created=rfc3339(session.created),
        expires_at=rfc3339(session.expires_at),
        livemode=call.desk.livemode,
    )


@routes.recording("/v2/billing/meter_event_stream", Sent, by_session=True)
def send_meter_events(call: Call[SendEvents]) -> Recording:
    """Report uses, on a session's token. They are durable, and in every figure, when this is answered.

    What is recorded already is passed over. An event that can't be counted is kept with the reason: see error reports.
    """
    reports = [Report(one.event_name, one.payload, one.identifier, one.timestamp) for one in call.asked.events]

    def answer(receipts: Sequence[Receipt], at: datetime) -> Recorded:
        kept: list[KeptRow] = []
        for report, receipt in zip(reports, receipts, strict=True):
            if receipt.error is not None:
                kept += rows_of(report, receipt.error, at, call.request_id, call.idempotency_key)
        return Recorded(Sent(), kept)

    return Recording(reports, answer)
