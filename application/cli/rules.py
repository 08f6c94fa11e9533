"""The command that changes the rules a meter is counted by."""

from functools import partial
from typing import Annotated

import typer

from . import rule_tables
from .options import DEFAULT_LEDGER, AsJson, By, Ledger, Limit, Meter, Timezone
from .session import asking

app = typer.Typer(help="Count by other rules, all of the past included.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def rules() -> None:
    """Count by other rules, all of the past included."""


Formula = Annotated[str | None, typer.Option(metavar="FORMULA", help="sum, count or last.")]
Window = Annotated[
    str | None,
    typer.Option(
        metavar="WINDOW", help="hour or day: the newest report of each UTC window replaces earlier ones; none."
    ),
]
CustomerKey = Annotated[str | None, typer.Option(metavar="KEY", help="The payload key that names the customer.")]
ValueKey = Annotated[str | None, typer.Option(metavar="KEY", help="The payload key that holds the value.")]
DimensionKeys = Annotated[
    list[str] | None,
    typer.Option("--dimension-key", metavar="KEY", help="A payload key that usage is told apart by; repeatable."),
]
NoDimensions = Annotated[bool, typer.Option("--no-dimension-keys", help="Tell usage apart by none.")]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Why; the ledger keeps it. Needed with --yes.")]
Yes = Annotated[bool, typer.Option("--yes", help="Put the rules in force. Without it what would change is shown.")]


@app.command()
def change(
    meter: Meter,
    formula: Formula = None,
    window: Window = None,
    customer_key: CustomerKey = None,
    value_key: ValueKey = None,
    dimension_keys: DimensionKeys = None,
    no_dimension_keys: NoDimensions = False,
    reason: Reason = None,
    by: By = None,
    timezone: Timezone = "UTC",
    limit: Limit = 10,
    yes: Yes = False,
    ledger: Ledger = DEFAULT_LEDGER,
    as_json: AsJson = False,
) -> None:
    """Count a meter by other rules: see what would change, then do it.

    A candidate is built beside the live read models and compared with them, by month. Only --yes puts its rules in
    force; closed periods keep their figures all the same. What isn't named stays as it is.
    """
    wanted: dict[str, object] = {
        "formula": formula,
        "customer_key": customer_key,
        "value_key": value_key,
        "dimension_keys": () if no_dimension_keys else dimension_keys or None,
    }
    changes = {field: value for field, value in wanted.items() if value is not None}
    if window is not None:
        changes["event_time_window"] = None if window == "none" else window
    if not changes:
        raise typer.BadParameter("Say what becomes of the rules: --formula, --window or a key.")
    if yes and reason is None:
        raise typer.BadParameter("Putting rules in force needs a --reason, which the ledger keeps.")
    with asking(ledger, as_json) as session:
        from .rule_change import change_rules  # noqa: PLC0415 - loads the domain

        answer = change_rules(session, meter, changes, reason, by, timezone, limit, yes=yes)
        session.answer(answer, partial(rule_tables.show_change, reason, by))
