"""The command that verifies."""

import typer

from . import audits, terminal
from .options import DEFAULT_LEDGER, AsJson, Ledger
from .plain import as_json as written_as_json
from .seals import Public, SealsToVerify
from .session import asking


def verify(
    seals: SealsToVerify = None, key: Public = None, ledger: Ledger = DEFAULT_LEDGER, as_json: AsJson = False
) -> None:
    """Compare all figures with a fresh fold of the ledger.

    The live read models, row by row, and the frozen figures of closed periods; before that, the ledger with its
    seals, if they are given. Exit status 1 if anything differs, which is named.
    """
    sealed = None
    if seals is not None:
        from .seal_runs import show_seals, verify_seals  # noqa: PLC0415 - loads the domain

        sealed = verify_seals(ledger, as_json, seals, key)
        if not as_json:
            show_seals(sealed)
        if sealed.difference is not None:  # figures made from a ledger that was rewritten show nothing
            if as_json:
                typer.echo(written_as_json({"seals": sealed}))
            raise typer.Exit(1)
    elif key is not None:
        raise typer.BadParameter("A key is for the seals of --seals.", param_hint="'--key'")
    with asking(ledger, as_json) as session:
        with terminal.folding("folding afresh") as progress:
            verification = session.metering.verify(progress)
        if sealed is not None and as_json:
            typer.echo(written_as_json({"seals": sealed, "figures": verification}))
        else:
            session.answer(verification, audits.show_verification)
    if not verification.is_equal:
        raise typer.Exit(1)
