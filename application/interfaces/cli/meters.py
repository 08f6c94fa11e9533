"""The `meter` commands and their output."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..condition_text import format_filter
from ..formatting import (
    format_author,
    format_formula,
    format_keys,
    format_number,
    format_quantity,
    format_rounding,
    format_rules,
    format_time,
)
from .option_groups import TableOptions, with_option_groups
from .options import DEFAULT_LEDGER, JsonOption, LedgerOption, MeterArgument
from .projection import describe_interrupted_build
from .rules import reported_incompatible_events
from .rules_options import NewRulesOptions
from .session import Session, interruptible, open_ledger
from .tables import fields, table
from .terminal import projection_progress, say, without_column

if TYPE_CHECKING:
    from ...meter_views import MeterView, RulesRevisionView

app = typer.Typer(help="Configure and list meters.", no_args_is_help=True, rich_markup_mode=None)

DisplayNameOption = Annotated[
    str | None, typer.Option(metavar="TEXT", help="The name to show. The event name by default.")
]
SourceOption = Annotated[
    str | None,
    typer.Option(
        metavar="METER",
        help="Count the meter events of this meter, also those recorded before, instead of events of its own.",
    ),
]
NewNameArgument = Annotated[
    str, typer.Argument(metavar="DISPLAY_NAME", help="The new name to show.", show_default=False)
]


@app.command()
@with_option_groups
def configure(
    meter: MeterArgument,
    *,
    source: SourceOption = None,
    display_name: DisplayNameOption = None,
    rules: NewRulesOptions,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Create a meter.

    Creates the ledger if it does not exist. Configuring a meter again with the same rules changes nothing.

    With --source, the meter is derived: it counts all meter events of another meter by rules of its own.
    """
    arguments = rules.arguments()
    with open_ledger(ledger, as_json, create=True) as session:
        if source is None:
            configured = session.metering.meters.configure(meter, display_name=display_name, **arguments)
        else:
            configured = _configure_derived(session, meter, source, display_name, arguments)
        session.confirm(configured, show_meter)


@app.command("list")
@with_option_groups
def list_meters(*, ledger: LedgerOption = DEFAULT_LEDGER, output: TableOptions) -> None:
    """List all meters, ordered by event name."""
    with open_ledger(ledger, output.as_json) as session:
        meters = session.metering.meters.list()
        session.print(meters, output.show(show_meters, lambda tables: tables.meters))


@app.command()
def show(meter: MeterArgument, ledger: LedgerOption = DEFAULT_LEDGER, as_json: JsonOption = False) -> None:
    """Show a meter and its rules."""
    with open_ledger(ledger, as_json) as session:
        session.print(session.metering.meters.get(meter), show_meter)


@app.command()
@with_option_groups
def history(meter: MeterArgument, *, ledger: LedgerOption = DEFAULT_LEDGER, output: TableOptions) -> None:
    """List all revisions of a meter's rules, the oldest first.

    Each has its position, the time at which it was recorded, by whom, and why.

    A revision counts usage from its effective time on, and replaces earlier ones from then on.
    """
    with open_ledger(ledger, output.as_json) as session:
        revisions = session.metering.meters.history(meter)
        session.print(revisions, output.show(show_history, lambda tables: tables.revisions))


@app.command()
def rename(
    meter: MeterArgument,
    display_name: NewNameArgument,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Change the display name of a meter. Its event name stays the same."""
    with open_ledger(ledger, as_json) as session:
        session.confirm(session.metering.meters.rename(meter, display_name), show_meter)


@app.command()
def deactivate(meter: MeterArgument, ledger: LedgerOption = DEFAULT_LEDGER, as_json: JsonOption = False) -> None:
    """Reject new meter events of a meter.

    Its event name stays taken, and its meter events can still be cancelled.
    """
    with open_ledger(ledger, as_json) as session:
        session.confirm(session.metering.meters.deactivate(meter), show_meter)


@app.command()
def reactivate(meter: MeterArgument, ledger: LedgerOption = DEFAULT_LEDGER, as_json: JsonOption = False) -> None:
    """Accept meter events of an inactive meter again."""
    with open_ledger(ledger, as_json) as session:
        session.confirm(session.metering.meters.reactivate(meter), show_meter)


def _configure_derived(
    session: Session, event_name: str, source: str, display_name: str | None, rules: Mapping[str, Any]
) -> "MeterView":
    """Create a derived meter, with a progress bar. If it can't read recorded meter events, print them and exit."""
    with (
        reported_incompatible_events(session),
        interruptible(session, partial(describe_interrupted_build, session, (event_name,))),
        projection_progress("counting recorded meter events") as progress,
    ):
        return session.metering.meters.configure(
            event_name, source=source, display_name=display_name, progress=progress, **rules
        )


def show_meters(meters: Sequence["MeterView"]) -> None:
    """Print one line for each meter."""
    if not meters:
        say("No meters yet. Create one with 'tallybook meter configure'.")
        return
    rows = [
        (meter.event_name, meter.display_name, meter.source or "", format_quantity(meter), format_keys(meter),
         "" if meter.filter is None else format_filter(meter.filter), _upcoming_quantities(meter), meter.status)
        for meter in meters
    ]  # fmt: skip
    columns = ("meter", "name", "source", "formula", "payload keys", "filter", "upcoming", "status")
    _table_without_empty_columns(columns, rows)


def show_meter(meter: "MeterView") -> None:
    """Print a meter and its rules, line by line."""
    lines = {
        "name": meter.display_name,
        "status": meter.status + (f" since {format_time(meter.deactivated_at)}" if meter.deactivated_at else ""),
        "source": meter.source or "",
        "formula": format_formula(meter.formula, meter.event_time_window),
        "customer key": meter.customer_key,
        "value key": meter.value_key,
        "dimension keys": ", ".join(meter.dimension_keys) or "none",
        "optional keys": ", ".join(meter.optional_dimension_keys),
        "derived meters": ", ".join(meter.derived_meters),
        "filter": format_filter(meter.filter) if meter.filter is not None else "",
        "multiplier": str(meter.multiplier or ""),
        "rounding": format_rounding(meter.rounding) if meter.rounding is not None else "",
        "configured": format_time(meter.created_at),
    }
    say(meter.event_name)
    fields((label, text) for label, text in lines.items() if text)
    for effective_from, revision, rules in meter.upcoming:
        text = f"from {format_time(effective_from)}: {format_rules(rules)}, rules revision {revision}"
        fields((("upcoming", text),))


def show_history(revisions: Sequence["RulesRevisionView"]) -> None:
    """Print one line for each revision of the rules of a meter."""
    rows = [
        (str(revision.revision), format_number(revision.position),
         format_time(revision.recorded_at.replace(microsecond=0)),
         "all usage" if revision.effective_from is None else format_time(revision.effective_from),
         format_rules(revision.rules), format_author(revision.by, revision.on_behalf_of, revision.approved_by),
         revision.reason or "")
        for revision in revisions
    ]  # fmt: skip
    columns = ("revision", "position", "recorded at", "effective from", "rules", "by", "reason")
    _table_without_empty_columns(columns, rows, right=columns[:2], whole=columns[2:4])


def _upcoming_quantities(meter: "MeterView") -> str:
    """Return from when on quantities are computed otherwise, as announced; empty if no change is announced."""
    return "; ".join(
        f"{format_quantity(rules)} from {format_time(effective_from)}" for effective_from, _, rules in meter.upcoming
    )


def _table_without_empty_columns(
    columns: tuple[str, ...], rows: list[tuple[str, ...]], *, right: Sequence[str] = (), whole: Sequence[str] = ()
) -> None:
    for index in reversed(range(len(columns))):
        if not any(row[index] for row in rows):
            columns, rows = without_column(index, columns), [without_column(index, row) for row in rows]
    table(columns, rows, right=right, whole=whole)
