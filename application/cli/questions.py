"""The commands that ask: what was used, and the meter events."""

from functools import partial
from typing import Annotated

import typer

from . import tables
from .options import DEFAULT_LEDGER, Anchor, AsJson, AsOf, Customer, From, Ledger, Meter, Period, Timezone, To
from .session import asking

Window = Annotated[str, typer.Option("--window", "-w", metavar="WINDOW", help="minute, hour, day, month or year.")]
Limit = Annotated[int, typer.Option("--limit", "-n", metavar="NUMBER", help="At most so many, 1 to 10000.")]
StartingAfter = Annotated[
    str | None, typer.Option(metavar="IDENTIFIER", help="Go on after this one, the last of the page before.")
]


def total(
    meter: Meter,
    customer: Customer = None,
    period: Period = None,
    start: From = None,
    end: To = None,
    timezone: Timezone = "UTC",
    anchor: Anchor = None,
    as_of: AsOf = None,
    ledger: Ledger = DEFAULT_LEDGER,
    as_json: AsJson = False,
) -> None:
    """What a customer, or the whole meter, used in a period."""
    with asking(ledger, as_json) as session:
        span, known = session.asked(period, start, end, timezone, as_of, anchor)
        answer = session.metering.total(meter, customer, span.start, span.end, as_of=known)
        formula = session.metering.meter(meter).formula if known is None else None
        session.answer(answer, partial(tables.show_total, meter, formula, span))


def totals(
    meter: Meter,
    period: Period = None,
    start: From = None,
    end: To = None,
    timezone: Timezone = "UTC",
    anchor: Anchor = None,
    as_of: AsOf = None,
    ledger: Ledger = DEFAULT_LEDGER,
    as_json: AsJson = False,
) -> None:
    """What each customer used in a period."""
    with asking(ledger, as_json) as session:
        span, known = session.asked(period, start, end, timezone, as_of, anchor)
        answer = session.metering.totals(meter, span.start, span.end, as_of=known)
        session.answer(answer, partial(tables.show_totals, meter, span))


def summaries(
    meter: Meter,
    customer: Customer = None,
    window: Window = "day",
    period: Period = None,
    start: From = None,
    end: To = None,
    timezone: Timezone = "UTC",
    anchor: Anchor = None,
    as_of: AsOf = None,
    ledger: Ledger = DEFAULT_LEDGER,
    as_json: AsJson = False,
) -> None:
    """Usage by minute, hour, day, month or year, with a bar chart."""
    with asking(ledger, as_json) as session:
        span, known = session.asked(period, start, end, timezone, as_of, anchor)
        answer = session.metering.summaries(
            meter, customer, span.start, span.end, window=window, timezone=timezone, as_of=known
        )
        session.answer(answer, partial(tables.show_usage, meter, customer, window, span))


def events(
    meter: Meter,
    customer: Customer = None,
    period: Period = None,
    start: From = None,
    end: To = None,
    timezone: Timezone = "UTC",
    anchor: Anchor = None,
    as_of: AsOf = None,
    limit: Limit = 50,
    starting_after: StartingAfter = None,
    ledger: Ledger = DEFAULT_LEDGER,
    as_json: AsJson = False,
) -> None:
    """The meter events of a period, page by page."""
    with asking(ledger, as_json) as session:
        span, known = session.asked(period, start, end, timezone, as_of, anchor)
        answer = session.metering.events(
            meter,
            customer=customer,
            start=span.start,
            end=span.end,
            as_of=known,
            limit=limit,
            starting_after=starting_after,
        )
        session.answer(answer, partial(tables.show_events, meter, customer, limit, span))
