"""Period adjustments: signed differences of closed periods, and the events that caused them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple

import msgspec

from .....domain.errors import InvalidIdentifier, InvalidParameter, MeterEventNotFound, MeterNotFound
from .....domain.timestamps import from_microseconds
from ....queries.dimension_query import Where
from ....results import AdjustingEvent, Adjustment, Verdict
from ..api_types import (
    AsOfParameters,
    Customer,
    Id,
    ListAsOfParameters,
    ListObject,
    Number,
    UnixTime,
    encode,
    encode_decimal,
    parse_as_of,
    to_unix,
)
from ..dimension_parameters import DimensionFilters, DimensionGroupByKeys, Dimensions, to_where
from ..errors import missing_object
from ..ledgers import RequestContext, ServedLedger
from ..object_ids import METER_EVENT_PREFIX, METER_PREFIX, decode_id, encode_id, name_from_token, name_token
from ..operations import OperationRegistry
from ..pagination import limit_page_size, list_response, paginate
from .closed_period_ids import (
    PERIOD_ADJUSTMENT_PREFIX,
    Bounds,
    ClosedPeriodKey,
    IdentifiedPeriod,
    closed_period_id,
    find_identified_period,
    identify_late_period,
    iter_identified_periods,
    late_period_key,
    optional_range,
)
from .closed_periods import require_event_name
from .recorded_meter_events import RecordedMeterEvent, payload_size, recorded_fields

URL = "/v1/billing/period_adjustments"
MAX_INLINE_EVENTS = 10
operations = OperationRegistry("Period adjustments")


class AdjustingMeterEvent(RecordedMeterEvent, kw_only=True):
    """A meter event whose status has changed since its period was closed.

    `status_at_closing` is null if the event was not recorded then; `change` is its effect on the total since.
    """

    change: Number
    status_at_closing: Verdict | None


class PeriodAdjustmentGroup(msgspec.Struct, kw_only=True):
    """The part of an adjustment with these values of `dimensions`."""

    aggregated_value: Number
    difference: Number
    dimensions: Dimensions


class PeriodAdjustment(msgspec.Struct, kw_only=True):
    """The amount that is owed on a closed period, signed.

    `aggregated_value` and `billable_value` are the current totals of the period under its rules at closing;
    the differences are relative to the frozen totals. `rules_difference` is what the current rules would add, and is
    not owed. The `change` of all `events`, of which the first 10 are included, adds up to `difference`. `groups` are
    the parts by dimensions, if the request groups. `closed_period` is null for a customer without a closing, because
    all of its usage was recorded after the period was closed for others.
    """

    id: str
    object: Literal["billing.period_adjustment"] = "billing.period_adjustment"
    aggregated_value: Number
    billable_difference: Number
    billable_value: Number
    closed_period: str | None
    customer: str
    difference: Number
    end_time: int
    events: ListObject[AdjustingMeterEvent]
    groups: list[PeriodAdjustmentGroup]
    livemode: bool
    meter: str
    position: int
    rules_difference: Number
    start_time: int


class ListPeriodAdjustments(ListAsOfParameters, kw_only=True):
    """Filters for adjustments of a meter: customer, and a range [start_time, end_time) that periods overlap.

    Dimensions are those of the rules that the periods were closed under.
    """

    customer: Customer | None = None
    dimension_filters: DimensionFilters | None = None
    dimension_group_by_keys: DimensionGroupByKeys = ()
    end_time: UnixTime | None = None
    meter: Id
    start_time: UnixTime | None = None


class RetrievePeriodAdjustment(AsOfParameters, kw_only=True):
    """The adjustment of one closed period, of all or of some dimension values."""

    dimension_filters: DimensionFilters | None = None
    dimension_group_by_keys: DimensionGroupByKeys = ()


class ListAdjustingEvents(ListAsOfParameters, kw_only=True):
    """The events that caused an adjustment, of all or of some dimension values."""

    dimension_filters: DimensionFilters | None = None


@operations.get(URL, is_large=True)
def list_period_adjustments(context: RequestContext[ListPeriodAdjustments]) -> ListObject[PeriodAdjustment]:
    """List adjustments of closed periods, by customer and start. Periods without later changes are omitted."""
    params, ledger, as_of = context.params, context.ledger, parse_as_of(context.params)
    event_name, bounds = require_event_name(ledger, params.meter), optional_range(params.start_time, params.end_time)
    query = _Query(as_of, to_where(params.dimension_filters), params.dimension_group_by_keys)
    adjustments = _adjustments(ledger, event_name, params.customer, bounds, query)

    def decode_cursor(object_id: str) -> tuple[object, ...] | None:
        late = late_period_key(object_id)
        if late is not None:
            return _find_sort_key(adjustments, late)
        identified = find_identified_period(ledger, object_id, prefix=PERIOD_ADJUSTMENT_PREFIX)
        return None if identified is None else _sort_key(identified)

    data, has_more = paginate(adjustments, lambda pair: _sort_key(pair[0]), decode_cursor, params, is_ascending=True)
    page, is_cut = limit_page_size(data, params, lambda pair: _inline_size(pair[1]))
    responses = [_to_response(*pair, ledger) for pair in page]
    return list_response(responses, URL, has_more=has_more or is_cut)


@operations.get(URL + "/{id}", is_large=True)
def retrieve_period_adjustment(context: RequestContext[RetrievePeriodAdjustment]) -> PeriodAdjustment:
    """Retrieve the adjustment of a closed period."""
    params = context.params
    query = _Query(parse_as_of(params), to_where(params.dimension_filters), params.dimension_group_by_keys)
    return _to_response(*_find_or_404(context.ledger, context.path_parameters["id"], query), context.ledger)


@operations.get(URL + "/{id}/events", is_large=True)
def list_adjusting_events(context: RequestContext[ListAdjustingEvents]) -> ListObject[AdjustingMeterEvent]:
    """List the events that caused an adjustment, oldest first."""
    object_id, ledger = context.path_parameters["id"], context.ledger
    query = _Query(parse_as_of(context.params), to_where(context.params.dimension_filters))
    _, adjustment = _find_or_404(ledger, object_id, query)

    def decode_cursor(event_id: str) -> tuple[object, ...] | None:
        try:
            event = ledger.metering.event(decode_id(METER_EVENT_PREFIX, event_id) or "")
        except (MeterEventNotFound, InvalidIdentifier, InvalidParameter):
            return None
        return event.occurred_at, event.position

    data, has_more = paginate(
        adjustment.events,
        lambda event: (event.occurred_at, event.position),
        decode_cursor,
        context.params,
        is_ascending=True,
    )
    page, is_cut = limit_page_size(data, context.params, payload_size)
    events = _to_events(page, ledger)
    return list_response(events, f"{URL}/{object_id}/events", has_more=has_more or is_cut)


class _Query(NamedTuple):
    """As of when adjustments are computed, of which dimension values, and by which groups."""

    as_of: datetime | int | None
    where: Where | None
    group_by: Sequence[str] = ()


def _adjustments(
    ledger: ServedLedger, event_name: str, customer: str | None, bounds: Bounds, query: _Query
) -> list[tuple[IdentifiedPeriod, Adjustment]]:
    """Return the adjustment of each closed period that is not reopened, by customer and start."""
    start, end = bounds
    keys = {
        (identified.key.customer_token, identified.period.start, identified.period.end): identified.key
        for identified in iter_identified_periods(ledger, event_name, customer, bounds, query.as_of)
        if identified.period.is_closed
    }
    adjustments = ledger.metering.periods.adjustments(
        event_name, customer, start=start, end=end, as_of=query.as_of, where=query.where, group_by=query.group_by
    )
    pairs = [
        (
            identify_late_period(adjustment.period).key
            if adjustment.is_late
            else keys.get((name_token(period.customer), period.start, period.end)),
            adjustment,
        )
        for adjustment in adjustments
        for period in (adjustment.period,)
    ]
    return [(IdentifiedPeriod(key, adjustment.period), adjustment) for key, adjustment in pairs if key is not None]


def _find_sort_key(
    adjustments: Sequence[tuple[IdentifiedPeriod, Adjustment]], key: ClosedPeriodKey
) -> tuple[object, ...] | None:
    """Return the sort key of a late customer, also if it has no adjustment any more."""
    customer = name_from_token(key.customer_token)
    if customer is not None:
        return customer, from_microseconds(key.start)
    return next((_sort_key(identified) for identified, _ in adjustments if identified.key == key), None)


def _find_late(ledger: ServedLedger, key: ClosedPeriodKey, query: _Query) -> tuple[IdentifiedPeriod, Adjustment] | None:
    bounds = from_microseconds(key.start), from_microseconds(key.end)
    try:
        found = _adjustments(ledger, key.event_name, name_from_token(key.customer_token), bounds, query)
    except MeterNotFound:
        return None
    return next((pair for pair in found if pair[0].key == key), None)


def _find_or_404(ledger: ServedLedger, object_id: str, query: _Query) -> tuple[IdentifiedPeriod, Adjustment]:
    late = late_period_key(object_id)
    if late is not None and (found := _find_late(ledger, late, query)) is not None:
        return found
    requested = find_identified_period(ledger, object_id, query.as_of, PERIOD_ADJUSTMENT_PREFIX)
    if requested is not None:
        period = requested.period
        bounds = period.start, period.end
        for identified, adjustment in _adjustments(ledger, period.event_name, period.customer, bounds, query):
            if identified.key == requested.key:
                return identified, adjustment
    raise missing_object("period adjustment", object_id)


def _inline_size(adjustment: Adjustment) -> int:
    return sum(map(payload_size, adjustment.events[:MAX_INLINE_EVENTS])) + len(encode(_groups(adjustment)))


def _sort_key(identified: IdentifiedPeriod) -> tuple[object, ...]:
    return identified.period.customer, identified.period.start


def _to_response(identified: IdentifiedPeriod, adjustment: Adjustment, ledger: ServedLedger) -> PeriodAdjustment:
    period, object_id = adjustment.period, closed_period_id(identified, PERIOD_ADJUSTMENT_PREFIX)
    inline_events = _to_events(adjustment.events[:MAX_INLINE_EVENTS], ledger)
    return PeriodAdjustment(
        id=object_id,
        aggregated_value=encode_decimal(adjustment.quantity),
        billable_difference=encode_decimal(adjustment.billable_difference),
        billable_value=encode_decimal(adjustment.billable),
        closed_period=None if adjustment.is_late else closed_period_id(identified),
        customer=period.customer,
        difference=encode_decimal(adjustment.difference),
        end_time=to_unix(period.end),
        events=list_response(
            inline_events, f"{URL}/{object_id}/events", has_more=len(adjustment.events) > MAX_INLINE_EVENTS
        ),
        groups=_groups(adjustment),
        livemode=ledger.livemode,
        meter=encode_id(METER_PREFIX, period.event_name),
        position=adjustment.position,
        rules_difference=encode_decimal(adjustment.rules_difference),
        start_time=to_unix(period.start),
    )


def _groups(adjustment: Adjustment) -> list[PeriodAdjustmentGroup]:
    return [
        PeriodAdjustmentGroup(
            aggregated_value=encode_decimal(group.quantity),
            difference=encode_decimal(group.difference),
            dimensions=group.dimensions,
        )
        for group in adjustment.groups
    ]


def _to_events(events: Sequence[AdjustingEvent], ledger: ServedLedger) -> list[AdjustingMeterEvent]:
    return [
        AdjustingMeterEvent(
            **recorded_fields(event, ledger), change=encode_decimal(event.change), status_at_closing=event.before
        )
        for event in events
    ]
