"""Event summaries: totals of a customer by window of time."""

from datetime import UTC, datetime
from hashlib import sha256
from typing import Literal

import msgspec

from ..api_types import (
    Customer,
    ListAsOfParameters,
    ListObject,
    Number,
    UnixTime,
    encode_decimal,
    from_unix,
    parse_as_of,
    to_unix,
)
from ..errors import invalid_parameter
from ..ledgers import RequestContext
from ..operations import OperationRegistry
from ..pagination import list_response, paginate
from ..parameters import check_text

operations = OperationRegistry("Event summaries")
_MAX_SECONDS_LENGTH = 13
_ALIGNMENT = {None: (60, "a minute"), "hour": (3_600, "an hour"), "day": (86_400, "a day")}


class MeterEventSummary(msgspec.Struct, kw_only=True):
    """The total of [start_time, end_time). `aggregated_value` is exact and may be negative."""

    id: str
    object: Literal["billing.meter_event_summary"] = "billing.meter_event_summary"
    aggregated_value: Number
    end_time: int
    livemode: bool
    meter: str
    start_time: int


class ListSummaries(ListAsOfParameters, kw_only=True):
    """A customer and a range of time, as one total or by hour or day in UTC."""

    customer: Customer
    start_time: UnixTime
    end_time: UnixTime
    value_grouping_window: Literal["day", "hour"] | None = None


@operations.get("/v1/billing/meters/{id}/event_summaries")
def list_event_summaries(context: RequestContext[ListSummaries]) -> ListObject[MeterEventSummary]:
    """List event summaries, newest first. Hours and days without usage are omitted.

    The range is half-open and must be aligned to minutes, or to the grouping window in UTC.
    """
    params, meter_id = context.params, context.path_parameters["id"]
    meter, as_of = context.ledger.meter(meter_id), parse_as_of(params)
    start, end = aligned_range(params.start_time, params.end_time, params.value_grouping_window)
    customer = check_text(params.customer, "customer")
    metering, event_name = context.ledger.metering, meter.event_name
    if params.value_grouping_window is None:
        totals = [metering.total(event_name, customer, start, end, as_of=as_of)]
    else:
        window = params.value_grouping_window
        totals = metering.summaries(event_name, customer, start, end, window=window, as_of=as_of)[::-1]
    series_id = sha256("\0".join((meter_id, customer)).encode()).hexdigest()[:24]
    data, has_more = paginate(
        totals, lambda total: (total.start,), lambda object_id: _decode_cursor(object_id, series_id), params
    )
    return list_response(
        [
            MeterEventSummary(
                id=f"mtrusg_{series_id}_{to_unix(total.start)}_{to_unix(total.end)}",
                aggregated_value=encode_decimal(total.value),
                start_time=to_unix(total.start),
                end_time=to_unix(total.end),
                livemode=context.ledger.livemode,
                meter=meter_id,
            )
            for total in data
        ],
        f"/v1/billing/meters/{meter_id}/event_summaries",
        has_more=has_more,
    )


def aligned_range(start: int, end: int, window: str | None = None) -> tuple[datetime, datetime]:
    """Return a time range. Raises ApiError if it is not aligned as Stripe requires."""
    seconds, unit = _ALIGNMENT[window]
    for param, value in (("start_time", start), ("end_time", end)):
        if value % seconds:
            raise invalid_parameter(
                param, f"Invalid {param}: {value} must be aligned with the start of {unit} in UTC, for example "
                f"{value - value % seconds}.",
            )  # fmt: skip
    if start > end:
        raise invalid_parameter("start_time", "Invalid start_time: it must not be after end_time.")
    return from_unix(start), from_unix(end)


def _decode_cursor(object_id: str, series_id: str) -> tuple[datetime] | None:
    """Return the start in the id of a summary; None if it is not of this meter and customer."""
    prefix, _, rest = object_id.partition("_")
    series, _, bounds = rest.partition("_")
    start, _, end = bounds.partition("_")
    if (prefix, series) != ("mtrusg", series_id) or not (_is_unix_seconds(start) and _is_unix_seconds(end)):
        return None
    try:
        return (datetime.fromtimestamp(int(start), UTC),)
    except (ValueError, OverflowError, OSError):
        return None


def _is_unix_seconds(text: str) -> bool:
    return text.lstrip("-").isdecimal() and len(text) <= _MAX_SECONDS_LENGTH
