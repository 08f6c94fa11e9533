"""Event summaries: totals of a customer by window of time, and by group of dimension values."""

import re
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Literal

import msgspec

from ....results import Total
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
from ..dimension_parameters import (
    DimensionFilters,
    DimensionGroupByKeys,
    Dimensions,
    GroupKey,
    find_group_key,
    group_key,
    group_token,
    in_groups,
    to_where,
)
from ..errors import invalid_parameter
from ..ledgers import RequestContext
from ..object_ids import decode_id, encode_id
from ..operations import OperationRegistry
from ..pagination import list_response, paginate
from ..parameters import check_text

operations = OperationRegistry("Event summaries")
_SECONDS = re.compile(r"-?[0-9]{1,12}")
_ALIGNMENT = {None: (60, "a minute"), "hour": (3_600, "an hour"), "day": (86_400, "a day")}


class MeterEventSummary(msgspec.Struct, kw_only=True):
    """The total of [start_time, end_time). `aggregated_value` is exact and may be negative.

    With dimension_group_by_keys it is the total of the usage with these values of `dimensions`. If start_time or
    end_time lies inside an event time window of the meter, `counted_from` or `counted_until` is the end of that window.
    """

    id: str
    object: Literal["billing.meter_event_summary"] = "billing.meter_event_summary"
    aggregated_value: Number
    counted_from: int | msgspec.UnsetType = msgspec.UNSET
    counted_until: int | msgspec.UnsetType = msgspec.UNSET
    dimensions: Dimensions | msgspec.UnsetType = msgspec.UNSET
    end_time: int
    livemode: bool
    meter: str
    start_time: int


class ListSummaries(ListAsOfParameters, kw_only=True):
    """A customer and a range of time, as one total or by hour or day in UTC, and by dimension values."""

    customer: Customer
    dimension_filters: DimensionFilters | None = None
    dimension_group_by_keys: DimensionGroupByKeys = ()
    start_time: UnixTime
    end_time: UnixTime
    value_grouping_window: Literal["day", "hour"] | None = None


@operations.get("/v1/billing/meters/{id}/event_summaries")
def list_event_summaries(context: RequestContext[ListSummaries]) -> ListObject[MeterEventSummary]:
    """List event summaries, newest first. Hours, days and groups without usage are omitted.

    The range is half-open and must be aligned to minutes, or to the grouping window in UTC. With
    dimension_group_by_keys there is a summary for each window and group, ordered by their values.
    """
    params, meter_id, ledger = context.params, context.path_parameters["id"], context.ledger
    event_name, as_of = ledger.meter(meter_id).event_name, parse_as_of(params)
    start, end = aligned_range(params.start_time, params.end_time, params.value_grouping_window)
    customer = check_text(params.customer, "customer")
    where, group_by = to_where(params.dimension_filters), params.dimension_group_by_keys
    if params.value_grouping_window is None:
        totals = [ledger.metering.total(event_name, customer, start, end, as_of=as_of, where=where, group_by=group_by)]
    else:
        window = params.value_grouping_window
        totals = ledger.metering.summaries(
            event_name, customer, start, end, window=window, as_of=as_of, where=where, group_by=group_by
        )
    summaries, series_id = in_groups(reversed(totals), group_by), _series_id(meter_id, customer, params)
    data, has_more = paginate(
        summaries,
        _sort_key,
        lambda object_id: _decode_cursor(object_id, series_id, group_by, summaries),
        params,
        is_ascending=True,
    )
    return list_response(
        [
            MeterEventSummary(
                id=_summary_id(series_id, total),
                aggregated_value=encode_decimal(total.value),
                counted_from=msgspec.UNSET if total.counted_from is None else to_unix(total.counted_from),
                counted_until=msgspec.UNSET if total.counted_until is None else to_unix(total.counted_until),
                dimensions=total.dimensions or msgspec.UNSET,
                start_time=to_unix(total.start),
                end_time=to_unix(total.end),
                livemode=ledger.livemode,
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


_SortKey = tuple[int, GroupKey]


def _sort_key(total: Total) -> _SortKey:
    """Return the key that sorts newest windows first, and groups by their values."""
    return -to_unix(total.start), group_key(total)


def _series_id(meter_id: str, customer: str, params: ListSummaries) -> str:
    """Return what the ids of all summaries of a meter, a customer, its filters and its groups have in common."""
    parts = [meter_id, customer]
    if params.dimension_filters or params.dimension_group_by_keys:
        dimensions = params.dimension_filters, params.dimension_group_by_keys
        parts.append(msgspec.json.encode(dimensions, order="sorted").decode())
    return sha256("\0".join(parts).encode()).hexdigest()[:24]


def _summary_id(series_id: str, total: Total) -> str:
    window_id = f"mtrusg_{series_id}_{to_unix(total.start)}_{to_unix(total.end)}"
    return encode_id(window_id, group_token(total.dimensions)) if total.dimensions else window_id


def _decode_cursor(
    object_id: str, series_id: str, group_by: Sequence[str], summaries: Sequence[Total]
) -> _SortKey | None:
    """Return the sort key in the id of a summary; None if it is not of this series."""
    prefix, series, start, end = (object_id.split("_", 4) + [""] * 3)[:4]
    if (prefix, series) != ("mtrusg", series_id) or not (_SECONDS.fullmatch(start) and _SECONDS.fullmatch(end)):
        return None
    window_id = f"{prefix}_{series}_{start}_{end}"
    token = "" if object_id == window_id else decode_id(window_id, object_id)
    group = None if token is None else find_group_key(token, group_by, summaries)
    return None if group is None else (-int(start), group)
