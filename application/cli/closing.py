"""The commands on closed periods."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from . import closing_tables
from .options import DEFAULT_LEDGER, Anchor, AsJson, AsOf, By, Customer, From, Ledger, Meter, Timezone, To
from .session import Session, asking, opened

if TYPE_CHECKING:
    from datetime import datetime

    from .periods import Span

app = typer.Typer(
    help="Freeze the figures of invoices, and see what is owed since.", no_args_is_help=True, rich_markup_mode=None
)

One = Annotated[str, typer.Argument(metavar="CUSTOMER", help="The customer.", show_default=False)]
Closed = Annotated[
    str | None, typer.Argument(metavar="CUSTOMER", help="The customer, or else --all.", show_default=False)
]
All = Annotated[bool, typer.Option("--all", help="Each customer with usage in the period, each by itself.")]
Period = Annotated[
    str | None,
    typer.Option("--period", "-p", metavar="PERIOD", help="A month (2026-11), a day (2026-11-22) or a year (2026)."),
]
Grace = Annotated[
    int | None,
    typer.Option(
        min=0, max=72, metavar="HOURS", help="How long after its end a period waits for late reports: 1, or 0 to 72."
    ),
]
Reopened = Annotated[bool, typer.Option("--reopened", help="Those too that were closed and reopened since.")]
Events = Annotated[bool, typer.Option("--events", help="Show the meter events that caused each, too.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why it is to be closed anew.", show_default=False)]


@app.command()
def close(
    meter: Meter,
    customer: Closed = None,
    everyone: All = False,
    period: Period = None,
    start: From = None,
    end: To = None,
    timezone: Timezone = "UTC",
    anchor: Anchor = None,
    grace: Grace = None,
    ledger: Ledger = DEFAULT_LEDGER,
    as_json: AsJson = False,
) -> None:
    """Freeze what a customer used in a period, for an invoice.

    What is recorded or cancelled later never changes it: 'tallybook period adjustments' tells what that comes to.
    Closing a period again gives its first figures. With --all a refusal doesn't keep the others from being closed;
    exit status 1 if there was any.
    """
    if everyone == (customer is not None):
        raise typer.BadParameter("Give either a CUSTOMER or --all.")
    _need_period(period, start)
    from datetime import timedelta  # noqa: PLC0415

    with asking(ledger, as_json, grace=None if grace is None else timedelta(hours=grace)) as session:
        from .closing_run import close_all, close_one  # noqa: PLC0415 - loads the domain

        span, _ = session.asked(period, start, end, timezone, anchor=anchor)
        if customer is not None:
            closed = close_one(session.metering, meter, customer, span)
            session.answer(closed, partial(closing_tables.show_closed, span.timezone))
            return
        run = close_all(session, meter, span)
        session.answer(run, partial(closing_tables.show_closings, meter, span))
    if run.refused:
        raise typer.Exit(1)


@app.command("list")
def list_periods(
    meter: Meter,
    customer: Customer = None,
    reopened: Reopened = False,
    period: Period = None,
    start: From = None,
    end: To = None,
    timezone: Timezone = "UTC",
    anchor: Anchor = None,
    as_of: AsOf = None,
    ledger: Ledger = DEFAULT_LEDGER,
    as_json: AsJson = False,
) -> None:
    """List closed periods, with the figures that were frozen.

    All of them, or those that touch a period where one is given.
    """
    with opened(ledger, as_json) as session:
        span, first, last, known = _touched(session, period, start, end, timezone, as_of, anchor)
        answer = session.metering.closed_periods(meter, customer, start=first, end=last, as_of=known, reopened=reopened)
        session.answer(answer, partial(closing_tables.show_periods, span.timezone))


@app.command()
def adjustments(
    meter: Meter,
    customer: Customer = None,
    events: Events = False,
    period: Period = None,
    start: From = None,
    end: To = None,
    timezone: Timezone = "UTC",
    anchor: Anchor = None,
    as_of: AsOf = None,
    ledger: Ledger = DEFAULT_LEDGER,
    as_json: AsJson = False,
) -> None:
    """What is owed on closed periods since they were closed, signed.

    Of all of them, or of those that touch a period where one is given. The difference is made under the rules that a
    period was closed with; what the rules in force would add to it stands apart, and is not owed.
    """
    with asking(ledger, as_json) as session:
        span, first, last, known = _touched(session, period, start, end, timezone, as_of, anchor)
        answer = session.metering.adjustments(meter, customer, start=first, end=last, as_of=known)
        session.answer(answer, partial(closing_tables.show_adjustments, span.timezone, with_events=events))


@app.command()
def reopen(
    meter: Meter,
    customer: One,
    reason: Reason,
    by: By = None,
    period: Period = None,
    start: From = None,
    end: To = None,
    timezone: Timezone = "UTC",
    anchor: Anchor = None,
    ledger: Ledger = DEFAULT_LEDGER,
    as_json: AsJson = False,
) -> None:
    """Let a closed period be closed anew, for a new figure.

    The first closing is kept, with who asked and why; 'tallybook period list' can show it.
    """
    _need_period(period, start)
    with opened(ledger, as_json) as session:
        span, _ = session.asked(period, start, end, timezone, anchor=anchor)
        answer = session.metering.reopen_period(meter, customer, span.start, span.end, reason=reason, by=by)
        session.answer(answer, partial(closing_tables.show_reopened, span.timezone))


def _need_period(period: str | None, start: str | None) -> None:
    if period is None and start is None:
        raise typer.BadParameter("Say which period: --period, or --from and --to.")


def _touched(
    session: Session,
    period: str | None,
    start: str | None,
    end: str | None,
    timezone: str,
    as_of: str | None,
    anchor: str | None,
) -> "tuple[Span, datetime | None, datetime | None, datetime | int | None]":
    """The time asked about, its bounds, and as of when; all of time where none is named."""
    span, known = session.asked(period, start, end, timezone, as_of, anchor)
    if period is None and start is None:
        return span, None, None, known
    return span, span.start, span.end, known
