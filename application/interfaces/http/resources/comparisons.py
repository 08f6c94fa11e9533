"""Comparisons: a total as of two points of the ledger, and the meter events between them."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ....results import Verdict
from ..api_types import (
    AsOfParameters,
    AsOfPosition,
    AsOfTime,
    Customer,
    ListObject,
    Number,
    UnixTime,
    encode_decimal,
    from_unix,
    parse_as_of,
    parse_point,
)
from ..dimension_parameters import DimensionFilters, to_where
from ..errors import invalid_parameter
from ..ledgers import RequestContext
from ..operations import OperationRegistry
from ..pagination import list_response, page_within_size
from .recorded_meter_events import URL as EVENTS
from .recorded_meter_events import RecordedMeterEvent, payload_size, recorded_fields
from .totals import MeterTotal, meter_total

operations = OperationRegistry("Comparisons")


class ChangedMeterEvent(RecordedMeterEvent, kw_only=True):
    """A meter event whose status changed between two points. `before` is null if it was not recorded at the first."""

    before: Verdict | None


class MeterComparison(msgspec.Struct, kw_only=True):
    """A total as of two points of the ledger: `before` at the position `since`, `after` at `position`.

    `events` are a part of the `event_count` events whose status differs, oldest first. If the rules have changed in
    between, `before` is under the earlier ones, and the events don't explain all of the `difference`.
    """

    object: Literal["billing.meter_comparison"] = "billing.meter_comparison"
    after: MeterTotal
    before: MeterTotal
    difference: Number
    event_count: int
    events: ListObject[ChangedMeterEvent]
    livemode: bool
    meter: str
    position: int
    since: int


class CompareTotal(AsOfParameters, kw_only=True):
    """The total to compare, the earlier point, `since` or `since_position`, and the later one. The default is now.

    `offset` is the number of changed events to skip, and `limit` the most to return.
    """

    customer: Customer | None = None
    dimension_filters: DimensionFilters | None = None
    end_time: UnixTime
    limit: Annotated[int, Meta(ge=0, le=100)] = 100
    offset: Annotated[int, Meta(ge=0, le=2**31)] = 0
    since: AsOfTime | None = None
    since_position: AsOfPosition | None = None
    start_time: UnixTime


@operations.get("/v1/billing/meters/{id}/comparison", is_large=True)
def retrieve_comparison(context: RequestContext[CompareTotal]) -> MeterComparison:
    """Compare a total as of two points: its difference, and the events that were recorded, cancelled or restored.

    A page has fewer than `limit` events, and `has_more`, if their payloads have more than 4 MB.
    """
    params, ledger, as_of = context.params, context.ledger, parse_as_of(context.params)
    meter_id = context.path_parameters["id"]
    event_name = ledger.meter(meter_id, as_of).event_name
    since = parse_point("since", params.since, params.since_position)
    if since is None:
        raise invalid_parameter("since", "A comparison needs since or since_position.", "parameter_missing")
    change = ledger.metering.compare(
        event_name, params.customer, from_unix(params.start_time), from_unix(params.end_time), since=since, as_of=as_of,
        where=to_where(params.dimension_filters), offset=params.offset, limit=params.limit,
    )  # fmt: skip
    page, _ = page_within_size(change.events, params.limit, payload_size)
    events = [ChangedMeterEvent(**recorded_fields(event, ledger), before=event.before) for event in page]
    return MeterComparison(
        after=meter_total(change.after, event_name, ledger),
        before=meter_total(change.before, event_name, ledger),
        difference=encode_decimal(change.difference),
        event_count=change.event_count,
        events=list_response(events, EVENTS, has_more=params.offset + len(events) < change.event_count),
        livemode=ledger.livemode,
        meter=meter_id,
        position=change.position,
        since=change.since,
    )
