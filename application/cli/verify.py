"""The command that verifies a ledger."""

import typer

from .options import DEFAULT_LEDGER, AsJson, Ledger
from .seals import Public, Seals


def verify(seals: Seals, key: Public = None, ledger: Ledger = DEFAULT_LEDGER, as_json: AsJson = False) -> None:
    """Compare a ledger with its seals.

    The first position that was changed since is named, with exit status 1.
    """
    from .seal_runs import verify_seals  # noqa: PLC0415 - loads the domain

    if not verify_seals(ledger, as_json, seals, key):
        raise typer.Exit(1)
