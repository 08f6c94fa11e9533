"""Billing runs, and whether all usage of a period is billed.

A run of many customers takes longer than a request may, so runs are started on the command line or in Python.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .....domain.billing_run import ControlTotal
from ....billing_results import BillingRunView, MeterPeriodStatus, PartialClosing, UnbilledUsage
from ..api_types import (
    AsOfParameters,
    Id,
    ListAsOfParameters,
    ListObject,
    Number,
    UnixTime,
    encode_decimal,
    from_unix,
    optional_unix,
    parse_as_of,
    to_unix,
)
from ..errors import missing_object
from ..ledgers import RequestContext
from ..object_ids import METER_PREFIX, decode_id, encode_id
from ..operations import OperationRegistry
from ..pagination import list_response, paginate
from .closed_periods import require_event_name

URL = "/v1/billing/billing_runs"
BILLING_RUN_PREFIX = "mtrrun"
operations = OperationRegistry("Billing runs")
MAX_ENTRIES = 1_000
_MAX_DIGITS = 18


class BillingRunMeter(msgspec.Struct, kw_only=True):
    """The control total of a run on one meter: `count` and `sum` of the closings, and of the usage.

    `customers` is the number of closings, `closed_before` of them by an earlier call. `not_closed` customers could not
    be closed, and `late` ones owe their usage as adjustments of an earlier run.
    """

    aggregated_value: Number
    billable_value: Number
    closed_before: int
    count: int
    customers: int
    late: int
    meter: str
    not_closed: int
    sum: Number
    usage_count: int
    usage_sum: Number


class BillingRun(msgspec.Struct, kw_only=True):
    """A run that closed the period from `start_time` to `end_time` for all customers of some or all meters.

    Its closings are computed from the ledger up to `position`. A run that was interrupted has the status `started`.
    """

    id: str
    object: Literal["billing.billing_run"] = "billing.billing_run"
    closed_at: int | None
    closed_by: str | None
    created: int
    customers: int
    end_time: int
    livemode: bool
    meters: list[BillingRunMeter]
    number: int
    position: int
    start_time: int
    started_by: str | None
    status: Literal["closed", "started"]
    timezone: str


class ListBillingRuns(ListAsOfParameters, kw_only=True):
    """A list of billing runs."""


class RetrieveBillingRun(AsOfParameters, kw_only=True):
    """A billing run, now or as of an earlier time."""


class RetrievePeriodStatus(AsOfParameters, kw_only=True):
    """The period, of one meter or of all, and how many entries to list for each meter."""

    end_time: UnixTime
    limit: Annotated[int, Meta(ge=0, le=MAX_ENTRIES)] = 100
    meter: Id | None = None
    start_time: UnixTime


class UnbilledUsageObject(msgspec.Struct, kw_only=True):
    """Usage of a customer that is in no closed period and in no adjustment, and why."""

    aggregated_value: Number
    count: int
    customer: str
    end_time: int
    reason: Literal["open", "partly_closed", "gap"]
    start_time: int


class PartialClosingObject(msgspec.Struct, kw_only=True):
    """A closed period that overlaps the requested one with other bounds."""

    customer: str
    end_time: int
    start_time: int


class BillingMeterStatus(msgspec.Struct, kw_only=True):
    """The status of a period on one meter. The lists contain the first entries of those that are counted."""

    closed_customers: int
    late_customers: int
    meter: str
    open_customers: int
    partial_closing_count: int
    partial_closings: list[PartialClosingObject]
    unbilled: list[UnbilledUsageObject]
    unbilled_count: int
    unbilled_customers: int
    unbilled_events: int


class BillingPeriodStatus(msgspec.Struct, kw_only=True):
    """Whether all usage of a period is in a closed period or owed as an adjustment, up to `position`."""

    object: Literal["billing.period_status"] = "billing.period_status"
    complete: bool
    end_time: int
    livemode: bool
    meters: list[BillingMeterStatus]
    position: int
    start_time: int


@operations.get(URL)
def list_billing_runs(context: RequestContext[ListBillingRuns]) -> ListObject[BillingRun]:
    """List billing runs, newest first, also runs that were interrupted."""
    runs = context.ledger.metering.periods.runs(as_of=parse_as_of(context.params))

    def decode_cursor(object_id: str) -> tuple[int] | None:
        number = _number_of(object_id)
        return None if number is None else (number,)

    page, has_more = paginate(runs[::-1], lambda run: (run.number,), decode_cursor, context.params)
    return list_response([_to_run(run, context.ledger.livemode) for run in page], URL, has_more=has_more)


@operations.get(URL + "/{id}")
def retrieve_billing_run(context: RequestContext[RetrieveBillingRun]) -> BillingRun:
    """Retrieve a billing run with its control totals."""
    object_id = context.path_parameters["id"]
    number, runs = _number_of(object_id), context.ledger.metering.periods.runs(as_of=parse_as_of(context.params))
    run = next((run for run in runs if run.number == number), None)
    if run is None:
        raise missing_object("billing run", object_id)
    return _to_run(run, context.ledger.livemode)


@operations.get("/v1/billing/period_status", is_large=True)
def retrieve_period_status(context: RequestContext[RetrievePeriodStatus]) -> BillingPeriodStatus:
    """Retrieve whether all usage of a period is billed, and what is in no closed period and in no adjustment."""
    params, ledger = context.params, context.ledger
    meters = None if params.meter is None else [require_event_name(ledger, params.meter)]
    status = ledger.metering.periods.status(
        from_unix(params.start_time), from_unix(params.end_time), meters=meters, as_of=parse_as_of(params),
        limit=params.limit,
    )  # fmt: skip
    return BillingPeriodStatus(
        complete=status.is_complete,
        end_time=to_unix(status.end),
        livemode=ledger.livemode,
        meters=[_to_meter_status(meter) for meter in status.meters],
        position=status.position,
        start_time=to_unix(status.start),
    )


def _number_of(object_id: str) -> int | None:
    number = decode_id(BILLING_RUN_PREFIX, object_id)
    return int(number) if number is not None and number.isdecimal() and len(number) <= _MAX_DIGITS else None


def _to_run(run: BillingRunView, livemode: bool) -> BillingRun:
    return BillingRun(
        id=encode_id(BILLING_RUN_PREFIX, str(run.number)),
        closed_at=optional_unix(run.closed_at),
        closed_by=run.closed_by,
        created=to_unix(run.started_at),
        customers=run.customers,
        end_time=to_unix(run.end),
        livemode=livemode,
        meters=[_to_meter(total) for total in run.meters],
        number=run.number,
        position=run.position,
        start_time=to_unix(run.start),
        started_by=run.started_by,
        status="started" if run.closed_at is None else "closed",
        timezone=run.timezone,
    )


def _to_meter(total: ControlTotal) -> BillingRunMeter:
    return BillingRunMeter(
        aggregated_value=encode_decimal(total.quantity),
        billable_value=encode_decimal(total.billable),
        closed_before=total.closed_before,
        count=total.count,
        customers=total.customers,
        late=total.late,
        meter=encode_id(METER_PREFIX, total.event_name),
        not_closed=total.not_closed,
        sum=encode_decimal(total.sum),
        usage_count=total.usage_count,
        usage_sum=encode_decimal(total.usage_sum),
    )


def _to_meter_status(meter: MeterPeriodStatus) -> BillingMeterStatus:
    return BillingMeterStatus(
        closed_customers=meter.closed_customers,
        late_customers=meter.late_customers,
        meter=encode_id(METER_PREFIX, meter.event_name),
        open_customers=meter.open_customers,
        partial_closing_count=meter.partial_closing_count,
        partial_closings=[_to_partial_closing(closing) for closing in meter.partial_closings],
        unbilled=[_to_unbilled(usage) for usage in meter.unbilled],
        unbilled_count=meter.unbilled_count,
        unbilled_customers=meter.unbilled_customers,
        unbilled_events=meter.unbilled_events,
    )


def _to_unbilled(usage: UnbilledUsage) -> UnbilledUsageObject:
    return UnbilledUsageObject(
        aggregated_value=encode_decimal(usage.value),
        count=usage.count,
        customer=usage.customer,
        end_time=to_unix(usage.end),
        reason=usage.reason.value,
        start_time=to_unix(usage.start),
    )


def _to_partial_closing(closing: PartialClosing) -> PartialClosingObject:
    return PartialClosingObject(
        customer=closing.customer, end_time=to_unix(closing.end), start_time=to_unix(closing.start)
    )
