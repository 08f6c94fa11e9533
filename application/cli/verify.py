"""The command that verifies."""

import typer

from . import audits, terminal
from .options import DEFAULT_LEDGER, AsJson, Ledger
from .session import asking


def verify(ledger: Ledger = DEFAULT_LEDGER, as_json: AsJson = False) -> None:
    """Compare all figures with a fresh fold of the ledger.

    The live read models, row by row, and the frozen figures of closed periods. Exit status 1 if anything differs.
    """
    with asking(ledger, as_json) as session:
        with terminal.folding("folding afresh") as progress:
            verification = session.metering.verify(progress)
        session.answer(verification, audits.show_verification)
    if not verification.is_equal:
        raise typer.Exit(1)
