"""Totals of all customers of a meter in a range of time."""

from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from ....results import Total
from ..api_types import ListAsOfParameters, ListObject, Number, UnixTime, encode, encode_decimal, from_unix, parse_as_of
from ..ledgers import RequestContext
from ..object_ids import customer_from_token, customer_token, decode_compound_id, encode_compound_id
from ..operations import OperationRegistry
from ..pagination import limit_page_size, list_response, paginate

operations = OperationRegistry("Totals")
METER_TOTAL_PREFIX = "mtrtot"
MAX_TOTALS = 10_000


class MeterTotal(msgspec.Struct, kw_only=True):
    """The total of a customer in [start_time, end_time).

    `aggregated_value` is the total by the meter's formula, exact and possibly negative; `billable_value` is the part
    that is billed, at least 0.
    """

    id: str
    object: Literal["billing.meter_total"] = "billing.meter_total"
    aggregated_value: Number
    billable_value: Number
    count: int
    customer: str | None
    end_time: int
    last: Number | None
    livemode: bool
    meter: str
    start_time: int
    sum: Number


class ListTotals(ListAsOfParameters, kw_only=True):
    """The range of time of the totals."""

    end_time: UnixTime
    limit: Annotated[int, Meta(ge=1, le=MAX_TOTALS)] = 10
    start_time: UnixTime


class TotalKey(NamedTuple):
    """The key of a total."""

    event_name: str
    start: int
    end: int
    customer_token: str


@operations.get("/v1/billing/meters/{id}/totals", is_large=True)
def list_totals(context: RequestContext[ListTotals]) -> ListObject[MeterTotal]:
    """List the totals of all customers with usage that counts, ordered by customer.

    Each page computes all totals: use a limit of up to 10,000, and as_of_position for consistent pages.
    """
    params, as_of, meter_id = context.params, parse_as_of(context.params), context.path_parameters["id"]
    meter = context.ledger.meter(meter_id, as_of)
    start, end = from_unix(params.start_time), from_unix(params.end_time)
    totals = context.ledger.metering.totals(meter.event_name, start, end, as_of=as_of)
    key_prefix = (meter.event_name, params.start_time, params.end_time)

    def decode_cursor(object_id: str) -> tuple[str] | None:
        key = decode_compound_id(METER_TOTAL_PREFIX, object_id, TotalKey)
        if key is None or key[:3] != key_prefix:
            return None
        named_customer = customer_from_token(key.customer_token)
        matching_customers = (
            total.customer
            for total in totals
            if total.customer and customer_token(total.customer) == key.customer_token
        )
        customer = named_customer if named_customer is not None else next(matching_customers, None)
        return None if customer is None else (customer,)

    data, has_more = paginate(totals, lambda total: (total.customer,), decode_cursor, params, is_ascending=True)
    page, is_cut = limit_page_size(data, params, lambda total: len(encode(total.customer)))
    return list_response(
        [
            meter_total(
                total, TotalKey(*key_prefix, customer_token(total.customer or "")), meter_id, context.ledger.livemode
            )
            for total in page
        ],
        f"/v1/billing/meters/{meter_id}/totals",
        has_more=has_more or is_cut,
    )


def meter_total(total: Total, key: TotalKey, meter_id: str, livemode: bool) -> MeterTotal:
    """Return the object of a total."""
    return MeterTotal(
        id=encode_compound_id(METER_TOTAL_PREFIX, key),
        aggregated_value=encode_decimal(total.value),
        billable_value=encode_decimal(total.billable),
        count=total.count,
        customer=total.customer,
        end_time=key.end,
        last=None if total.last is None else encode_decimal(total.last),
        livemode=livemode,
        meter=meter_id,
        start_time=key.start,
        sum=encode_decimal(total.sum),
    )
