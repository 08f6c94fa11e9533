"""The commands `total`, `totals`, `summaries` and `events`."""

from functools import partial
from typing import Annotated

import typer

from . import queries_output
from .option_groups import DimensionOptions, TableOptions, TimeRangeOptions, with_option_groups
from .options import (
    DEFAULT_LEDGER,
    AsOfOption,
    CustomerArgument,
    GroupByOption,
    LedgerOption,
    MeterArgument,
)
from .session import open_for_query
from .similar_customers import show_similar_customers

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


@with_option_groups
def total(
    meter: MeterArgument,
    customer: CustomerArgument = None,
    *,
    time: TimeRangeOptions,
    as_of: AsOfOption = None,
    dimensions: DimensionOptions,
    group_by: GroupByOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    output: TableOptions,
) -> None:
    """Show the total of a customer or of a meter in a period."""
    with open_for_query(ledger, output.as_json) as session:
        span, known = session.time_range(time, as_of, dimensions)
        result = session.metering.total(
            meter, customer, span.start, span.end, as_of=known, where=dimensions.parse(), group_by=group_by or ()
        )
        formula = session.metering.meters.get(meter).formula if known is None else None
        session.print(
            result, output.show(partial(queries_output.show_total, meter, formula, span), lambda tables: tables.total)
        )
        if not result.count and output.is_text:
            show_similar_customers(session, meter, customer, known)


@with_option_groups
def totals(
    meter: MeterArgument,
    *,
    time: TimeRangeOptions,
    as_of: AsOfOption = None,
    dimensions: DimensionOptions,
    group_by: GroupByOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    output: TableOptions,
) -> None:
    """Show the total of each customer in a period."""
    with open_for_query(ledger, output.as_json) as session:
        span, known = session.time_range(time, as_of, dimensions)
        results = session.metering.totals(
            meter, span.start, span.end, as_of=known, where=dimensions.parse(), group_by=group_by or ()
        )
        session.print(
            results, output.show(partial(queries_output.show_totals, meter, span), lambda tables: tables.totals)
        )


@with_option_groups
def summaries(
    meter: MeterArgument,
    customer: CustomerArgument = None,
    *,
    window: WindowOption = "day",
    time: TimeRangeOptions,
    as_of: AsOfOption = None,
    dimensions: DimensionOptions,
    group_by: GroupByOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    output: TableOptions,
) -> None:
    """Show totals by minute, hour, day, month or year.

    As text, each total has a bar.
    """
    with open_for_query(ledger, output.as_json) as session:
        span, known = session.time_range(time, as_of, dimensions)
        results = session.metering.summaries(
            meter,
            customer,
            span.start,
            span.end,
            window=window,
            timezone=time.timezone,
            as_of=known,
            where=dimensions.parse(),
            group_by=group_by or (),
        )
        session.print(
            results,
            output.show(
                partial(queries_output.show_summaries, meter, customer, window, span), lambda tables: tables.totals
            ),
        )
        if not results and output.is_text:
            show_similar_customers(session, meter, customer, known)


@with_option_groups
def events(
    meter: MeterArgument,
    customer: CustomerArgument = None,
    *,
    time: TimeRangeOptions,
    as_of: AsOfOption = None,
    dimensions: DimensionOptions,
    limit: LimitOption = 50,
    starting_after: StartingAfterOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    output: TableOptions,
) -> None:
    """List the meter events of a period, page by page."""
    with open_for_query(ledger, output.as_json) as session:
        span, known = session.time_range(time, as_of, dimensions)
        results = session.metering.events(
            meter,
            customer=customer,
            start=span.start,
            end=span.end,
            as_of=known,
            limit=limit,
            starting_after=starting_after,
            where=dimensions.parse(),
        )
        session.print(
            results,
            output.show(
                partial(queries_output.show_events, meter, customer, limit, span), lambda tables: tables.events
            ),
        )
