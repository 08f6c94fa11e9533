"""The commands on meters."""

from typing import Annotated

import typer

from . import notices
from .options import DEFAULT_LEDGER, AsJson, Ledger, Meter
from .session import opened

app = typer.Typer(help="Configure meters and look at them.", no_args_is_help=True, rich_markup_mode=None)

DisplayName = Annotated[str | None, typer.Option(metavar="TEXT", help="The name to show; the event name by default.")]
Formula = Annotated[str, typer.Option(metavar="FORMULA", help="How usages become a quantity: sum, count or last.")]
Window = Annotated[
    str | None,
    typer.Option(metavar="WINDOW", help="hour or day: the newest report of each UTC window replaces earlier ones."),
]
CustomerKey = Annotated[str, typer.Option(metavar="KEY", help="The payload key that names the customer.")]
ValueKey = Annotated[str, typer.Option(metavar="KEY", help="The payload key that holds the value.")]
DimensionKeys = Annotated[
    list[str] | None,
    typer.Option("--dimension-key", metavar="KEY", help="A payload key that usage is told apart by; repeatable."),
]
NewName = Annotated[str, typer.Argument(metavar="DISPLAY_NAME", help="The new name to show.", show_default=False)]


@app.command()
def configure(
    meter: Meter,
    display_name: DisplayName = None,
    formula: Formula = "sum",
    window: Window = None,
    customer_key: CustomerKey = "stripe_customer_id",
    value_key: ValueKey = "value",
    dimension_keys: DimensionKeys = None,
    ledger: Ledger = DEFAULT_LEDGER,
    as_json: AsJson = False,
) -> None:
    """Begin to count something.

    A ledger is begun where there is none yet. Configuring a meter again as it is changes nothing.
    """
    with opened(ledger, as_json, begin=True) as session:
        configured = session.metering.configure_meter(
            meter,
            display_name=display_name,
            formula=formula,
            event_time_window=window,
            customer_key=customer_key,
            value_key=value_key,
            dimension_keys=dimension_keys or (),
        )
        session.answer(configured, notices.show_meter)


@app.command("list")
def list_meters(ledger: Ledger = DEFAULT_LEDGER, as_json: AsJson = False) -> None:
    """List all meters, by event name."""
    with opened(ledger, as_json) as session:
        session.answer(session.metering.meters(), notices.show_meters)


@app.command()
def show(meter: Meter, ledger: Ledger = DEFAULT_LEDGER, as_json: AsJson = False) -> None:
    """Show a meter and the rules it is counted by."""
    with opened(ledger, as_json) as session:
        session.answer(session.metering.meter(meter), notices.show_meter)


@app.command()
def rename(meter: Meter, display_name: NewName, ledger: Ledger = DEFAULT_LEDGER, as_json: AsJson = False) -> None:
    """Show a meter under another name; its event name stays."""
    with opened(ledger, as_json) as session:
        session.answer(session.metering.rename_meter(meter, display_name), notices.show_meter)


@app.command()
def deactivate(meter: Meter, ledger: Ledger = DEFAULT_LEDGER, as_json: AsJson = False) -> None:
    """Take no more usage for a meter.

    Its name stays taken, and its events can still be cancelled.
    """
    with opened(ledger, as_json) as session:
        session.answer(session.metering.deactivate_meter(meter), notices.show_meter)


@app.command()
def reactivate(meter: Meter, ledger: Ledger = DEFAULT_LEDGER, as_json: AsJson = False) -> None:
    """Take usage for a meter again."""
    with opened(ledger, as_json) as session:
        session.answer(session.metering.reactivate_meter(meter), notices.show_meter)
