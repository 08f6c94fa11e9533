"""The command `explain` and its output."""

import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from decimal import Decimal
from functools import partial
from itertools import chain, islice
from textwrap import indent
from typing import TYPE_CHECKING, Annotated

import typer

from ..formatting import (
    format_formula,
    format_number,
    format_time,
    format_verdict,
)
from .archive_sql import ExplainDialectOption, dialect_of_ledger, print_document
from .columns import dimension_cells, dimension_titles, format_value, numeric_columns
from .option_groups import DimensionOptions, TimeRangeOptions, with_option_groups
from .options import (
    DEFAULT_LEDGER,
    AsOfOption,
    CustomerArgument,
    GroupByOption,
    JsonOption,
    LedgerOption,
    MeterArgument,
)
from .queries_output import heading, show_counted_range, show_groups
from .session import Session, json_text, open_for_query
from .similar_customers import show_similar_customers
from .tables import SAMPLE_ROWS, table
from .terminal import Advance, progress_bar, say, without_column

if TYPE_CHECKING:
    from datetime import datetime

    from ...archive.sql.document import SqlDocument
    from ...metering import Metering
    from ...queries.dimension_query import Where
    from ...results import ExplainedEvent, ExplanationPage, ExplanationStream
    from .time_ranges import TimeRange

_BATCH_EVENTS = 1_000
_MAX_SHOWN, MAX_PAGED_EVENTS = 100, 100_000
"""How many events are shown without --limit, and of how many some can be selected: all are read at once."""
MAX_SUMMANDS = 8
"""A sum of more values shows only its result."""
_COLUMNS = ("occurred at", "identifier", "customer", "value", "contribution", "verdict", "revision")

CsvOption = Annotated[bool, typer.Option("--csv", help="Print CSV, one row for each meter event.")]
SqlOption = Annotated[
    bool, typer.Option("--sql", help="Print SQL that computes the total from the stored events, see 'archive sql'.")
]
LinesOption = Annotated[
    bool, typer.Option("--lines", help="With --sql: print SQL for the lines of the SHA-256 instead of the total.")
]
VerdictOption = Annotated[
    list[str] | None,
    typer.Option(
        "--verdict",
        metavar="VERDICT",
        help="Only events with this verdict: counted, cancelled, superseded or filtered. Repeatable.",
    ),
]
OffsetOption = Annotated[int, typer.Option(min=0, metavar="NUMBER", help="Skip this many of the events.")]
LimitOption = Annotated[
    int | None,
    typer.Option("--limit", "-n", min=0, max=10_000, metavar="NUMBER", help="The maximum number of events to show."),
]
ClosedOption = Annotated[bool, typer.Option("--closed", help="Explain the frozen total of this closed period.")]


@with_option_groups
def explain(
    meter: MeterArgument,
    customer: CustomerArgument = None,
    *,
    time: TimeRangeOptions,
    as_of: AsOfOption = None,
    dimensions: DimensionOptions,
    group_by: GroupByOption = None,
    closed: ClosedOption = False,
    verdict: VerdictOption = None,
    offset: OffsetOption = 0,
    limit: LimitOption = None,
    as_csv: CsvOption = False,
    as_sql: SqlOption = False,
    lines: LinesOption = False,
    dialect: ExplainDialectOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Show every meter event behind a total, and its verdict.

    The contributions add up to the total. The SHA-256 is that of one line 'position,occurred_at,value' for each counted
    event, in order; under unique_count the value is JSON text. The CSV output has these columns.

    Select some of the events by --verdict, --offset and --limit. The total, the SHA-256 and the counts are those of
    all events, of which there may be up to 100,000 then.
    """
    is_page, is_text = verdict is not None or offset or limit is not None, not (as_csv or as_json)
    if is_page and (as_sql or group_by):
        raise typer.BadParameter("--verdict, --offset and --limit exclude --sql and --group-by.")
    _check_options(
        as_csv=as_csv, as_json=as_json, as_sql=as_sql, lines=lines, dialect=dialect, has_groups=bool(group_by)
    )
    if closed and (customer is None or as_of is not None):
        raise typer.BadParameter("--closed needs a CUSTOMER and excludes --as-of.")
    with open_for_query(ledger, as_json) as session:
        span, known = session.time_range(time, as_of, dimensions)
        if as_sql:
            document = _sql_of(
                session, meter, customer, span, known, dialect=dialect or dialect_of_ledger(ledger), lines=lines,
                where=dimensions.parse(), group_by=group_by or (), closed=closed,
            )  # fmt: skip
            print_document(session, document)
            return
        if closed and customer is not None:
            span = _closed_label(session, meter, customer, span)
        if is_page:
            page = session.metering.explain_page(
                meter, customer, span.start, span.end, as_of=known, where=dimensions.parse(), closed=closed,
                verdicts=verdict, offset=offset, limit=_MAX_SHOWN if limit is None else limit,
                max_events=MAX_PAGED_EVENTS,
            )  # fmt: skip
            if page is None:
                raise typer.BadParameter(f"The total has more than {MAX_PAGED_EVENTS:,} events. Use a shorter period.")
            session.print(page, partial(_show_page_csv if as_csv else show_page, meter, span, offset))
            event_count = page.event_count
        else:
            with open_explanation(
                session.metering, meter, customer, span, known, dimensions.parse(), group_by or (), closed=closed
            ) as explanation:
                show = _print_csv if as_csv else _print_json if as_json else partial(show_explanation, meter, span)
                show(explanation)
            event_count = explanation.event_count
        if is_text and not event_count:
            show_similar_customers(session, meter, customer, known)


def _sql_of(
    session: Session, meter: str, customer: str | None, span: "TimeRange", known: "datetime | int | None", *,
    dialect: str, lines: bool, where: "Where | None", group_by: "Sequence[str]", closed: bool,
) -> "SqlDocument":  # fmt: skip
    """Return the SQL for a total, or for the lines of its SHA-256."""
    start, end, sql = span.start, span.end, session.metering.sql
    if lines:
        return sql.digest_lines(
            meter, customer, start, end, dialect=dialect, as_of=known, where=where, closed=closed
        )  # fmt: skip
    return sql.total(
        meter, customer, start, end, dialect=dialect, as_of=known, where=where, group_by=group_by, closed=closed
    )


def _check_options(
    *, as_csv: bool, as_json: bool, as_sql: bool, lines: bool, dialect: str | None, has_groups: bool
) -> None:
    """Raise BadParameter for options that exclude each other."""
    for is_wrong, message in (
        (as_csv and as_json, "Use --csv or --json, not both."),
        (as_csv and as_sql, "Use --csv or --sql, not both."),
        (as_csv and has_groups, "--csv prints meter events and no groups; leave out --group-by."),
        (lines and has_groups, "--lines prints meter events and no groups; leave out --group-by."),
        ((dialect is not None or lines) and not as_sql, "--dialect and --lines need --sql."),
    ):
        if is_wrong:
            raise typer.BadParameter(message)


@contextmanager
def open_explanation(
    metering: "Metering",
    event_name: str,
    customer: str | None,
    span: "TimeRange",
    as_of: "datetime | int | None" = None,
    where: "Where | None" = None,
    group_by: Sequence[str] = (),
    *,
    closed: bool = False,
) -> "Generator[ExplanationStream]":
    """Open an explanation, with progress bars for the total and, unless the events scroll by, for the events."""
    with ExitStack() as stack:
        with progress_bar("counting", estimate=False) as advance:

            def show_count(count: int) -> None:
                advance(count, None, f"{count:,} events")

            explanation = stack.enter_context(
                metering.open_explanation(
                    event_name,
                    customer,
                    span.start,
                    span.end,
                    as_of=as_of,
                    where=where,
                    group_by=group_by,
                    closed=closed,
                    progress=show_count,
                )
            )
        if not sys.stdout.isatty():
            advance_events = stack.enter_context(progress_bar("explaining"))
            events = _with_progress(explanation.events, explanation.event_count, advance_events)
            explanation = replace(explanation, events=events)
        yield explanation


def _with_progress(events: "Iterable[ExplainedEvent]", count: int, advance: Advance) -> "Iterator[ExplainedEvent]":
    for number, event in enumerate(events):
        if number % _BATCH_EVENTS == 0:
            advance(number, count)
        yield event


def _closed_label(session: Session, event_name: str, customer: str, span: "TimeRange") -> "TimeRange":
    """Return a time range, with the time of the closing in its label if it is a closed period."""
    for period in session.metering.periods.list(event_name, customer, start=span.start, end=span.end):
        if (period.start, period.end) == (span.start, span.end):
            closed_at = format_time(period.closed_at.replace(microsecond=0))
            return span._replace(label=f"{span.label}, as closed at {closed_at}")
    return span


def _print_csv(explanation: "ExplanationStream | ExplanationPage") -> None:
    """Print an explanation as CSV in UTF-8, independent of the terminal's encoding."""
    from ...queries.explanation_csv import explanation_csv  # noqa: PLC0415 - loads the domain
    from .csv_output import csv_stdout  # noqa: PLC0415

    file = csv_stdout()
    explanation_csv(explanation, file)
    file.flush()


def _show_page_csv(_event_name: str, _span: "TimeRange", _offset: int, page: "ExplanationPage") -> None:
    _print_csv(page)


def show_page(event_name: str, span: "TimeRange", offset: int, page: "ExplanationPage") -> None:
    """Print some of the meter events behind a total, and how many there are of each verdict."""
    say(heading(event_name, page.total.customer, span))
    show_counted_range(page.total, page.total, span.timezone)
    if page.events:
        keys = page.dimension_keys
        columns = (*_COLUMNS[:3], *dimension_titles(keys, _COLUMNS), *_COLUMNS[3:])
        rows = [_row(event, keys, span) for event in page.events]
        if page.total.customer is not None:
            columns, rows = without_column(2, columns), [without_column(2, row) for row in rows]
        numbers = numeric_columns(page.events, "value", "contribution", "revision")
        table(columns, rows, right=numbers, whole=("occurred at",))
    counts = ", ".join(f"{format_number(count)} {verdict}" for verdict, count in page.verdict_counts.items() if count)
    value = format_number(page.total.value)
    say(f"{format_formula(page.formula, page.event_time_window)} = {value}: {counts or 'no events'}")
    last = offset + len(page.events)
    shown = f"{format_number(offset + 1)} to {format_number(last)}" if page.events else "none"
    more = f"; for the next ones: --offset {last}" if page.events and last < page.matching_count else ""
    say(f"shown: {shown} of {format_number(page.matching_count)}{more}")
    say(f"rules revision {page.revision}, ledger position {page.position}")
    say(f"SHA-256 {page.digest}")


def _print_json(explanation: "ExplanationStream") -> None:
    """Print an explanation as one JSON document, event by event."""
    names = ("total", "formula", "event_time_window", "revision", "position", "digest", "dimension_keys")
    document: dict[str, object] = {name: getattr(explanation, name) for name in names}
    head, tail = json_text({**document, "events": ()}).rsplit("[]", 1)
    separator = f"{head}["
    while batch := list(islice(explanation.events, _BATCH_EVENTS)):
        events = ",".join(f"\n{indent(json_text(event), '    ')}" for event in batch)
        typer.echo(separator + events, nl=False)
        separator = ","
    typer.echo(f"\n  ]{tail}" if explanation.event_count else f"{head}[]{tail}")


def show_explanation(event_name: str, span: "TimeRange", explanation: "ExplanationStream") -> None:
    """Print the meter events behind a total, and how they add up."""
    total = explanation.total
    say(heading(event_name, total.customer, span))
    show_counted_range(total, total, span.timezone)
    events, summands = iter(explanation.events), _Summands()
    first_events = list(islice(events, SAMPLE_ROWS))
    if first_events:
        keys = explanation.dimension_keys
        columns = (*_COLUMNS[:3], *dimension_titles(keys, _COLUMNS), *_COLUMNS[3:])
        rows = (_row(event, keys, span) for event in summands.collect(chain(first_events, events)))
        if first_events[0].revision == explanation.revision:  # that of all events: they are in order of time
            columns, rows = columns[:-1], (row[:-1] for row in rows)
        are_all = explanation.event_count == len(first_events)
        if total.customer is not None or (are_all and len({event.customer for event in first_events}) == 1):
            columns, rows = without_column(2, columns), (without_column(2, row) for row in rows)
        numbers = numeric_columns(first_events, "value", "contribution", "revision")
        table(columns, rows, right=numbers, whole=("occurred at",))
    count = format_number(explanation.event_count)
    say(f"{format_number(total.count)} of {count} count: {_arithmetic(explanation, summands.values)}")
    if total.groups:
        say()
        show_groups(total)
        say()
    say(f"rules revision {explanation.revision}, ledger position {explanation.position}")
    say(f"SHA-256 {explanation.digest}")


def _row(event: "ExplainedEvent", dimension_keys: Sequence[str], span: "TimeRange") -> tuple[str, ...]:
    return (
        format_time(event.occurred_at, span.timezone), event.identifier, event.customer,
        *dimension_cells(dimension_keys, event.dimensions), format_value(event), format_number(event.contribution),
        format_verdict(event), str(event.revision),
    )  # fmt: skip


class _Summands:
    """The contributions of the first counted meter events that have a value: one more than a sum shows."""

    def __init__(self) -> None:
        self.values: list[Decimal] = []

    def collect(self, events: "Iterable[ExplainedEvent]") -> "Iterator[ExplainedEvent]":
        """Yield the events."""
        for event in events:
            if len(self.values) <= MAX_SUMMANDS and event.verdict == "counted" and event.value is not None:
                self.values.append(event.contribution)
            yield event


def _arithmetic(explanation: "ExplanationStream", values: Sequence[Decimal]) -> str:
    """Return how the total is computed, with the values if there are only a few."""
    formula = format_formula(explanation.formula, explanation.event_time_window)
    result = format_number(explanation.total.value)
    if explanation.formula != "sum" or not 1 < len(values) <= MAX_SUMMANDS:
        return f"{formula} = {result}"
    first, *others = values
    terms = "".join(f" {'-' if value < 0 else '+'} {format_number(abs(value))}" for value in others)
    return f"{formula} = {format_number(first)}{terms} = {result}"
