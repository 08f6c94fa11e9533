"""The command `compare`: a total as of two points of the ledger, and the meter events between them."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ..formatting import format_count, format_difference, format_number, format_time, format_verdict
from .columns import dimension_cells, dimension_keys, dimension_titles, format_value, numeric_columns
from .option_groups import DimensionOptions, TableOptions, TimeRangeOptions, with_option_groups
from .options import DEFAULT_LEDGER, AsOfOption, CustomerArgument, LedgerOption, MeterArgument
from .queries_output import heading
from .session import open_for_query
from .tables import fields, table
from .terminal import say, without_column

if TYPE_CHECKING:
    from ...results import TotalChange
    from .time_ranges import TimeRange

SinceOption = Annotated[
    str,
    typer.Option(
        "--since",
        metavar="TIME|POSITION",
        help="The earlier point: an ISO datetime, such as that of the invoice, or a position of the ledger.",
    ),
]
OffsetOption = Annotated[int, typer.Option(min=0, metavar="NUMBER", help="Skip this many of the changed events.")]
LimitOption = Annotated[
    int, typer.Option("--limit", "-n", min=0, max=10_000, metavar="NUMBER", help="The maximum number of meter events.")
]


@with_option_groups
def compare(
    meter: MeterArgument,
    customer: CustomerArgument = None,
    *,
    since: SinceOption,
    as_of: AsOfOption = None,
    time: TimeRangeOptions,
    dimensions: DimensionOptions,
    offset: OffsetOption = 0,
    limit: LimitOption = 50,
    ledger: LedgerOption = DEFAULT_LEDGER,
    output: TableOptions,
) -> None:
    """Compare a total as of two points, and the events between.

    These are the meter events that were recorded, cancelled, superseded or restored in between. --as-of is the later
    point, now by default. The CSV output has these events.
    """
    from .time_ranges import parse_as_of  # noqa: PLC0415 - loads the domain

    with open_for_query(ledger, output.as_json) as session:
        span, known = session.time_range(time, as_of, dimensions)
        earlier = parse_as_of(since, time.timezone, session.metering.catch_up, "--since")
        assert earlier is not None
        change = session.metering.compare(
            meter, customer, span.start, span.end, since=earlier, as_of=known, where=dimensions.parse(), offset=offset,
            limit=limit,
        )  # fmt: skip
        show = partial(show_change, meter, span, offset)
        session.print(change, output.show(show, lambda tables: tables.change))


def show_change(event_name: str, span: "TimeRange", offset: int, change: "TotalChange") -> None:
    """Print both totals, their difference, what is billed unless that is the totals, and a row for each event."""
    say(heading(event_name, change.after.customer, span))
    totals = {
        "before": format_number(change.before.value),
        "after": format_number(change.after.value),
        "difference": format_difference(change.difference),
    }
    if (change.before.billable, change.after.billable) != (change.before.value, change.after.value):
        totals["billable before"] = format_number(change.before.billable)
        totals["billable after"] = format_number(change.after.billable)
    width = max(map(len, totals.values()))
    fields((name, f"{total:>{width}}") for name, total in totals.items())
    if change.events:
        others, keys = (
            ("occurred at", "identifier", "customer", "value", "before", "after"),
            dimension_keys(change.events),
        )
        columns = (*others[:3], *dimension_titles(keys, others), *others[3:])
        rows = [
            (format_time(event.occurred_at, span.timezone), event.identifier, event.customer,
             *dimension_cells(keys, event.dimensions), format_value(event),
             "not recorded" if event.before is None else str(event.before), format_verdict(event))
            for event in change.events
        ]  # fmt: skip
        if change.after.customer is not None:
            columns, rows = without_column(2, columns), [without_column(2, row) for row in rows]
        table(columns, rows, right=numeric_columns(change.events, "value"), whole=("occurred at",))
    shown = offset + len(change.events)
    more = f"; for the next ones: --offset {shown}" if shown < change.event_count and change.events else ""
    count = format_count(change.event_count, "event")
    say(f"{count} changed between the ledger positions {change.since} and {change.position}{more}")
