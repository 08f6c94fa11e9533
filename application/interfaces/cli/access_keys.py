"""The `key` commands and their output."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from ..formatting import format_requester, format_time
from .option_groups import TableOptions, with_option_groups
from .options import DEFAULT_LEDGER, JsonOption, LedgerOption, OnBehalfOfOption
from .session import open_ledger
from .tables import fields, table
from .terminal import say

if TYPE_CHECKING:
    from datetime import datetime

    from ...access_keys.views import AccessKeyView, NewAccessKey

app = typer.Typer(help="Create, list and revoke access keys.", no_args_is_help=True, rich_markup_mode=None)

ScopesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--scope",
        metavar="SCOPE",
        help="A scope of the key: record, cancel, close, rules, approve, keys, read or admin. Repeatable. record, "
        "cancel and read by default.",
    ),
]
DEFAULT_SCOPES = ("record", "cancel", "read")
NameOption = Annotated[str, typer.Option(metavar="TEXT", help="A name for the key.", show_default=False)]
CustomersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--customer",
        metavar="CUSTOMER",
        help="Limit the key to reading this customer's totals, events and explanations. Repeatable.",
    ),
]
TestOption = Annotated[bool, typer.Option("--test", help="Create a test mode key, with the prefix rk_test or sk_test.")]
KeyIdArgument = Annotated[
    str, typer.Argument(metavar="ID", help="The id of the key, as 'key list' shows it.", show_default=False)
]
ReasonOption = Annotated[str | None, typer.Option(metavar="TEXT", help="The reason of the revocation.")]


@dataclass(frozen=True)
class CreatedKey:
    """A new access key with its secret, as one flat object for the JSON output."""

    key: str = field(repr=False)
    id: str
    hint: str
    name: str
    scopes: tuple[str, ...]
    livemode: bool
    created_at: "datetime"
    created_by: str | None
    customers: tuple[str, ...]

    @classmethod
    def from_new_key(cls, created: "NewAccessKey") -> "CreatedKey":
        """Return the flat form of a new key."""
        view = created.view
        return cls(
            created.key,
            view.id,
            view.hint,
            view.name,
            view.scopes,
            view.livemode,
            view.created_at,
            view.created_by,
            view.customers,
        )


@app.command()
def create(
    scopes: ScopesOption = None,
    name: NameOption = "",
    test: TestOption = False,
    customers: CustomersOption = None,
    by: OnBehalfOfOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Create an access key and show it once.

    Creates the ledger if it does not exist. The ledger stores only a hash of the key, with the requester and the time.
    """
    with open_ledger(ledger, as_json, create=True) as session:
        default_scopes = ("read",) if customers else DEFAULT_SCOPES
        created = session.metering.access_keys.create(
            scopes or default_scopes, name, livemode=not test, by=by, customers=customers or ()
        )
        session.confirm(CreatedKey.from_new_key(created), show_created)


@app.command("list")
@with_option_groups
def list_keys(*, ledger: LedgerOption = DEFAULT_LEDGER, output: TableOptions) -> None:
    """List all access keys, without their secrets."""
    with open_ledger(ledger, output.as_json) as session:
        keys = session.metering.access_keys.list()
        session.print(keys, output.show(show_keys, lambda tables: tables.access_keys))


@app.command()
def revoke(
    key_id: KeyIdArgument,
    reason: ReasonOption = None,
    by: OnBehalfOfOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Revoke an access key.

    Revoking it again shows the first revocation.
    """
    with open_ledger(ledger, as_json) as session:
        session.confirm(session.metering.access_keys.revoke(key_id, reason=reason, by=by), show_revoked)


def show_created(created: CreatedKey) -> None:
    """Print the key on a separate line, and its properties."""
    say(created.key)
    say("Store this key now: it is shown only once. The ledger has only a hash of it.")
    lines = {
        "id": created.id,
        "name": created.name or "none",
        "scopes": ", ".join(created.scopes),
        **({"customers": ", ".join(created.customers)} if created.customers else {}),
        "mode": _format_mode(livemode=created.livemode),
        "created": format_time(created.created_at) + format_requester(None, created.created_by),
    }
    fields(lines.items())


def show_keys(keys: Sequence["AccessKeyView"]) -> None:
    """Print one line for each key."""
    if not keys:
        say("No access keys yet. Create one with 'tallybook key create'.")
        return
    rows = [
        (key.id, key.name, ", ".join(key.scopes) + _format_customers(key), _format_mode(livemode=key.livemode),
         format_time(key.created_at.replace(microsecond=0)) + format_requester(None, key.created_by),
         _format_status(key))
        for key in keys
    ]  # fmt: skip
    table(("id", "name", "scopes", "mode", "created", "status"), rows, whole=("id",))


def show_revoked(key: "AccessKeyView") -> None:
    """Print when a key was revoked, by whom and why."""
    assert key.revoked_at is not None
    say(f"revoked: {key.hint} at {format_time(key.revoked_at)}{format_requester(key.reason, key.revoked_by)}")


def _format_customers(key: "AccessKeyView") -> str:
    return f" of {', '.join(key.customers)}" if key.customers else ""


def _format_mode(*, livemode: bool) -> str:
    return "live" if livemode else "test"


def _format_status(key: "AccessKeyView") -> str:
    if key.revoked_at is None:
        return "active"
    return f"revoked {format_time(key.revoked_at.replace(microsecond=0))}{format_requester(key.reason, key.revoked_by)}"
