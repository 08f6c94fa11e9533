"""The command `history`: who did what, when, how and why."""

from typing import TYPE_CHECKING, Annotated

import typer

from ..formatting import format_author, format_time
from ..history_text import format_effect, format_via
from .option_groups import ClosedPeriodOptions, TableOptions, with_option_groups
from .options import DEFAULT_LEDGER, LedgerOption
from .session import open_for_query
from .tables import table
from .terminal import say

if TYPE_CHECKING:
    from ...history_results import HistoryPage

MeterOption = Annotated[
    str | None,
    typer.Option("--meter", metavar="METER", help="The changes of this meter, its closed periods and cancellations."),
]
CustomerOption = Annotated[
    str | None,
    typer.Option("--customer", metavar="CUSTOMER", help="With --meter: only the closed periods of this customer."),
]
EventOption = Annotated[
    str | None, typer.Option("--event", metavar="IDENTIFIER", help="A meter event and its cancellations.")
]
KeyOption = Annotated[str | None, typer.Option("--key", metavar="ID", help="An access key.")]
AuthorOption = Annotated[
    str | None,
    typer.Option("--author", metavar="NAME", help="Only what this author did, or what was done on its behalf."),
]
RecordedFromOption = Annotated[
    str | None, typer.Option(metavar="TIME", help="Recorded at this time or later: an ISO date or datetime.")
]
RecordedUntilOption = Annotated[str | None, typer.Option(metavar="TIME", help="Recorded before this time.")]
AfterOption = Annotated[int, typer.Option(min=0, metavar="POSITION", help="Only what was recorded after a position.")]
UntilOption = Annotated[int | None, typer.Option(min=0, metavar="POSITION", help="Only up to a position.")]
UsageOption = Annotated[bool, typer.Option("--usage", help="Show recorded usage too, if the history is of everything.")]
LimitOption = Annotated[
    int, typer.Option("--limit", "-n", min=1, max=1_000, metavar="NUMBER", help="The maximum number of entries.")
]


@with_option_groups
def history(
    period: ClosedPeriodOptions,
    meter: MeterOption = None,
    customer: CustomerOption = None,
    event: EventOption = None,
    key: KeyOption = None,
    by: AuthorOption = None,
    recorded_from: RecordedFromOption = None,
    recorded_until: RecordedUntilOption = None,
    after: AfterOption = 0,
    until: UntilOption = None,
    usage: UsageOption = False,
    limit: LimitOption = 100,
    ledger: LedgerOption = DEFAULT_LEDGER,
    *,
    output: TableOptions,
) -> None:
    """Show who did what, when, how and why.

    Without --meter, --event and --key: everything but recorded usage. --period, --from and --to select a closed period
    of --customer on --meter.
    """
    from .time_ranges import parse_datetime  # noqa: PLC0415 - loads the domain

    with open_for_query(ledger, output.as_json) as session:
        bounds = None if period.is_default else session.time_range(period)[0]
        times = {
            name: None if text is None else parse_datetime(text, f"--{name.replace('_', '-')}", period.timezone)
            for name, text in (("recorded_from", recorded_from), ("recorded_until", recorded_until))
        }
        page = session.metering.history.list(
            event_name=meter, customer=customer, identifier=event, key_id=key, by=by, after=after, until=until,
            start=bounds and bounds.start, end=bounds and bounds.end, include_usage=usage, limit=limit, **times,
        )  # fmt: skip
        session.print(page, output.show(show_history, lambda tables: tables.history))


def show_history(page: "HistoryPage") -> None:
    """Print a row for each entry, and where the next page starts."""
    if not page.entries:
        say("No event matches.")
        return
    rows = [
        (str(entry.position), format_time(entry.recorded_at.replace(microsecond=0)), entry.event, entry.stream,
         format_author(entry.author.by, entry.author.on_behalf_of, entry.author.approved_by), format_via(entry),
         format_effect(entry))
        for entry in page.entries
    ]  # fmt: skip
    columns = ("position", "recorded at", "event", "of", "by", "via", "reason and effect")
    table(columns, rows, right=("position",), whole=("event",))
    if page.has_more:
        say(f"There is more: continue with --after {page.next_after}.")
