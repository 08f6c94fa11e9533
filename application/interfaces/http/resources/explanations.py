"""Explanations: a total with every meter event behind it."""

from datetime import datetime
from typing import Literal

import msgspec

from ..api_types import AsOfParameters, Customer, ListObject, Number, UnixTime, encode_decimal, from_unix, parse_as_of
from ..errors import ApiError
from ..ledgers import RequestContext
from ..meter_objects import Formula, Window
from ..object_ids import customer_token
from ..operations import OperationRegistry
from ..pagination import list_response
from .recorded_meter_events import URL as EVENTS
from .recorded_meter_events import RecordedMeterEvent, recorded_fields
from .totals import MeterTotal, TotalKey, meter_total

operations = OperationRegistry("Explanations")
MAX_EVENTS, MAX_CHARACTERS = 10_000, 20_000_000
"""The most events in a response, and characters in their payloads. Otherwise it could have 2.5 GB."""
_BATCH_SIZE = 500


class ExplainedMeterEvent(RecordedMeterEvent, kw_only=True):
    """A meter event with its contribution to the total: 0 if it does not count."""

    contribution: Number


class Explanation(msgspec.Struct, kw_only=True):
    """A total and all events behind it. The contributions add up to its `aggregated_value`.

    It covers the ledger up to `position`, under the rules of `revision`. `digest` is the SHA-256 of the counted
    events, as in a closed period.
    """

    object: Literal["billing.meter_explanation"] = "billing.meter_explanation"
    digest: str
    event_time_window: Window | None
    events: ListObject[ExplainedMeterEvent]
    formula: Formula
    livemode: bool
    meter: str
    position: int
    revision: int
    total: MeterTotal


class ExplainTotal(AsOfParameters, kw_only=True):
    """The total to explain: of one customer, or of all customers together."""

    customer: Customer | None = None
    end_time: UnixTime
    start_time: UnixTime


@operations.get("/v1/billing/meters/{id}/explanation")
def retrieve_explanation(context: RequestContext[ExplainTotal]) -> Explanation:
    """Explain a total: return every meter event behind it, including those that do not count.

    The response is complete, so that it adds up. It is an error if there are more than 10,000 events, or more than
    20,000,000 characters in their payloads: use shorter ranges or the list of meter events.
    """
    params, as_of, meter_id, ledger = (
        context.params,
        parse_as_of(context.params),
        context.path_parameters["id"],
        context.ledger,
    )
    meter = ledger.meter(meter_id, as_of)
    start, end = from_unix(params.start_time), from_unix(params.end_time)
    _check_size(context, meter.event_name, start, end)
    explanation = ledger.metering.explain(meter.event_name, params.customer, start, end, as_of=as_of)
    events = [
        ExplainedMeterEvent(
            **recorded_fields(event, meter.dimension_keys, ledger), contribution=encode_decimal(event.contribution)
        )
        for event in explanation.events
    ]
    total_key = TotalKey(meter.event_name, params.start_time, params.end_time, customer_token(params.customer or ""))
    return Explanation(
        digest=explanation.digest,
        event_time_window=None if explanation.event_time_window is None else explanation.event_time_window.value,
        events=list_response(events, EVENTS, has_more=False),
        formula=explanation.formula.value,
        livemode=ledger.livemode,
        meter=meter_id,
        position=explanation.position,
        revision=explanation.revision,
        total=meter_total(explanation.total, total_key, meter_id, ledger.livemode),
    )


def _check_size(context: RequestContext[ExplainTotal], event_name: str, start: datetime, end: datetime) -> None:
    """Raise ApiError if the events are too many or too large, before all of them are in memory."""
    count = size = 0
    last: str | None = None
    while True:
        events = context.ledger.metering.events(
            event_name, customer=context.params.customer, start=start, end=end, as_of=parse_as_of(context.params),
            limit=_BATCH_SIZE, starting_after=last,
        )  # fmt: skip
        count += len(events)
        size += sum(len(text) for event in events for item in event.payload.items() for text in item)
        if count > MAX_EVENTS or size > MAX_CHARACTERS:
            raise _too_many_events()
        if len(events) < _BATCH_SIZE:
            return
        last = events[-1].identifier


def _too_many_events() -> ApiError:
    return ApiError(
        400, f"There are more than {MAX_EVENTS} meter events behind this total, or more than {MAX_CHARACTERS} "
        f"characters in their payloads. Use shorter ranges, or list the events at {EVENTS}, with the status of each.",
        code="too_many_meter_events", param="end_time",
    )  # fmt: skip
