"""Event summaries: what a customer used of a meter, in windows of time."""

from datetime import UTC, datetime
from hashlib import sha256
from typing import Literal

import msgspec

from ..asof import ListKnownAsOf, as_of
from ..desk import Call
from ..paging import listed, page
from ..parameters import check_text
from ..refusals import invalid_parameter
from ..routes import Routes
from ..times import UnixTime, at_unix, unix
from ..wire import Customer, Listed, Number, number

routes = Routes("Event summaries")
_LONGEST_SECOND = 13
_ALIGNED = {None: (60, "a minute"), "hour": (3_600, "an hour"), "day": (86_400, "a day")}


class MeterEventSummary(msgspec.Struct, kw_only=True):
    """What was used in [start_time, end_time). `aggregated_value` is the exact figure, and may be negative."""

    id: str
    object: Literal["billing.meter_event_summary"] = "billing.meter_event_summary"
    aggregated_value: Number
    end_time: int
    livemode: bool
    meter: str
    start_time: int


class ListSummaries(ListKnownAsOf, kw_only=True):
    """The usage of a customer in a range of time, altogether or by hour or day in UTC."""

    customer: Customer
    start_time: UnixTime
    end_time: UnixTime
    value_grouping_window: Literal["day", "hour"] | None = None


@routes.get("/v1/billing/meters/{id}/event_summaries")
def list_event_summaries(call: Call[ListSummaries]) -> Listed[MeterEventSummary]:
    """List event summaries, newest first. Hours and days without usage are left out.

    The range is half-open and aligned to minutes, or to the window in UTC that it is grouped by.
    """
    asked, meter_id = call.asked, call.path["id"]
    meter, known = call.desk.meter(meter_id), as_of(asked)
    start, end = aligned_range(asked.start_time, asked.end_time, asked.value_grouping_window)
    customer = check_text(asked.customer, "customer")
    metering, name = call.desk.metering, meter.event_name
    if asked.value_grouping_window is None:
        totals = [metering.total(name, customer, start, end, as_of=known)]
    else:
        window = asked.value_grouping_window
        totals = metering.summaries(name, customer, start, end, window=window, as_of=known)[::-1]
    mark = sha256("\0".join((meter_id, customer)).encode()).hexdigest()[:24]
    data, has_more = page(totals, lambda total: (total.start,), lambda given: _cursor(given, mark), asked)
    return listed(
        [
            MeterEventSummary(
                id=f"mtrusg_{mark}_{unix(total.start)}_{unix(total.end)}",
                aggregated_value=number(total.value),
                start_time=unix(total.start),
                end_time=unix(total.end),
                livemode=call.desk.livemode,
                meter=meter_id,
            )
            for total in data
        ],
        f"/v1/billing/meters/{meter_id}/event_summaries",
        has_more=has_more,
    )


def aligned_range(start: int, end: int, window: str | None = None) -> tuple[datetime, datetime]:
    """A range of time, aligned as Stripe has it. Raises Refusal."""
    seconds, unit = _ALIGNED[window]
    for param, at in (("start_time", start), ("end_time", end)):
        if at % seconds:
            raise invalid_parameter(
                param, f"Invalid {param}: {at} must be aligned with the start of {unit} in UTC, as "
                f"{at - at % seconds} is.",
            )  # fmt: skip
    if start > end:
        raise invalid_parameter("start_time", "Invalid start_time: it is after end_time.")
    return at_unix(start), at_unix(end)


def _cursor(given: str, mark: str) -> tuple[datetime] | None:
    """The place of a summary of this meter and customer, which its id tells."""
    kind, _, rest = given.partition("_")
    found, _, times = rest.partition("_")
    start, _, end = times.partition("_")
    if (kind, found) != ("mtrusg", mark) or not (_is_second(start) and _is_second(end)):
        return None
    try:
        return (datetime.fromtimestamp(int(start), UTC),)
    except (ValueError, OverflowError, OSError):
        return None


def _is_second(text: str) -> bool:
    return text.lstrip("-").isdecimal() and len(text) <= _LONGEST_SECOND
