"""The commands on access keys."""

from typing import Annotated

import typer

from . import key_tables
from .options import DEFAULT_LEDGER, AsJson, By, Ledger
from .session import opened

app = typer.Typer(help="Create, list and revoke access keys.", no_args_is_help=True, rich_markup_mode=None)

Scopes = Annotated[
    list[str] | None,
    typer.Option(
        "--scope",
        metavar="SCOPE",
        help="What the key is for: record, read or admin; repeatable. record and read by default.",
    ),
]
Name = Annotated[str, typer.Option(metavar="TEXT", help="What to call the key, for people.", show_default=False)]
Test = Annotated[bool, typer.Option("--test", help="A key of test mode, which begins with rk_test or sk_test.")]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id, as in the list.", show_default=False)]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Why it is revoked.")]


@app.command()
def create(
    scopes: Scopes = None,
    name: Name = "",
    test: Test = False,
    by: By = None,
    ledger: Ledger = DEFAULT_LEDGER,
    as_json: AsJson = False,
) -> None:
    """Create a key, and show it this one time.

    A ledger is begun where there is none yet. It keeps a hash of the key, who asked for it, and when.
    """
    with opened(ledger, as_json, begin=True) as session:
        made = session.metering.create_access_key(scopes or ("record", "read"), name, livemode=not test, by=by)
        session.answer(key_tables.CreatedKey.of(made), key_tables.show_created)


@app.command("list")
def list_keys(ledger: Ledger = DEFAULT_LEDGER, as_json: AsJson = False) -> None:
    """List all keys in the order of their creation, without their secrets."""
    with opened(ledger, as_json) as session:
        session.answer(session.metering.access_keys(), key_tables.show_keys)


@app.command()
def revoke(
    key_id: KeyId,
    reason: Reason = None,
    by: By = None,
    ledger: Ledger = DEFAULT_LEDGER,
    as_json: AsJson = False,
) -> None:
    """Let a key open nothing from now on.

    Revoking it again shows the first revocation.
    """
    with opened(ledger, as_json) as session:
        session.answer(session.metering.revoke_access_key(key_id, reason=reason, by=by), key_tables.show_revoked)
