"""The command `demo`."""

from typing import Annotated

import typer

LedgerOption = Annotated[
    str | None,
    typer.Option(
        "--ledger",
        metavar="URL",
        help="The ledger to create. By default tallybook-demo.db in this folder, or the next unused number.",
        show_default=False,
    ),
]


def demo(ledger: LedgerOption = None) -> None:
    """Run a demo with a month of usage.

    Records 50,000 meter events, sends some twice, cancels one, explains a total, and replays the ledger.
    """
    from .demo_story import run_demo  # noqa: PLC0415 - loads the domain

    run_demo(ledger)
