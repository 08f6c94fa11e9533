"""Period adjustments: signed differences of closed periods, and the events that caused them."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

from .....domain.errors import InvalidIdentifier, InvalidParameter, MeterEventNotFound, MeterNotFound
from .....domain.timestamps import from_microseconds
from ....adjustment_results import Adjustment
from ....queries.dimension_query import Where
from ....results import MeterEventView
from ..api_types import AsOfParameters, Customer, Id, ListAsOfParameters, ListObject, UnixTime, parse_as_of
from ..dimension_parameters import DimensionFilters, DimensionGroupByKeys, to_where
from ..errors import missing_object
from ..ledgers import RequestContext, ServedLedger
from ..object_ids import METER_EVENT_PREFIX, decode_id, name_from_token, name_token
from ..operations import OperationRegistry
from ..pagination import limit_page_size, list_response, paginate_unsorted, resolve_cursors
from .closed_period_ids import (
    PERIOD_ADJUSTMENT_PREFIX,
    Bounds,
    ClosedPeriodKey,
    IdentifiedPeriod,
    find_identified_period,
    identify_late_period,
    iter_identified_periods,
    late_period_key,
    optional_range,
)
from .closed_periods import require_event_name
from .period_adjustment_objects import (
    MAX_INLINE_EVENTS,
    URL,
    AdjustingMeterEvent,
    PeriodAdjustment,
    adjusting_event_objects,
    adjustment_object,
    inline_size,
)
from .recorded_meter_events import payload_size

operations = OperationRegistry("Period adjustments")


class ListPeriodAdjustments(ListAsOfParameters, kw_only=True):
    """Filters for adjustments of a meter: customer, and a range [start_time, end_time) that periods overlap.

    With `settled`, periods whose adjustments were settled are included. Dimensions are those of the rules that the
    periods were closed under.
    """

    customer: Customer | None = None
    dimension_filters: DimensionFilters | None = None
    dimension_group_by_keys: DimensionGroupByKeys = ()
    end_time: UnixTime | None = None
    meter: Id
    settled: bool = False
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
    """List adjustments of closed periods, by customer and start.

    Periods without changes since they were closed are omitted, and without `settled` those without changes since they
    were last settled.
    """
    params, ledger, as_of = context.params, context.ledger, parse_as_of(context.params)
    event_name, bounds = require_event_name(ledger, params.meter), optional_range(params.start_time, params.end_time)
    query = AdjustmentQuery(as_of, to_where(params.dimension_filters), params.dimension_group_by_keys, params.settled)

    def decode_cursor(object_id: str) -> tuple[object, ...] | None:
        late = late_period_key(object_id)
        if late is not None:
            return _sort_key_of_late_period(late, ledger, (event_name, params.customer, bounds, query))
        identified = find_identified_period(ledger, object_id, prefix=PERIOD_ADJUSTMENT_PREFIX)
        return None if identified is None else _sort_key(identified)

    with _adjustments(ledger, event_name, params.customer, bounds, query) as adjustments:
        page, has_more = paginate_unsorted(
            adjustments, lambda pair: _sort_key(pair[0]), decode_cursor, params, lambda pair: inline_size(pair[1]),
            is_ascending=True,
        )  # fmt: skip
    responses = [adjustment_object(*pair, ledger) for pair in page]
    return list_response(responses, URL, has_more=has_more)


@operations.get(URL + "/{id}", is_large=True)
def retrieve_period_adjustment(context: RequestContext[RetrievePeriodAdjustment]) -> PeriodAdjustment:
    """Retrieve the adjustment of a closed period, also if it is settled."""
    params = context.params
    query = AdjustmentQuery(parse_as_of(params), to_where(params.dimension_filters), params.dimension_group_by_keys)
    return adjustment_object(*_find_or_404(context.ledger, context.path_parameters["id"], query), context.ledger)


@operations.get(URL + "/{id}/events", is_large=True)
def list_adjusting_events(context: RequestContext[ListAdjustingEvents]) -> ListObject[AdjustingMeterEvent]:
    """List the events that caused an adjustment, oldest first."""
    object_id, ledger, params = context.path_parameters["id"], context.ledger, context.params

    def decode_cursor(event_id: str) -> MeterEventView | None:
        try:
            return ledger.metering.event(decode_id(METER_EVENT_PREFIX, event_id) or "")
        except (MeterEventNotFound, InvalidIdentifier, InvalidParameter):
            return None

    after, before = resolve_cursors(params, decode_cursor)
    query = AdjustmentQuery(
        parse_as_of(params), to_where(params.dimension_filters), max_events=params.limit + 1,
        events_after=after and after.identifier, events_before=before and before.identifier,
    )  # fmt: skip
    _, adjustment = _find_or_404(ledger, object_id, query)
    has_more = len(adjustment.events) > params.limit
    data = adjustment.events[: params.limit] if before is None else adjustment.events[-params.limit :]
    page, is_cut = limit_page_size(data, params, payload_size)
    events = adjusting_event_objects(page, ledger)
    return list_response(events, f"{URL}/{object_id}/events", has_more=has_more or is_cut)


class AdjustmentQuery(NamedTuple):
    """As of when adjustments are computed, of which dimension values, by which groups, and with how many events.

    `settled` is whether those that are settled are included. The events are those after, or before, the one with an
    identifier.
    """

    as_of: datetime | int | None = None
    where: Where | None = None
    group_by: Sequence[str] = ()
    settled: bool = True
    max_events: int = MAX_INLINE_EVENTS
    events_after: str | None = None
    events_before: str | None = None


@contextmanager
def _adjustments(
    ledger: ServedLedger, event_name: str, customer: str | None, bounds: Bounds, query: AdjustmentQuery
) -> Generator[Iterator[tuple[IdentifiedPeriod, Adjustment]]]:
    """Open the adjustment of each closed period that is not reopened, to read one after another, in any order."""
    start, end = bounds
    keys = {
        (identified.key.customer_token, identified.period.start, identified.period.end): identified.key
        for identified in iter_identified_periods(ledger, event_name, customer, bounds, query.as_of)
        if identified.period.is_closed
    }
    with ledger.metering.periods.read_adjustments(
        event_name, customer, start=start, end=end, as_of=query.as_of, where=query.where, group_by=query.group_by,
        settled=query.settled, max_events=query.max_events, events_after=query.events_after,
        events_before=query.events_before,
    ) as adjustments:  # fmt: skip
        pairs = (
            (
                identify_late_period(adjustment.period).key
                if adjustment.is_late
                else keys.get((name_token(period.customer), period.start, period.end)),
                adjustment,
            )
            for adjustment in adjustments
            for period in (adjustment.period,)
        )
        yield ((IdentifiedPeriod(key, adjustment.period), adjustment) for key, adjustment in pairs if key is not None)


def _sort_key_of_late_period(
    key: ClosedPeriodKey, ledger: ServedLedger, listed: tuple[str, str | None, Bounds, AdjustmentQuery]
) -> tuple[object, ...] | None:
    """Return the sort key of a late customer, also if it has no adjustment any more, or a closing by now.

    A long name, which the key does not contain, is looked up in the list.
    """
    customer = name_from_token(key.customer_token)
    if customer is not None:
        return customer, from_microseconds(key.start)
    with _adjustments(ledger, *listed) as adjustments:
        return next((_sort_key(identified) for identified, _ in adjustments if identified.key[:-1] == key[:-1]), None)


def find_late_adjustment(
    ledger: ServedLedger, key: ClosedPeriodKey, query: AdjustmentQuery
) -> tuple[IdentifiedPeriod, Adjustment] | None:
    """Return the adjustment of a customer without a closing; None if it has none."""
    bounds = from_microseconds(key.start), from_microseconds(key.end)
    try:
        with _adjustments(ledger, key.event_name, name_from_token(key.customer_token), bounds, query) as adjustments:
            return next((pair for pair in adjustments if pair[0].key == key), None)
    except MeterNotFound:
        return None


def _find_or_404(ledger: ServedLedger, object_id: str, query: AdjustmentQuery) -> tuple[IdentifiedPeriod, Adjustment]:
    late = late_period_key(object_id)
    if late is not None and (found := find_late_adjustment(ledger, late, query)) is not None:
        return found
    requested = find_identified_period(ledger, object_id, query.as_of, PERIOD_ADJUSTMENT_PREFIX)
    if requested is not None:
        period = requested.period
        bounds = period.start, period.end
        with _adjustments(ledger, period.event_name, period.customer, bounds, query) as adjustments:
            for identified, adjustment in adjustments:
                if identified.key == requested.key:
                    return identified, adjustment
    raise missing_object("period adjustment", object_id)


def _sort_key(identified: IdentifiedPeriod) -> tuple[object, ...]:
    return identified.period.customer, identified.period.start
