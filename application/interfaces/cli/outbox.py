"""The command `relay`, and the `outbox` commands: usage that programs record in their own transactions."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from ..formatting import format_count, format_number, format_time
from ..stop_signals import stop_on_signals
from .option_groups import TableOptions, with_option_groups
from .options import DEFAULT_LEDGER, AnyDigitsOption, JsonOption, LedgerOption
from .session import Session, open_ledger, print_result, record_limits, reported_errors
from .tables import fields, table
from .terminal import say

if TYPE_CHECKING:
    from ...outbox.outbox import Outbox
    from ...outbox.results import OutboxLag, RejectedRow, RelayResult

app = typer.Typer(
    help="Show the usage in an outbox, and create its table.", no_args_is_help=True, rich_markup_mode=None
)

_OUTBOX_HELP = "The database with the outbox: sqlite:///a/file.db, or postgresql://user@host/database."
OutboxOption = Annotated[
    str, typer.Option("--outbox", envvar="TALLYBOOK_OUTBOX", metavar="URL", help=_OUTBOX_HELP, show_default=False)
]
OptionalOutboxOption = Annotated[
    str | None,
    typer.Option(
        "--outbox",
        envvar="TALLYBOOK_OUTBOX",
        metavar="URL",
        help="Also relay the outbox in this database: sqlite:///a/file.db, or postgresql://user@host/database.",
        show_default=False,
    ),
]
TableOption = Annotated[
    str,
    typer.Option(
        "--table",
        envvar="TALLYBOOK_OUTBOX_TABLE",
        metavar="NAME",
        help="The table of the outbox, or its schema and the table: shop.tallybook_outbox.",
    ),
]
IdsArgument = Annotated[list[int], typer.Argument(metavar="ID...", help="The ids of rejected rows.")]
OptionalIdsArgument = Annotated[
    list[int] | None,
    typer.Argument(metavar="ID...", help="The ids of rejected rows. All of them by default.", show_default=False),
]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="The maximum number of rows.")]
AfterOption = Annotated[int, typer.Option("--after", min=0, metavar="ID", help="Start after this row.")]
DEFAULT_TABLE = "tallybook_outbox"


@dataclass(frozen=True)
class Schema:
    """The SQL of the table of an outbox."""

    dialect: str
    table: str
    sql: Sequence[str]


def relay(
    outbox: OutboxOption,
    outbox_table: TableOption = DEFAULT_TABLE,
    once: Annotated[bool, typer.Option("--once", help="Relay the rows that wait now, and end.")] = False,
    any_digits: AnyDigitsOption = False,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Move committed usage from an outbox into the ledger.

    The command runs until Ctrl-C or SIGTERM. Each meter event is recorded once, however many relays run. With --once,
    the exit status is 1 if a row was rejected; rejected rows stay in the outbox.
    """
    with (
        open_ledger(ledger, as_json, lift=record_limits(backfill=False, any_digits=any_digits)) as session,
        opened_outbox(session, outbox, outbox_table) as opened,
    ):
        if once:
            result = opened.relay()
            session.confirm(result, show_result)
            raise typer.Exit(1 if result.rejected else 0)
        with stop_on_signals() as stop:
            session.confirm(opened.lag(), lambda lag: say(f"relaying: {format_count(lag.waiting, 'row')} waiting"))
            opened.run_relay(stop, progress=lambda result: session.confirm(result, show_result))


@app.command()
def lag(
    outbox: OutboxOption,
    outbox_table: TableOption = DEFAULT_TABLE,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Show how many rows wait, and how many are rejected.

    The ledger rejected them when they were relayed.
    """
    with open_ledger(ledger, as_json) as session, opened_outbox(session, outbox, outbox_table) as opened:
        session.print(opened.lag(), show_lag)


@app.command("rejected")
@with_option_groups
def list_rejected(
    *,
    outbox: OutboxOption,
    outbox_table: TableOption = DEFAULT_TABLE,
    limit: LimitOption = 1_000,
    after: AfterOption = 0,
    ledger: LedgerOption = DEFAULT_LEDGER,
    output: TableOptions,
) -> None:
    """List the rows that the ledger rejected, with the errors."""
    with open_ledger(ledger, output.as_json) as session, opened_outbox(session, outbox, outbox_table) as opened:
        rows = opened.rejected(limit=limit, starting_after=after)
        session.print(rows, output.show(show_rejected, lambda tables: tables.rejected_rows))


@app.command()
def retry(
    outbox: OutboxOption,
    ids: OptionalIdsArgument = None,
    outbox_table: TableOption = DEFAULT_TABLE,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Let rejected rows wait for the relay again."""
    with open_ledger(ledger, as_json) as session, opened_outbox(session, outbox, outbox_table) as opened:
        count = opened.retry(ids or None)
        session.confirm({"waiting": count}, lambda _: say(f"waiting: {format_count(count, 'row')}"))


@app.command()
def drop(
    ids: IdsArgument,
    outbox: OutboxOption,
    outbox_table: TableOption = DEFAULT_TABLE,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Delete rejected rows. Their usage is never recorded."""
    with open_ledger(ledger, as_json) as session, opened_outbox(session, outbox, outbox_table) as opened:
        count = opened.drop(ids)
        session.confirm({"dropped": count}, lambda _: say(f"dropped: {format_count(count, 'row')}"))


@app.command()
def schema(
    dialect: Annotated[str, typer.Option(metavar="NAME", help="postgresql or sqlite.", show_default=False)],
    outbox_table: TableOption = DEFAULT_TABLE,
    as_json: JsonOption = False,
) -> None:
    """Print the SQL of the table, for a migration."""
    from ...storage.sql_outbox import outbox_sql  # noqa: PLC0415 - loads the domain

    with reported_errors(as_json=as_json):
        created = Schema(dialect, outbox_table, outbox_sql(dialect, table=outbox_table))
        print_result(created, show_schema, as_json=as_json)


@contextmanager
def opened_outbox(session: Session, url: str, outbox_table: str) -> "Generator[Outbox]":
    """Open an outbox, and close it at the end."""
    from ...outbox.outbox import Outbox  # noqa: PLC0415 - loads the domain

    with Outbox(session.metering, url, table=outbox_table) as opened:
        yield opened


def show_result(result: "RelayResult") -> None:
    """Print what a relay did."""
    numbers = (result.recorded, result.duplicates, result.rejected)
    recorded, duplicates, rejected = map(format_number, numbers)
    say(f"relayed: {recorded} recorded, {duplicates} duplicates, {rejected} rejected")


def show_lag(lag: "OutboxLag") -> None:
    """Print the number of rows by state."""
    since = f" since {format_time(lag.oldest_submitted_at)}" if lag.oldest_submitted_at is not None else ""
    fields([("waiting", f"{format_number(lag.waiting)}{since}"), ("rejected", format_number(lag.rejected))])


def show_rejected(rows: "Sequence[RejectedRow]") -> None:
    """Print a line for each rejected row."""
    if not rows:
        say("No rejected rows.")
        return
    cells = [
        (str(row.id), row.event_name, row.identifier, row.code, row.message,
         "" if row.submitted_at is None else format_time(row.submitted_at.replace(microsecond=0)))
        for row in rows
    ]  # fmt: skip
    table(("id", "meter", "identifier", "code", "message", "submitted at"), cells, right=("id",), whole=("code",))


def show_schema(created: Schema) -> None:
    """Print the statements."""
    for statement in created.sql:
        for line in f"{statement};".splitlines():
            say(line)
