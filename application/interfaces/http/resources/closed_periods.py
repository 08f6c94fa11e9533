"""Closed periods: frozen totals for invoices."""

from datetime import datetime
from typing import Literal

import msgspec

from .....domain.access_key import Scope
from .....domain.errors import PeriodNotClosed
from ....commands.periods import ClosingRules
from ....invoice_results import PeriodPreview
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
    encode_decimal,
    from_unix,
    optional_number,
    optional_unix,
    parse_as_of,
    to_unix,
)
from ..dimension_parameters import DimensionGroupByKeys
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
from .closed_period_objects import (
    BillingClosedPeriod,
    ClosedPeriodGroup,
    closed_period_object,
    group_objects,
    identify,
    variable_size,
)

URL = "/v1/billing/closed_periods"
operations = OperationRegistry("Closed periods")


class ClosePeriod(Parameters, kw_only=True):
    """The period of a customer to close, and the dimensions to group its totals by.

    The period of a customer that never had usage on the meter is closed only with `allow_empty`. A period that was
    reopened is closed under the rules of its `previous` closing, or under the `current` ones.
    """

    allow_empty: bool = False
    customer: Customer
    dimension_group_by_keys: DimensionGroupByKeys = ()
    end_time: UnixTime
    meter: Id
    rules: ClosingRules = "previous"
    start_time: UnixTime


class PreviewPeriod(Parameters, kw_only=True):
    """The period of a customer to preview, the dimensions to group its totals by, and the `rules` as for closing."""

    customer: Customer
    dimension_group_by_keys: DimensionGroupByKeys = ()
    end_time: UnixTime
    meter: Id
    rules: ClosingRules = "previous"
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
    """Why a period is reopened, and by whom. `by` is stored as `on_behalf_of`.

    `withdraw_settlements` is required if the period has settlements: their documents are withdrawn too.
    """

    reason: Reason
    by: Reason | None = None
    withdraw_settlements: bool = False


class ClosedPeriodPreview(msgspec.Struct, kw_only=True):
    """The totals that closing a period would freeze, from the ledger up to `position`.

    The differences are relative to what was invoiced for the period: the last settlement of `previous`, or its totals.
    `previous` is the closing of the period, or the last one that was reopened; null if it was never closed.
    """

    object: Literal["billing.closed_period_preview"] = "billing.closed_period_preview"
    aggregated_value: Number
    billable_difference: Number
    billable_value: Number
    count: int
    counted_from: int | None
    counted_until: int | None
    customer: str
    difference: Number
    digest: str
    end_time: int
    groups: list[ClosedPeriodGroup]
    last: Number | None
    livemode: bool
    meter: str
    position: int
    previous: BillingClosedPeriod | None
    revision: int
    rules: RulesObject
    start_time: int
    sum: Number


@operations.post(URL, Scope.CLOSE)
def close_period(context: RequestContext[ClosePeriod]) -> BillingClosedPeriod:
    """Close a period: freeze a customer's totals for an invoice.

    Closing it again returns the first result. Later events never change it: see period adjustments.
    """
    params, ledger = context.params, context.ledger
    event_name = require_event_name(ledger, params.meter)
    start, end = from_unix(params.start_time), from_unix(params.end_time)
    closed_period = ledger.metering.periods.close(
        event_name, params.customer, start, end, group_by=params.dimension_group_by_keys,
        allow_empty=params.allow_empty, rules=params.rules,
    )  # fmt: skip
    return closed_period_object(identify(ledger, closed_period), ledger)


@operations.post(URL + "/preview", Scope.READ)
def preview_closed_period(context: RequestContext[PreviewPeriod]) -> ClosedPeriodPreview:
    """Preview closing a period, also one that hasn't ended, or that is closed, as if it was reopened."""
    params, ledger = context.params, context.ledger
    preview = ledger.metering.periods.preview(
        require_event_name(ledger, params.meter), params.customer, from_unix(params.start_time),
        from_unix(params.end_time), group_by=params.dimension_group_by_keys, rules=params.rules,
    )  # fmt: skip
    return preview_object(preview, ledger)


@operations.get(URL, is_large=True)
def list_closed_periods(context: RequestContext[ListClosedPeriods]) -> ListObject[BillingClosedPeriod]:
    """List closed periods, newest first. With `reopened`, include reopened ones.

    A page has fewer than `limit` periods, and `has_more`, if their groups and settlements have more than 4 MB.
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
        selected, _sort_key, decode_cursor, params, lambda identified: variable_size(identified.period)
    )
    periods = [closed_period_object(identified, ledger, as_of) for identified in page]
    return list_response(periods, URL, has_more=has_more)


@operations.get(URL + "/{id}")
def retrieve_closed_period(context: RequestContext[RetrieveClosedPeriod]) -> BillingClosedPeriod:
    """Retrieve a closed period, also if it has been reopened."""
    ledger, as_of = context.ledger, parse_as_of(context.params)
    return closed_period_object(find_closed_period(ledger, context.path_parameters["id"], as_of), ledger, as_of)


@operations.post(URL + "/{id}/reopen", Scope.CLOSE)
def reopen_period(context: RequestContext[ReopenPeriod]) -> BillingClosedPeriod:
    """Reopen a period, so that it can be closed again with new totals. The closed period stays readable."""
    ledger, object_id = context.ledger, context.path_parameters["id"]
    identified = find_closed_period(ledger, object_id)
    period, reason, by = identified.period, context.params.reason, context.params.by
    if period.is_closed:
        try:
            reopened = ledger.metering.periods.reopen(
                period.event_name, period.customer, period.start, period.end, reason=reason, by=by,
                withdraw_settlements=context.params.withdraw_settlements,
            )  # fmt: skip
        except PeriodNotClosed:  # another request has reopened it
            raise _not_closed_error(object_id) from None
        return closed_period_object(IdentifiedPeriod(identified.key, reopened), ledger)
    requested = reason, context.access_key.hint, by
    if context.is_retry and (period.reason, period.by, period.on_behalf_of) == requested:
        return closed_period_object(identified, ledger)
    raise _not_closed_error(object_id)


def require_event_name(ledger: ServedLedger, meter_id: str, param: str = "meter") -> str:
    """Return the event name of the meter in a parameter. Raises ApiError."""
    try:
        return ledger.meter(meter_id).event_name
    except ApiError:
        raise missing_object("meter", meter_id, param, 400) from None


def find_closed_period(ledger: ServedLedger, object_id: str, as_of: datetime | int | None = None) -> IdentifiedPeriod:
    """Return the closed period with an id, also if it has been reopened. Raises ApiError."""
    identified = find_identified_period(ledger, object_id, as_of)
    if identified is None:
        raise missing_object("closed period", object_id)
    return identified


def _not_closed_error(object_id: str) -> ApiError:
    return ApiError(400, f"The period '{object_id}' is already reopened.", code=PeriodNotClosed.code, param="id")


def _sort_key(identified: IdentifiedPeriod) -> tuple[object, ...]:
    return identified.period.closed_at, closed_period_id(identified)


def preview_object(preview: PeriodPreview, ledger: ServedLedger) -> ClosedPeriodPreview:
    """Return the object of a preview."""
    totals, previous = preview.totals, preview.previous
    return ClosedPeriodPreview(
        aggregated_value=encode_decimal(totals.quantity),
        billable_difference=encode_decimal(preview.billable_difference),
        billable_value=encode_decimal(totals.billable),
        count=totals.count,
        counted_from=optional_unix(totals.counted_from),
        counted_until=optional_unix(totals.counted_until),
        customer=preview.customer,
        difference=encode_decimal(preview.difference),
        digest=totals.digest,
        end_time=to_unix(preview.end),
        groups=group_objects(totals.groups),
        last=optional_number(totals.last),
        livemode=ledger.livemode,
        meter=encode_id(METER_PREFIX, preview.event_name),
        position=totals.position,
        previous=None if previous is None else closed_period_object(identify(ledger, previous), ledger),
        revision=totals.revision,
        rules=RulesObject.from_rules(totals.rules),
        start_time=to_unix(preview.start),
        sum=encode_decimal(totals.sum),
    )
