"""A typed table of usage with a covering index, as a team would write it by hand on PostgreSQL."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from psycopg import Connection
from psycopg.sql import SQL, Composed, Identifier

from .engine import CountAndSum

CREATE_TYPED_TABLE = (
    """CREATE TABLE {schema}.usage (event_name TEXT COLLATE "C" NOT NULL, customer TEXT COLLATE "C" NOT NULL,
    occurred_at TIMESTAMPTZ NOT NULL, value BIGINT NOT NULL)""",
    """INSERT INTO {schema}.usage
    SELECT e ->> 'event_name', e -> 'payload' ->> 'customer', (e ->> 'occurred_at')::timestamptz,
           (e -> 'payload' ->> 'tokens')::bigint
    FROM (SELECT convert_from(state, 'UTF8')::jsonb AS e FROM {schema}.stored_events WHERE topic = 'UsageRecorded'
          OFFSET 0) AS stored""",
    "CREATE INDEX ON {schema}.usage (event_name, customer, occurred_at) INCLUDE (value)",
    "VACUUM ANALYZE {schema}.usage",
)
_MONTH = "event_name = 'tokens' AND occurred_at >= %s AND occurred_at < %s"


class PostgreSQLTypedTable:
    """The usage of a ledger in typed columns."""

    def __init__(self, connection: Connection[Any], url: str) -> None:
        self._connection = connection
        for statement in CREATE_TYPED_TABLE:
            connection.execute(format_statement(url, statement))
        usage = "FROM {schema}.usage WHERE " + _MONTH
        self._total_sql = format_statement(url, f"SELECT count(*), sum(value) {usage} AND customer = %s")
        self._totals_by_customer_sql = format_statement(
            url, f"SELECT customer, count(*), sum(value) {usage} GROUP BY customer ORDER BY customer"
        )
        self._totals_by_day_sql = format_statement(
            url,
            "SELECT to_char(date_trunc('day', occurred_at, 'UTC') AT TIME ZONE 'UTC', 'YYYY-MM-DD'), count(*),"
            f" sum(value) {usage} AND customer = %s GROUP BY date_trunc('day', occurred_at, 'UTC') ORDER BY 1",
        )

    def total_of(self, customer: str, start: datetime, end: datetime) -> CountAndSum:
        """Return count and sum of a customer."""
        ((counted, total),) = self._connection.execute(self._total_sql, (start, end, customer)).fetchall()
        return customer, counted, Decimal(total or 0)

    def totals_by_customer(self, start: datetime, end: datetime) -> list[CountAndSum]:
        """Return count and sum of each customer, ordered by customer."""
        return self._connection.execute(self._totals_by_customer_sql, (start, end)).fetchall()

    def totals_by_day(self, customer: str, start: datetime, end: datetime) -> list[CountAndSum]:
        """Return count and sum of each UTC day of a customer, in order."""
        return self._connection.execute(self._totals_by_day_sql, (start, end, customer)).fetchall()


def format_statement(url: str, statement: str) -> Composed:
    """Insert the schemas of the ledger at `url` into a statement: `{schema}` and `{read_models}`."""
    schema = url.rpartition("schema=")[2]
    return SQL(statement).format(  # pyright: ignore[reportArgumentType] - all statements are constants
        schema=Identifier(schema), read_models=Identifier(f"{schema}_read_models")
    )
