"""The command that tells the story."""

from typing import Annotated

import typer

Ledger = Annotated[
    str | None,
    typer.Option(
        "--ledger",
        metavar="URL",
        help="Where to begin the ledger; tallybook-demo.db in this folder, or the next number that is free.",
        show_default=False,
    ),
]


def demo(ledger: Ledger = None) -> None:
    """See what a ledger does with a month of usage.

    50,000 reports are recorded, some sent twice, one cancelled, a figure explained, and all replayed from the ledger.
    """
    from .demo_story import tell  # noqa: PLC0415 - loads the domain

    tell(ledger)
