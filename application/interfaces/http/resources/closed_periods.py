"""Closed periods: frozen totals for invoices."""

from datetime import datetime
from typing import Literal

import msgspec

from .....domain.customer_periods import ClosedPeriod
from .....domain.errors import PeriodNotClosed
from ..api_types import (
    AsOfParameters,
    Customer,
    Id,
    ListAsOfParameters,
    ListObject,
    Number,
    Parameters,
    Reason,
    UnixTime,
    encode,
    encode_decimal,
    from_unix,
    optional_number,
    optional_unix,
    parse_as_of,
    to_unix,
)
from ..dimension_parameters import DimensionGroupByKeys, Dimensions
from ..errors import ApiError, missing_object
from ..ledgers import RequestContext, ServedLedger
from ..object_ids import METER_PREFIX, encode_id
from ..operations import OperationRegistry
from ..pagination import list_response, paginate_unsorted
from ..rules_objects import RulesObject
from .closed_period_ids import (
    IdentifiedPeriod,
    closed_period_id,
    find_identified_period,
    iter_identified_periods,
    optional_range,
)
from .period_gaps import PeriodGap, adjacent_gaps

URL = "/v1/billing/closed_periods"
operations = OperationRegistry("Closed periods")


class ReopeningDetails(msgspec.Struct, kw_only=True):
    """When and why a closed period was reopened, and by whom."""

    reopened_at: int
    reason: str | None
    by: str | None


class ClosedPeriodGroup(msgspec.Struct, kw_only=True):
    """The part of a closed period with these values of `dimensions`."""

    aggregated_value: Number
    billable_value: Number
    count: int
    dimensions: Dimensions
    last: Number | None
    sum: Number


class BillingClosedPeriod(msgspec.Struct, kw_only=True):
    """A closed period of a customer: its totals at `created`, from the ledger up to `position`.

    They have the usage from `counted_from` until `counted_until`, which are null if they are start_time and end_time.
    `digest` is the SHA-256 of the counted events, `rules` are the rules at closing. `gap_before` and `gap_after` are
    the ranges to the customer's previous and next closed period, if these don't adjoin. `groups` are the totals by
    the dimensions that the period was closed with.
    """

    id: str
    object: Literal["billing.closed_period"] = "billing.closed_period"
    aggregated_value: Number
    billable_value: Number
    count: int
    counted_from: int | None
    counted_until: int | None
    created: int
    customer: str
    digest: str
    end_time: int
    gap_after: PeriodGap | None
    gap_before: PeriodGap | None
    groups: list[ClosedPeriodGroup]
    last: Number | None
    livemode: bool
    meter: str
    position: int
    reopening: ReopeningDetails | None
    revision: int
    rules: RulesObject
    start_time: int
    status: Literal["closed", "reopened"]
    sum: Number


class ClosePeriod(Parameters, kw_only=True):
    """The period of a customer to close, and the dimensions to group its totals by.

    The period of a customer that never had usage on the meter is closed only with `allow_empty`.
    """

    allow_empty: bool = False
    customer: Customer
    dimension_group_by_keys: DimensionGroupByKeys = ()
    end_time: UnixTime
    meter: Id
    start_time: UnixTime


class ListClosedPeriods(ListAsOfParameters, kw_only=True):
    """Filters for closed periods: meter, customer, and a range [start_time, end_time) that they overlap."""

    customer: Customer | None = None
    end_time: UnixTime | None = None
    meter: Id | None = None
    reopened: bool = False
    start_time: UnixTime | None = None


class RetrieveClosedPeriod(AsOfParameters, kw_only=True):
    """A closed period, now or as of an earlier time."""


class ReopenPeriod(Parameters, kw_only=True):
    """Why a period is reopened, and by whom. The default for `by` is the access key."""

    reason: Reason
    by: Reason | None = None


@operations.post(URL)
def close_period(context: RequestContext[ClosePeriod]) -> BillingClosedPeriod:
    """Close a period: freeze a customer's totals for an invoice.

    Closing it again returns the first result. Later events never change it: see period adjustments.
    """
    params, ledger = context.params, context.ledger
    event_name = require_event_name(ledger, params.meter)
    start, end = from_unix(params.start_time), from_unix(params.end_time)
    closed_period = ledger.metering.periods.close(
        event_name, params.customer, start, end, group_by=params.dimension_group_by_keys,
        allow_empty=params.allow_empty,
    )  # fmt: skip
    candidates = [
        identified
        for identified in iter_identified_periods(ledger, event_name, params.customer)
        if identified.period.closed_at == closed_period.closed_at
    ]
    return _to_response(
        [identified for identified in candidates if (identified.period.start, identified.period.end) == (start, end)][
            -1
        ],
        ledger,
    )


@operations.get(URL, is_large=True)
def list_closed_periods(context: RequestContext[ListClosedPeriods]) -> ListObject[BillingClosedPeriod]:
    """List closed periods, newest first. With `reopened`, include reopened ones.

    A page has fewer than `limit` periods, and `has_more`, if their groups have more than 4 MB.
    """
    params, ledger, as_of = context.params, context.ledger, parse_as_of(context.params)
    if params.meter is None:
        event_names = [meter.event_name for meter in ledger.metering.meters.list(as_of=as_of)]
    else:
        event_names = [require_event_name(ledger, params.meter)]
    bounds = optional_range(params.start_time, params.end_time)
    selected = (
        identified
        for event_name in event_names
        for identified in iter_identified_periods(ledger, event_name, params.customer, bounds, as_of)
        if params.reopened or identified.period.is_closed
    )

    def decode_cursor(object_id: str) -> tuple[object, ...] | None:
        identified = find_identified_period(ledger, object_id)
        return None if identified is None else _sort_key(identified)

    page, has_more = paginate_unsorted(
        selected, _sort_key, decode_cursor, params, lambda identified: len(encode(_groups(identified.period)))
    )
    periods = [_to_response(identified, ledger, as_of) for identified in page]
    return list_response(periods, URL, has_more=has_more)


@operations.get(URL + "/{id}")
def retrieve_closed_period(context: RequestContext[RetrieveClosedPeriod]) -> BillingClosedPeriod:
    """Retrieve a closed period, also if it has been reopened."""
    ledger, as_of = context.ledger, parse_as_of(context.params)
    return _to_response(_find_or_404(ledger, context.path_parameters["id"], as_of), ledger, as_of)


@operations.post(URL + "/{id}/reopen")
def reopen_period(context: RequestContext[ReopenPeriod]) -> BillingClosedPeriod:
    """Reopen a period, so that it can be closed again with new totals. The closed period stays readable."""
    ledger, object_id = context.ledger, context.path_parameters["id"]
    identified = _find_or_404(ledger, object_id)
    period, reason, by = identified.period, context.params.reason, context.params.by or context.access_key.hint
    if period.is_closed:
        try:
            reopened = ledger.metering.periods.reopen(
                period.event_name, period.customer, period.start, period.end, reason=reason, by=by
            )
        except PeriodNotClosed:  # another request has reopened it
            raise _not_closed_error(object_id) from None
        return _to_response(IdentifiedPeriod(identified.key, reopened), ledger)
    if context.is_retry and (period.reason, period.by) == (reason, by):
        return _to_response(identified, ledger)
    raise _not_closed_error(object_id)


def require_event_name(ledger: ServedLedger, meter_id: str) -> str:
    """Return the event name of the meter in the parameter `meter`. Raises ApiError."""
    try:
        return ledger.meter(meter_id).event_name
    except ApiError:
        raise missing_object("meter", meter_id, "meter", 400) from None


def _find_or_404(ledger: ServedLedger, object_id: str, as_of: datetime | int | None = None) -> IdentifiedPeriod:
    identified = find_identified_period(ledger, object_id, as_of)
    if identified is None:
        raise missing_object("closed period", object_id)
    return identified


def _not_closed_error(object_id: str) -> ApiError:
    return ApiError(400, f"The period '{object_id}' is already reopened.", code=PeriodNotClosed.code, param="id")


def _sort_key(identified: IdentifiedPeriod) -> tuple[object, ...]:
    return identified.period.closed_at, closed_period_id(identified)


def _to_response(
    identified: IdentifiedPeriod, ledger: ServedLedger, as_of: datetime | int | None = None
) -> BillingClosedPeriod:
    period = identified.period
    reopened_at = period.reopened_at
    gap_before, gap_after = adjacent_gaps(period, ledger, as_of) if period.is_closed else (None, None)
    return BillingClosedPeriod(
        id=closed_period_id(identified),
        aggregated_value=encode_decimal(period.quantity),
        billable_value=encode_decimal(period.billable),
        count=period.count,
        counted_from=optional_unix(period.counted_from),
        counted_until=optional_unix(period.counted_until),
        created=to_unix(period.closed_at),
        customer=period.customer,
        digest=period.digest,
        end_time=to_unix(period.end),
        gap_after=gap_after,
        gap_before=gap_before,
        groups=_groups(period),
        last=optional_number(period.last),
        livemode=ledger.livemode,
        meter=encode_id(METER_PREFIX, period.event_name),
        position=period.position,
        reopening=None
        if reopened_at is None
        else ReopeningDetails(reopened_at=to_unix(reopened_at), reason=period.reason, by=period.by),
        revision=period.revision,
        rules=RulesObject.from_rules(period.rules),
        start_time=to_unix(period.start),
        status="closed" if period.is_closed else "reopened",
        sum=encode_decimal(period.sum),
    )


def _groups(period: ClosedPeriod) -> list[ClosedPeriodGroup]:
    return [
        ClosedPeriodGroup(
            aggregated_value=encode_decimal(group.quantity),
            billable_value=encode_decimal(group.billable),
            count=group.count,
            dimensions=group.dimensions,
            last=optional_number(group.last),
            sum=encode_decimal(group.sum),
        )
        for group in period.groups
    ]
