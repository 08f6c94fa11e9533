"""Totals: what each customer used of a meter in a range of time."""

from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from ...results import Total
from ..asof import ListKnownAsOf, as_of
from ..compound_ids import compound_id, mark_of, marked, parts_of
from ..desk import Call
from ..paging import listed, page
from ..routes import Routes
from ..times import UnixTime, at_unix
from ..wire import Listed, Number, number

routes = Routes("Totals")
METER_TOTAL = "mtrtot"
MOST_TOTALS = 10_000


class MeterTotal(msgspec.Struct, kw_only=True):
    """What a customer used in [start_time, end_time).

    `aggregated_value` is the figure by the meter's formula, exact and perhaps negative; `billable_value` what of it is
    billed, never less than 0.
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


class ListTotals(ListKnownAsOf, kw_only=True):
    """The totals of all customers in a range of time."""

    end_time: UnixTime
    limit: Annotated[int, Meta(ge=1, le=MOST_TOTALS)] = 10
    start_time: UnixTime


class TotalName(NamedTuple):
    """What tells one total from all others."""

    event_name: str
    start: int
    end: int
    mark: str


@routes.get("/v1/billing/meters/{id}/totals")
def list_totals(call: Call[ListTotals]) -> Listed[MeterTotal]:
    """List the totals of all customers with usage that counts, ordered by customer.

    All are made for each page of them: ask for up to 10,000 at a time, and with as_of_position for pages that agree.
    """
    asked, known, meter_id = call.asked, as_of(call.asked), call.path["id"]
    meter = call.desk.meter(meter_id, known)
    start, end = at_unix(asked.start_time), at_unix(asked.end_time)
    totals = call.desk.metering.totals(meter.event_name, start, end, as_of=known)
    asked_of = (meter.event_name, asked.start_time, asked.end_time)

    def cursor(given: str) -> tuple[str] | None:
        name = parts_of(METER_TOTAL, given, TotalName)
        if name is None or name[:3] != asked_of:
            return None
        named = marked(name.mark)
        found = (total.customer for total in totals if total.customer and mark_of(total.customer) == name.mark)
        customer = named if named is not None else next(found, None)
        return None if customer is None else (customer,)

    data, has_more = page(totals, lambda total: (total.customer,), cursor, asked, rises=True)
    return listed(
        [
            meter_total(total, TotalName(*asked_of, mark_of(total.customer or "")), meter_id, call.desk.livemode)
            for total in data
        ],
        f"/v1/billing/meters/{meter_id}/totals",
        has_more=has_more,
    )


def meter_total(total: Total, name: TotalName, meter_id: str, livemode: bool) -> MeterTotal:
    """A total as it is answered."""
    return MeterTotal(
        id=compound_id(METER_TOTAL, name),
        aggregated_value=number(total.value),
        billable_value=number(total.billable),
        count=total.count,
        customer=total.customer,
        end_time=name.end,
        last=None if total.last is None else number(total.last),
        livemode=livemode,
        meter=meter_id,
        start_time=name.start,
        sum=number(total.sum),
    )
