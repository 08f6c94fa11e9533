"""The command that explains a figure, down to each event."""

from functools import partial
from typing import Annotated

import typer

from .explanations import show_explanation
from .options import DEFAULT_LEDGER, Anchor, AsJson, AsOf, Customer, From, Ledger, Meter, Period, Timezone, To
from .session import asking

AsCsv = Annotated[bool, typer.Option("--csv", help="Answer with CSV, a row for each meter event.")]
Closed = Annotated[bool, typer.Option("--closed", help="The figure that was frozen when this period was closed.")]


def explain(
    meter: Meter,
    customer: Customer = None,
    period: Period = None,
    start: From = None,
    end: To = None,
    timezone: Timezone = "UTC",
    anchor: Anchor = None,
    as_of: AsOf = None,
    closed: Closed = False,
    as_csv: AsCsv = False,
    ledger: Ledger = DEFAULT_LEDGER,
    as_json: AsJson = False,
) -> None:
    """Every meter event behind a total, and why it counts or not.

    The contributions add up to the total. The SHA-256 is that of a line 'position,occurred_at,value' for each event
    that counts, in their order; the columns of --csv reproduce it.
    """
    if as_csv and as_json:
        raise typer.BadParameter("Give --csv or --json, not both.")
    if closed and (customer is None or as_of is not None):
        raise typer.BadParameter("--closed goes with a CUSTOMER, and without --as-of.")
    with asking(ledger, as_json) as session:
        from .explanation_run import explained_closing, in_csv  # noqa: PLC0415 - loads the domain

        span, known = session.asked(period, start, end, timezone, as_of, anchor)
        if closed and customer is not None:
            span, known = explained_closing(session.metering, meter, customer, span)
        answer = session.metering.explain(meter, customer, span.start, span.end, as_of=known)
        if as_csv:
            typer.echo(in_csv(answer), nl=False)
        else:
            session.answer(answer, partial(show_explanation, meter, span))
