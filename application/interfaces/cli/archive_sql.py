"""The command `archive sql`, and the SQL of an explanation."""

from typing import TYPE_CHECKING, Annotated

import typer

from .option_groups import DimensionOptions, TimeRangeOptions, with_option_groups
from .options import DEFAULT_LEDGER, AsOfOption, GroupByOption, JsonOption, LedgerOption, MeterArgument
from .session import Session, open_for_query

if TYPE_CHECKING:
    from ...archive.sql.document import SqlDocument

CustomerOption = Annotated[
    str | None, typer.Option(metavar="CUSTOMER", help="The customer. The total of each customer by default.")
]
_DIALECTS = "duckdb, spark, postgres, sqlite or clickhouse"
DialectOption = Annotated[str, typer.Option(metavar="DIALECT", help=f"The dialect of SQL: {_DIALECTS}.")]
ExplainDialectOption = Annotated[
    str | None,
    typer.Option("--dialect", metavar="DIALECT", help=f"The dialect of --sql: {_DIALECTS}. The ledger's by default."),
]


@with_option_groups
def sql(
    meter: MeterArgument,
    *,
    customer: CustomerOption = None,
    time: TimeRangeOptions,
    as_of: AsOfOption = None,
    dimensions: DimensionOptions,
    group_by: GroupByOption = None,
    dialect: DialectOption = "duckdb",
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Print SQL for the totals of a period.

    It computes them from the stored events: what the ledger returns as of a position, to the last digit. SQLite and
    PostgreSQL run it on the ledger itself, the other engines on an archive: adapt the path in the view.
    """
    with open_for_query(ledger, as_json) as session:
        span, known = session.time_range(time, as_of, dimensions)
        queries, where, groups = session.metering.sql, dimensions.parse(), group_by or ()
        if customer is None:
            document = queries.totals(
                meter, span.start, span.end, dialect=dialect, as_of=known, where=where, group_by=groups
            )
        else:
            document = queries.total(
                meter, customer, span.start, span.end, dialect=dialect, as_of=known, where=where, group_by=groups
            )
        print_document(session, document)


def print_document(session: Session, document: "SqlDocument") -> None:
    """Print SQL."""
    session.print(document, lambda document: typer.echo(document.text, nl=False))


def dialect_of_ledger(url: str) -> str:
    """Return the dialect of the database that a ledger is stored in."""
    return "postgres" if url.startswith("postgres") else "sqlite"
