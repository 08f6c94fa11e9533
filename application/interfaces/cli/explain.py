"""The command `explain` and its output."""

from functools import partial
from io import StringIO
from typing import TYPE_CHECKING, Annotated

import typer

from .formatting import format_formula, format_number, format_time, format_verdict
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
from .queries import heading
from .session import open_for_query
from .terminal import say, table, without_column

if TYPE_CHECKING:
    from ...metering import Metering
    from ...results import Explanation
    from .time_ranges import TimeRange

MAX_SUMMANDS = 8
"""A sum of more values shows only its result."""

CsvOption = Annotated[bool, typer.Option("--csv", help="Print CSV, one row for each meter event.")]
ClosedOption = Annotated[bool, typer.Option("--closed", help="Explain the frozen total of this closed period.")]


def explain(
    meter: MeterArgument,
    customer: CustomerArgument = None,
    period: PeriodOption = None,
    start: FromOption = None,
    end: ToOption = None,
    timezone: TimezoneOption = "UTC",
    anchor: AnchorOption = None,
    as_of: AsOfOption = None,
    closed: ClosedOption = False,
    as_csv: CsvOption = False,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Show every meter event behind a total, and why it counts or not.

    The contributions add up to the total. The SHA-256 is that of one line 'position,occurred_at,value' for each counted
    event, in order. The CSV output has these columns.
    """
    if as_csv and as_json:
        raise typer.BadParameter("Use --csv or --json, not both.")
    if closed and (customer is None or as_of is not None):
        raise typer.BadParameter("--closed needs a CUSTOMER and excludes --as-of.")
    with open_for_query(ledger, as_json) as session:
        span, known = session.time_range(period, start, end, timezone, as_of, anchor)
        if closed and customer is not None:
            span, known = _find_closed_period(session.metering, meter, customer, span)
        explanation = session.metering.explain(meter, customer, span.start, span.end, as_of=known)
        if as_csv:
            typer.echo(_to_csv(explanation), nl=False)
        else:
            session.print(explanation, partial(show_explanation, meter, span))


def _find_closed_period(
    metering: "Metering", event_name: str, customer: str, span: "TimeRange"
) -> "tuple[TimeRange, int]":
    """Return the time range of a closed period and the position of its frozen total. Raises PeriodNotClosed."""
    from ....domain.errors import PeriodNotClosed  # noqa: PLC0415 - loads the domain
    from ....domain.text import abbreviated_repr  # noqa: PLC0415

    for period in metering.periods.list(event_name, customer, start=span.start, end=span.end):
        if (period.start, period.end) == (span.start, span.end):
            closed_at = format_time(period.closed_at.replace(microsecond=0))
            return span._replace(label=f"{span.label}, as closed at {closed_at}"), period.position
    raise PeriodNotClosed(
        f"The period from {span.start} to {span.end} of {abbreviated_repr(customer)} on {event_name!r} is not closed.",
        field="start",
        value=span.start,
    )


def _to_csv(explanation: "Explanation") -> bytes:
    """Return an explanation as CSV in UTF-8, independent of the terminal's encoding."""
    from ...queries.explanation_csv import explanation_csv  # noqa: PLC0415 - loads the domain

    file = StringIO(newline="")
    explanation_csv(explanation, file)
    return file.getvalue().encode()


def show_explanation(event_name: str, span: "TimeRange", explanation: "Explanation") -> None:
    """Print the meter events behind a total, and how they add up."""
    total, events = explanation.total, explanation.events
    say(heading(event_name, total.customer, span))
    if events:
        rows = [
            (format_time(event.occurred_at, span.timezone), event.identifier, event.customer,
             format_number(event.value), format_number(event.contribution), format_verdict(event))
            for event in events
        ]  # fmt: skip
        columns = ("occurred at", "identifier", "customer", "value", "contribution", "verdict")
        if len({event.customer for event in events}) == 1:
            columns, rows = without_column(2, columns), [without_column(2, row) for row in rows]
        table(columns, rows, right=("value", "contribution"))
    say(f"{format_number(total.count)} of {format_number(len(events))} count: {_arithmetic(explanation)}")
    say(f"rules revision {explanation.revision}, ledger position {explanation.position}")
    say(f"SHA-256 {explanation.digest}")


def _arithmetic(explanation: "Explanation") -> str:
    """Return how the total is computed, with the values if there are only a few."""
    formula = format_formula(explanation.formula, explanation.event_time_window)
    result = format_number(explanation.total.value)
    values = [
        event.contribution for event in explanation.events if event.verdict == "counted" and event.value is not None
    ]
    if explanation.formula != "sum" or not 1 < len(values) <= MAX_SUMMANDS:
        return f"{formula} = {result}"
    first, *others = values
    terms = "".join(f" {'-' if value < 0 else '+'} {format_number(abs(value))}" for value in others)
    return f"{formula} = {format_number(first)}{terms} = {result}"
