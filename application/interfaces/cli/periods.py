"""The `period` commands."""

from functools import partial
from typing import TYPE_CHECKING, Annotated, cast

import typer

from . import periods_output
from .option_groups import ClosedPeriodOptions, DimensionOptions, TableOptions, with_option_groups
from .options import (
    DEFAULT_LEDGER,
    AsOfOption,
    CustomerArgument,
    GroupByOption,
    JsonOption,
    LedgerOption,
    MeterArgument,
    OnBehalfOfOption,
    OptionalMeterArgument,
)
from .session import Session, open_for_query, open_ledger

if TYPE_CHECKING:
    from datetime import datetime

    from ...commands.periods import ClosingRules
    from .time_ranges import TimeRange

app = typer.Typer(
    help="Close billing periods, and show what has changed since.", no_args_is_help=True, rich_markup_mode=None
)

RequiredCustomerArgument = Annotated[str, typer.Argument(metavar="CUSTOMER", help="The customer.", show_default=False)]
AllowEmptyOption = Annotated[
    bool, typer.Option("--allow-empty", help="Close the period of a customer that never had usage on the meter.")
]
GracePeriodOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=72,
        metavar="HOURS",
        help="How long to wait for late meter events after the end of the period: 0 to 72. 1 by default.",
    ),
]
FrozenGroupOption = Annotated[
    list[str] | None,
    typer.Option("--group-by", metavar="KEY", help="Freeze the parts by the values of this dimension too. Repeatable."),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be frozen, and the difference to what was invoiced.")
]
RulesOption = Annotated[
    str,
    typer.Option(
        "--rules",
        metavar="previous|current",
        help="Close a reopened period under the rules of its previous closing, or under the current ones.",
    ),
]
SettledOption = Annotated[bool, typer.Option("--settled", help="Include periods whose adjustments are settled.")]
RollForwardOption = Annotated[
    bool, typer.Option("--roll-forward", help="Show how each frozen total became what it is now.")
]
ReopenedOption = Annotated[bool, typer.Option("--reopened", help="Include periods that were reopened.")]
EventsOption = Annotated[bool, typer.Option("--events", help="Also show the meter events that caused each one.")]
WithdrawOption = Annotated[
    bool, typer.Option("--withdraw-settlements", help="The documents of its settlements are withdrawn too.")
]
ReasonOption = Annotated[str, typer.Option(metavar="TEXT", help="The reason.", show_default=False)]


@app.command()
@with_option_groups
def close(
    meter: MeterArgument,
    customer: RequiredCustomerArgument,
    *,
    time: ClosedPeriodOptions,
    group_by: FrozenGroupOption = None,
    grace_period: GracePeriodOption = None,
    allow_empty: AllowEmptyOption = False,
    rules: RulesOption = "previous",
    dry_run: DryRunOption = False,
    ledger: LedgerOption = DEFAULT_LEDGER,
    output: TableOptions,
) -> None:
    """Freeze the total of a customer in a period, for an invoice.

    Later meter events and cancellations do not change it; 'tallybook period adjustments' shows their difference.
    Closing a period again returns the first total. 'tallybook period run' closes it for all customers.

    A period that was reopened is closed under the rules of its previous closing, unless --rules is current. --dry-run
    shows the difference first, also of a period that is closed.
    """
    require_period(time)
    from datetime import timedelta  # noqa: PLC0415

    grace = None if grace_period is None else timedelta(hours=grace_period)
    with open_for_query(ledger, output.as_json, grace_period=grace) as session:
        from ...commands.period_closing import close_and_find_gaps  # noqa: PLC0415 - loads the domain

        span, _ = session.time_range(time)
        periods, closing_rules = session.metering.periods, cast("ClosingRules", rules)
        if dry_run:
            preview = periods.preview(
                meter, customer, span.start, span.end, group_by=group_by or (), rules=closing_rules
            )
            show_preview = partial(periods_output.show_preview, span.timezone)
            session.print(preview, output.show(show_preview, lambda tables: tables.preview))
            return
        closing = close_and_find_gaps(
            periods, meter, customer, span.start, span.end, group_by or (), allow_empty=allow_empty, rules=closing_rules
        )
        show = partial(periods_output.show_closed, span.timezone)
        session.confirm(closing, output.show(show, lambda tables: tables.closing))


@app.command("list")
@with_option_groups
def list_periods(
    meter: MeterArgument,
    customer: CustomerArgument = None,
    *,
    reopened: ReopenedOption = False,
    time: ClosedPeriodOptions,
    as_of: AsOfOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    output: TableOptions,
) -> None:
    """List closed periods with their frozen totals.

    Lists all closed periods, or those that overlap the given period.
    """
    with open_ledger(ledger, output.as_json) as session:
        span, first, last, known = _overlapped_range(session, time, as_of)
        periods = session.metering.periods.list(meter, customer, start=first, end=last, as_of=known, reopened=reopened)
        show = partial(periods_output.show_periods, span.timezone)
        session.print(periods, output.show(show, lambda tables: tables.periods))
        if output.is_text:
            _show_gaps_with_usage(session, meter, customer, span, first, last, known)


@app.command()
@with_option_groups
def adjustments(
    meter: OptionalMeterArgument = None,
    customer: CustomerArgument = None,
    *,
    events: EventsOption = False,
    roll_forward: RollForwardOption = False,
    settled: SettledOption = False,
    time: ClosedPeriodOptions,
    as_of: AsOfOption = None,
    dimensions: DimensionOptions,
    group_by: GroupByOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    output: TableOptions,
) -> None:
    """Show what is owed on closed periods since they were invoiced.

    Shows all closed periods of the meter, or of all meters, or those that overlap the given period. The difference is
    computed under the rules that the period was closed with. The difference under the current rules is shown separately
    and is not owed. 'tallybook period settle' records that a credit note or an invoice has it.
    """
    if output.as_csv and events:
        raise typer.BadParameter("--csv prints adjustments and no events; leave out --events.")
    with open_ledger(ledger, output.as_json) as session:
        span, first, last, known = _overlapped_range(session, time, as_of)
        meters = [meter] if meter is not None else [view.event_name for view in session.metering.meters.list()]
        results = [
            adjustment
            for event_name in meters
            for adjustment in session.metering.periods.adjustments(
                event_name, customer, start=first, end=last, as_of=known, where=dimensions.parse(),
                group_by=group_by or (), settled=settled, max_events=None if events or output.as_json else 0,
            )
        ]  # fmt: skip
        show = partial(periods_output.show_adjustments, span.timezone, with_events=events)
        if roll_forward:
            show = partial(periods_output.show_roll_forwards, span.timezone)
        show = show if meter is not None else partial(periods_output.show_by_meter, show)
        session.print(results, output.show(show, lambda tables: tables.adjustments))
        for event_name in meters if output.is_text else ():
            _show_gaps_with_usage(session, event_name, customer, span, first, last, known)


@app.command()
@with_option_groups
def reopen(
    meter: MeterArgument,
    customer: RequiredCustomerArgument,
    *,
    reason: ReasonOption,
    by: OnBehalfOfOption = None,
    withdraw_settlements: WithdrawOption = False,
    time: ClosedPeriodOptions,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Reopen a closed period, to close it with a new total.

    The first closing stays in the ledger, with the requester and the reason; 'tallybook period list --reopened' shows
    it. Its invoice is withdrawn, so the next closing is billed in full. A wrong address needs no reopening: print the
    invoice again from 'tallybook invoice-lines --as-of'.
    """
    require_period(time)
    with open_ledger(ledger, as_json) as session:
        span, _ = session.time_range(time)
        closed = session.metering.periods.reopen(
            meter, customer, span.start, span.end, reason=reason, by=by, withdraw_settlements=withdraw_settlements
        )
        session.confirm(closed, partial(periods_output.show_reopened, span.timezone))


def _show_gaps_with_usage(
    session: Session,
    meter: str,
    customer: str | None,
    span: "TimeRange",
    first: "datetime | None",
    last: "datetime | None",
    known: "datetime | int | None",
) -> None:
    """Print the gaps between closed periods whose usage is in no invoice."""
    gaps = session.metering.periods.gaps(meter, customer, start=first, end=last, as_of=known)
    periods_output.show_gaps(span.timezone, [gap for gap in gaps if gap.count])


def require_period(time: ClosedPeriodOptions) -> None:
    """Raise BadParameter if no option selects a period."""
    if time.is_default:
        raise typer.BadParameter("A period is required: use --period, or --from and --to.")


def _overlapped_range(
    session: Session, time: ClosedPeriodOptions, as_of: str | None
) -> "tuple[TimeRange, datetime | None, datetime | None, datetime | int | None]":
    """Return the time range of the options, its bounds (None without a period), and the parsed `as_of`."""
    span, known = session.time_range(time, as_of)
    if time.is_default:
        return span, None, None, known
    return span, span.start, span.end, known
