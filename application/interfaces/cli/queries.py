"""The commands `total`, `totals`, `summaries` and `events` and their output."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from .formatting import format_count, format_number, format_time, format_verdict, format_window_start
from .options import (
    DEFAULT_LEDGER,
    AnchorOption,
    AsOfOption,
    CustomerArgument,
    FromOption,
    JsonOption,
    LedgerOption,
    MeterArgument,
    PeriodOption,
    TimezoneOption,
    ToOption,
)
from .session import Session, open_for_query
from .tables import fields, table
from .terminal import format_name, say, without_column

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal

    from ...results import MeterEventView, Total
    from .time_ranges import TimeRange

WindowOption = Annotated[
    str, typer.Option("--window", "-w", metavar="WINDOW", help="minute, hour, day, month or year.")
]
LimitOption = Annotated[
    int, typer.Option("--limit", "-n", metavar="NUMBER", help="The maximum number of meter events, 1 to 10000.")
]
StartingAfterOption = Annotated[
    str | None,
    typer.Option(metavar="IDENTIFIER", help="Continue after this meter event, the last one of the previous page."),
]


def total(
    meter: MeterArgument,
    customer: CustomerArgument = None,
    period: PeriodOption = None,
    start: FromOption = None,
    end: ToOption = None,
    timezone: TimezoneOption = "UTC",
    anchor: AnchorOption = None,
    as_of: AsOfOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Show the total of a customer or of a meter in a period."""
    with open_for_query(ledger, as_json) as session:
        span, known = session.time_range(period, start, end, timezone, as_of, anchor)
        result = session.metering.total(meter, customer, span.start, span.end, as_of=known)
        formula = session.metering.meters.get(meter).formula if known is None else None
        session.print(result, partial(show_total, meter, formula, span))
        if not result.count:
            show_similar_customers(session, meter, customer, known)


def totals(
    meter: MeterArgument,
    period: PeriodOption = None,
    start: FromOption = None,
    end: ToOption = None,
    timezone: TimezoneOption = "UTC",
    anchor: AnchorOption = None,
    as_of: AsOfOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Show the total of each customer in a period."""
    with open_for_query(ledger, as_json) as session:
        span, known = session.time_range(period, start, end, timezone, as_of, anchor)
        results = session.metering.totals(meter, span.start, span.end, as_of=known)
        session.print(results, partial(show_totals, meter, span))


def summaries(
    meter: MeterArgument,
    customer: CustomerArgument = None,
    window: WindowOption = "day",
    period: PeriodOption = None,
    start: FromOption = None,
    end: ToOption = None,
    timezone: TimezoneOption = "UTC",
    anchor: AnchorOption = None,
    as_of: AsOfOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Show totals by minute, hour, day, month or year.

    As text, each total has a bar.
    """
    with open_for_query(ledger, as_json) as session:
        span, known = session.time_range(period, start, end, timezone, as_of, anchor)
        results = session.metering.summaries(
            meter, customer, span.start, span.end, window=window, timezone=timezone, as_of=known
        )
        session.print(results, partial(show_summaries, meter, customer, window, span))
        if not results:
            show_similar_customers(session, meter, customer, known)


def events(
    meter: MeterArgument,
    customer: CustomerArgument = None,
    period: PeriodOption = None,
    start: FromOption = None,
    end: ToOption = None,
    timezone: TimezoneOption = "UTC",
    anchor: AnchorOption = None,
    as_of: AsOfOption = None,
    limit: LimitOption = 50,
    starting_after: StartingAfterOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """List the meter events of a period, page by page."""
    with open_for_query(ledger, as_json) as session:
        span, known = session.time_range(period, start, end, timezone, as_of, anchor)
        results = session.metering.events(
            meter,
            customer=customer,
            start=span.start,
            end=span.end,
            as_of=known,
            limit=limit,
            starting_after=starting_after,
        )
        session.print(results, partial(show_events, meter, customer, limit, span))


def heading(event_name: str, customer: str | None, span: "TimeRange") -> str:
    """Return the line above a result: the meter, the customer and the time range."""
    return f"{event_name}, {'all customers' if customer is None else format_name(customer)}, {span.label}"


def show_total(event_name: str, formula: str | None, span: "TimeRange", total: "Total") -> None:
    """Print all values of one total, with the formula of the first if it is known."""
    value = "value" if formula is None else f"value ({formula})"
    numbers = {value: total.value, "billable": total.billable, "sum": total.sum, "count": total.count,
               "last": total.last}  # fmt: skip
    width = max(len(format_number(number)) for number in numbers.values())
    say(heading(event_name, total.customer, span))
    fields((name, f"{format_number(number):>{width}}") for name, number in numbers.items())


def show_totals(event_name: str, span: "TimeRange", totals: Sequence["Total"]) -> None:
    """Print one line for each customer."""
    say(heading(event_name, None, span))
    if not totals:
        say("No usage.")
        return
    rows = [
        (total.customer or "", format_number(total.value), format_number(total.billable), format_number(total.count),
         format_number(total.last))
        for total in totals
    ]  # fmt: skip
    table(("customer", "value", "billable", "count", "last"), rows, right=("value", "billable", "count", "last"))
    say(format_count(len(totals), "customer"))


def show_summaries(
    event_name: str, customer: str | None, window: str, span: "TimeRange", totals: Sequence["Total"]
) -> None:
    """Print one line with a bar for each window, and "..." for windows without usage in between."""
    say(heading(event_name, customer, span))
    if not totals:
        say("No usage.")
        return
    rows: list[tuple[str, str, str]] = []
    bar_values: list[Decimal | None] = []
    previous_end = totals[0].start
    for total in totals:
        if previous_end < total.start:
            rows.append(("...", "", ""))
            bar_values.append(None)
        start = format_window_start(total.start, window, span.timezone)
        rows.append((start, format_number(total.value), format_number(total.count)))
        bar_values.append(total.value)
        previous_end = total.end
    columns = (window, "value", "count")
    table(columns, rows, right=("value", "count"), whole=(window,), bar_values=bar_values)


def show_events(
    event_name: str, customer: str | None, limit: int, span: "TimeRange", events: Sequence["MeterEventView"]
) -> None:
    """Print one line for each meter event, and the option that selects the next page."""
    say(heading(event_name, customer, span))
    if not events:
        say("No meter events.")
        return
    columns = ("occurred at", "identifier", "customer", "value", "verdict")
    rows = [
        (format_time(event.occurred_at, span.timezone), event.identifier, event.customer, format_number(event.value),
         format_verdict(event))
        for event in events
    ]  # fmt: skip
    if len({event.customer for event in events}) == 1:
        columns, rows = without_column(2, columns), [without_column(2, row) for row in rows]
    table(columns, rows, right=("value",), whole=("occurred at",))
    if len(events) == limit:
        say(f"For the next page: --starting-after {events[-1].identifier}")


def show_similar_customers(
    session: Session, event_name: str, customer: str | None, as_of: "datetime | int | None"
) -> None:
    """Print that a customer has no usage at all, with similar names of customers that have. Not part of the JSON."""
    from ....domain.timestamps import MAX_DATETIME, MIN_DATETIME  # noqa: PLC0415 - loads the domain
    from ...similar_names import suggest_names  # noqa: PLC0415

    if customer is None or session.as_json:
        return
    totals = session.metering.totals(event_name, MIN_DATETIME, MAX_DATETIME, as_of=as_of)
    customers = [total.customer for total in totals if total.customer is not None]
    if customer in customers:
        return
    say(f"There is no usage of {customer!r} on {event_name}.{suggest_names('customers', customer, customers)}")
