"""The `period` commands over all customers: `run`, `runs` and `status`."""

from functools import partial
from typing import Annotated

import typer

from . import period_runs_output
from .option_groups import ClosedPeriodOptions, TableOptions, with_option_groups
from .options import DEFAULT_LEDGER, AsOfOption, LedgerOption, MetersArgument, OnBehalfOfOption
from .periods import FrozenGroupOption, GracePeriodOption, app, require_period
from .session import interruptible, open_for_query, open_ledger
from .terminal import progress_bar

LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit",
        "-n",
        min=0,
        metavar="NUMBER",
        help="The maximum number of customers to show for each meter. 20 by default, with --json all.",
    ),
]
_SHOWN_CUSTOMERS = 20


@app.command()
@with_option_groups
def run(
    meters: MetersArgument = None,
    *,
    time: ClosedPeriodOptions,
    group_by: FrozenGroupOption = None,
    by: OnBehalfOfOption = None,
    grace_period: GracePeriodOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    output: TableOptions,
) -> None:
    """Close a period for all customers as one billing run.

    Without METER, the period is closed on all meters. Customers whose period is closed already stay as they are. The
    control totals compare the closings with the usage of each meter. An interrupted run is continued by the same
    command. The exit status is 1 if a customer could not be closed.
    """
    require_period(time)
    from datetime import timedelta  # noqa: PLC0415

    grace = None if grace_period is None else timedelta(hours=grace_period)
    with open_for_query(ledger, output.as_json, grace_period=grace) as session:
        span, _ = session.time_range(time)
        message = "Interrupted. Run the command again to continue the billing run; closed periods stay closed."
        with interruptible(session, lambda: message), progress_bar("closing") as advance:
            result = session.metering.periods.run(
                span.start, span.end, meters=meters or None, timezone=time.timezone, group_by=group_by or (),
                by=by, progress=advance,
            )  # fmt: skip
        show = partial(period_runs_output.show_run, span.timezone)
        session.confirm(result, output.show(show, lambda tables: tables.run))
    if not result.is_complete:
        raise typer.Exit(1)


@app.command()
@with_option_groups
def runs(
    *,
    as_of: AsOfOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    output: TableOptions,
) -> None:
    """List billing runs with their control totals.

    Runs that were interrupted are listed too.
    """
    from .time_ranges import parse_as_of  # noqa: PLC0415 - loads the domain

    with open_ledger(ledger, output.as_json) as session:
        known = parse_as_of(as_of, "UTC", session.metering.catch_up)
        billing_runs = session.metering.periods.runs(as_of=known)
        session.print(billing_runs, output.show(period_runs_output.show_runs, lambda tables: tables.runs))


@app.command()
@with_option_groups
def status(
    meters: MetersArgument = None,
    *,
    time: ClosedPeriodOptions,
    limit: LimitOption = None,
    as_of: AsOfOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    output: TableOptions,
) -> None:
    """Show whether all usage of a period is billed.

    Without METER, this covers all meters. Usage that arrived after the period was closed is billed by its adjustments.
    The exit status is 1 if any usage is in no closed period and in no adjustment.
    """
    require_period(time)
    with open_for_query(ledger, output.as_json) as session:
        span, known = session.time_range(time, as_of)
        if limit is None and output.is_text:
            limit = _SHOWN_CUSTOMERS
        result = session.metering.periods.status(span.start, span.end, meters=meters or None, as_of=known, limit=limit)
        show = partial(period_runs_output.show_status, span)
        session.print(result, output.show(show, lambda tables: tables.status))
    if not result.is_complete:
        raise typer.Exit(1)
