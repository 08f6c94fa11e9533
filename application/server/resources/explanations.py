"""Explanations: every meter event behind a figure."""

from datetime import datetime
from typing import Literal

import msgspec

from ..asof import KnownAsOf, as_of
from ..compound_ids import mark_of
from ..desk import Call
from ..paging import listed
from ..refusals import Refusal
from ..routes import Routes
from ..times import UnixTime, at_unix
from ..wire import Customer, Listed, Number, number
from .meters import Formula, Window
from .recorded_events import URL as EVENTS
from .recorded_events import RecordedMeterEvent, recorded_fields
from .totals import MeterTotal, TotalName, meter_total

routes = Routes("Explanations")
MOST_EVENTS, MOST_CHARACTERS = 10_000, 20_000_000
"""How many events are told at once, and how much their payloads may hold, which could be 2.5 GB otherwise."""
_EVENTS_AT_A_TIME = 500


class ExplainedMeterEvent(RecordedMeterEvent, kw_only=True):
    """A meter event behind a figure, and what it adds to it: 0 unless it counts."""

    contribution: Number


class Explanation(msgspec.Struct, kw_only=True):
    """A total and all events behind it, whose contributions add up to its `aggregated_value`.

    It knows of the ledger up to `position`, and counts by the rules of `revision`. `digest` is the SHA-256 of the
    events that counted, as in a closed period.
    """

    object: Literal["billing.meter_explanation"] = "billing.meter_explanation"
    digest: str
    event_time_window: Window | None
    events: Listed[ExplainedMeterEvent]
    formula: Formula
    livemode: bool
    meter: str
    position: int
    revision: int
    total: MeterTotal


class ExplainTotal(KnownAsOf, kw_only=True):
    """The figure to explain: one customer's, or that of all together."""

    customer: Customer | None = None
    end_time: UnixTime
    start_time: UnixTime


@routes.get("/v1/billing/meters/{id}/explanation")
def retrieve_explanation(call: Call[ExplainTotal]) -> Explanation:
    """Explain a total: with every meter event behind it, also those that don't count.

    It comes whole, so that it adds up, and is refused where there are more than 10,000 events, or more than 20,000,000
    characters in their payloads: shorter ranges, or the list of meter events, tell the same.
    """
    asked, known, meter_id, desk = call.asked, as_of(call.asked), call.path["id"], call.desk
    meter = desk.meter(meter_id, known)
    start, end = at_unix(asked.start_time), at_unix(asked.end_time)
    _check_size(call, meter.event_name, start, end)
    found = desk.metering.explain(meter.event_name, asked.customer, start, end, as_of=known)
    events = [
        ExplainedMeterEvent(
            **recorded_fields(event, meter.dimension_keys, desk), contribution=number(event.contribution)
        )
        for event in found.events
    ]
    name = TotalName(meter.event_name, asked.start_time, asked.end_time, mark_of(asked.customer or ""))
    return Explanation(
        digest=found.digest,
        event_time_window=None if found.event_time_window is None else found.event_time_window.value,
        events=listed(events, EVENTS, has_more=False),
        formula=found.formula.value,
        livemode=desk.livemode,
        meter=meter_id,
        position=found.position,
        revision=found.revision,
        total=meter_total(found.total, name, meter_id, desk.livemode),
    )


def _check_size(call: Call[ExplainTotal], event_name: str, start: datetime, end: datetime) -> None:
    """Refuse what has too many events, or too much in them, before all of them are held at once."""
    count = size = 0
    last: str | None = None
    while True:
        page = call.desk.metering.events(
            event_name, customer=call.asked.customer, start=start, end=end, as_of=as_of(call.asked),
            limit=_EVENTS_AT_A_TIME, starting_after=last,
        )  # fmt: skip
        count += len(page)
        size += sum(len(text) for event in page for item in event.payload.items() for text in item)
        if count > MOST_EVENTS or size > MOST_CHARACTERS:
            raise _too_many()
        if len(page) < _EVENTS_AT_A_TIME:
            return
        last = page[-1].identifier


def _too_many() -> Refusal:
    return Refusal(
        400, f"There are more than {MOST_EVENTS} meter events behind this figure, or more than {MOST_CHARACTERS} "
        f"characters in their payloads. Ask for shorter ranges, or list them at {EVENTS}, which tells of each whether "
        "it counts.", code="too_many_meter_events", param="end_time",
    )  # fmt: skip
