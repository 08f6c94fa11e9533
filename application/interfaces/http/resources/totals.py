"""Totals of all customers of a meter in a range of time."""

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from ....results import Total
from ..api_types import (
    ListAsOfParameters,
    ListObject,
    Number,
    UnixTime,
    encode,
    encode_decimal,
    from_unix,
    optional_number,
    optional_unix,
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
from ..ledgers import RequestContext, ServedLedger
from ..object_ids import METER_PREFIX, decode_compound_id, encode_compound_id, encode_id, name_from_token, name_token
from ..operations import OperationRegistry
from ..pagination import limit_page_size, list_response, paginate

operations = OperationRegistry("Totals")
METER_TOTAL_PREFIX = "mtrtot"
MAX_TOTALS = 10_000


class MeterTotal(msgspec.Struct, kw_only=True):
    """The total of a customer in [start_time, end_time), or the part of it with these values of `dimensions`.

    `aggregated_value` is the total by the meter's formula, exact and possibly negative; `billable_value` is the part
    that is billed: at least 0, and rounded by the rules. If start_time or end_time lies inside an event time window of
    the meter, `counted_from` or `counted_until` is the end of that window; otherwise they are null.
    """

    id: str
    object: Literal["billing.meter_total"] = "billing.meter_total"
    aggregated_value: Number
    billable_value: Number
    count: int
    counted_from: int | None
    counted_until: int | None
    customer: str | None
    dimensions: Dimensions | None
    end_time: int
    last: Number | None
    livemode: bool
    max: Number | None
    meter: str
    min: Number | None
    start_time: int
    sum: Number


class ListTotals(ListAsOfParameters, kw_only=True):
    """The range of time of the totals, and the dimensions that they are filtered and grouped by."""

    dimension_filters: DimensionFilters | None = None
    dimension_group_by_keys: DimensionGroupByKeys = ()
    end_time: UnixTime
    limit: Annotated[int, Meta(ge=1, le=MAX_TOTALS)] = 10
    start_time: UnixTime


class TotalKey(NamedTuple):
    """The key of a total. `group_token` is empty if the total is not grouped."""

    event_name: str
    start: int
    end: int
    customer_token: str
    group_token: str


@operations.get("/v1/billing/meters/{id}/totals", is_large=True)
def list_totals(context: RequestContext[ListTotals]) -> ListObject[MeterTotal]:
    """List the totals of all customers with usage that counts, ordered by customer.

    With dimension_group_by_keys, a customer has a total for each group of dimension values. Each page computes all
    totals: use a limit of up to 10,000, and as_of_position for consistent pages.
    """
    params, as_of, meter_id = context.params, parse_as_of(context.params), context.path_parameters["id"]
    event_name, group_by = context.ledger.meter(meter_id, as_of).event_name, params.dimension_group_by_keys
    start, end, where = from_unix(params.start_time), from_unix(params.end_time), to_where(params.dimension_filters)
    all_totals = context.ledger.metering.totals(event_name, start, end, as_of=as_of, where=where, group_by=group_by)
    totals = in_groups((total for total in all_totals if context.may_read(total.customer)), group_by)

    def decode_cursor(object_id: str) -> _SortKey | None:
        key = decode_compound_id(METER_TOTAL_PREFIX, object_id, TotalKey)
        if key is None or key[:3] != (event_name, params.start_time, params.end_time):
            return None
        return _find_sort_key(key, group_by, totals)

    data, has_more = paginate(totals, _sort_key, decode_cursor, params, is_ascending=True)
    page, is_cut = limit_page_size(data, params, lambda total: len(encode((total.customer, total.dimensions))))
    return list_response(
        [meter_total(total, event_name, context.ledger) for total in page],
        f"/v1/billing/meters/{meter_id}/totals",
        has_more=has_more or is_cut,
    )


def meter_total(total: Total, event_name: str, ledger: ServedLedger) -> MeterTotal:
    """Return the object of a total."""
    start_time, end_time = to_unix(total.start), to_unix(total.end)
    key = TotalKey(event_name, start_time, end_time, name_token(total.customer or ""), group_token(total.dimensions))
    return MeterTotal(
        id=encode_compound_id(METER_TOTAL_PREFIX, key),
        aggregated_value=encode_decimal(total.value),
        billable_value=encode_decimal(total.billable),
        count=total.count,
        counted_from=optional_unix(total.counted_from),
        counted_until=optional_unix(total.counted_until),
        customer=total.customer,
        dimensions=total.dimensions or None,
        end_time=end_time,
        last=optional_number(total.last),
        livemode=ledger.livemode,
        max=optional_number(total.max),
        meter=encode_id(METER_PREFIX, event_name),
        min=optional_number(total.min),
        start_time=start_time,
        sum=encode_decimal(total.sum),
    )


_SortKey = tuple[str | None, GroupKey]


def _sort_key(total: Total) -> _SortKey:
    return total.customer, group_key(total)


def _find_sort_key(key: TotalKey, group_by: Sequence[str], totals: Sequence[Total]) -> _SortKey | None:
    """Return the sort key of the total with a key: a digest in the key is looked up in `totals`."""
    customer = name_from_token(key.customer_token)
    if customer is None:
        with_token = (total.customer for total in totals if name_token(total.customer or "") == key.customer_token)
        customer = next(with_token, None)
    group = find_group_key(key.group_token, group_by, totals)
    return None if customer is None or group is None else (customer, group)
