"""The command that imports usage files."""

from pathlib import Path
from typing import Annotated

import typer

from .notices import show_import
from .options import DEFAULT_LEDGER, AsJson, Backfill, Ledger
from .session import opened

File = Annotated[Path, typer.Argument(metavar="FILE", help="CSV, JSON (a list) or JSONL.", show_default=False)]
EventName = Annotated[str | None, typer.Option(metavar="METER", help="The meter of all rows, whatever they say.")]
TimestampColumn = Annotated[str, typer.Option(metavar="COLUMN", help="Unix seconds, yyyy-MM-dd or an ISO datetime.")]
ValueColumn = Annotated[str | None, typer.Option(metavar="COLUMN", help="Goes under the meter's value key.")]
CustomerColumn = Annotated[str | None, typer.Option(metavar="COLUMN", help="Goes under the meter's customer key.")]
CustomerName = Annotated[str | None, typer.Option("--customer", metavar="CUSTOMER", help="The customer of all rows.")]
IdentifierColumn = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="The identifier; 'identifier' where the file has it.")
]
PayloadColumns = Annotated[
    list[str] | None,
    typer.Option("--payload-column", metavar="COLUMN[=KEY]", help="Goes into the payload under KEY; repeatable."),
]
Format = Annotated[
    str | None,
    typer.Option("--format", metavar="FORMAT", help="csv, json or jsonl; by the file's suffix if not given."),
]
Errors = Annotated[
    Path | None, typer.Option("--errors", metavar="FILE", help="Write every refused row to this CSV, with its line.")
]


def import_file(
    file: File,
    event_name: EventName = None,
    timestamp_column: TimestampColumn = "timestamp",
    value_column: ValueColumn = None,
    customer: CustomerName = None,
    customer_column: CustomerColumn = None,
    identifier_column: IdentifierColumn = None,
    payload_column: PayloadColumns = None,
    file_format: Format = None,
    errors: Errors = None,
    backfill: Backfill = False,
    ledger: Ledger = DEFAULT_LEDGER,
    as_json: AsJson = False,
) -> None:
    """Import a file of usage: CSV, JSON or JSONL.

    Its columns are those of Stripe's import: identifier (optional), timestamp, event_name, and payload_KEY for each
    key of the payload. JSON may have a payload object instead. Any other file is read by naming its columns.

    Rows are recorded in batches; a bad row is refused and the others go on. Importing a file again records nothing
    twice: rows without an identifier are named after the contents of the file and their place in it. A file that has
    grown or was corrected is therefore another file; give identifiers where that may happen.

    Exit status 1 if any row was refused.
    """
    if customer is not None and customer_column is not None:
        raise typer.BadParameter("Give --customer or --customer-column, not both.")
    with opened(ledger, as_json, lift="max_age" if backfill else None) as session:
        from ..usage_columns import Columns  # noqa: PLC0415 - loads the domain
        from .import_run import run_import  # noqa: PLC0415

        columns = Columns(
            event_name=event_name,
            timestamp=timestamp_column,
            identifier=identifier_column,
            value=value_column,
            customer=customer_column,
            customer_name=customer,
            payload=_keys(payload_column or []),
        )
        summary = run_import(session, file, file_format, columns, errors)
        session.answer(summary, show_import)
    if summary.refused:
        raise typer.Exit(1)


def _keys(given: list[str]) -> dict[str, str]:
    """The payload key of each column; the column's own name where none is given."""
    return {column: key or column for column, _, key in (one.partition("=") for one in given)}
