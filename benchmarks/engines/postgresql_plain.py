"""What a team would write by hand on PostgreSQL: usage in a typed table, with an index that covers the questions."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from psycopg import Connection
from psycopg.sql import SQL, Composed, Identifier

from .engine import Counted

PLAIN = (
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


class PostgreSQLPlainTable:
    """The usage of a ledger in typed columns."""

    def __init__(self, connection: Connection[Any], url: str) -> None:
        self._connection = connection
        for statement in PLAIN:
            connection.execute(named(url, statement))
        usage = "FROM {schema}.usage WHERE " + _MONTH
        self._one = named(url, f"SELECT count(*), sum(value) {usage} AND customer = %s")
        self._each = named(url, f"SELECT customer, count(*), sum(value) {usage} GROUP BY customer ORDER BY customer")
        self._days = named(
            url,
            "SELECT to_char(date_trunc('day', occurred_at, 'UTC') AT TIME ZONE 'UTC', 'YYYY-MM-DD'), count(*),"
            f" sum(value) {usage} AND customer = %s GROUP BY date_trunc('day', occurred_at, 'UTC') ORDER BY 1",
        )

    def one(self, customer: str, start: datetime, end: datetime) -> Counted:
        """Count and sum of a customer."""
        ((counted, total),) = self._connection.execute(self._one, (start, end, customer)).fetchall()
        return customer, counted, Decimal(total or 0)

    def each(self, start: datetime, end: datetime) -> list[Counted]:
        """Count and sum of each customer, ordered by customer."""
        return self._connection.execute(self._each, (start, end)).fetchall()

    def days(self, customer: str, start: datetime, end: datetime) -> list[Counted]:
        """Count and sum of each UTC day of a customer, in order."""
        return self._connection.execute(self._days, (start, end, customer)).fetchall()


def named(url: str, statement: str) -> Composed:
    """A statement about the schemas of the ledger at `url`: `{schema}` and `{views}`."""
    schema = url.rpartition("schema=")[2]
    return SQL(statement).format(  # pyright: ignore[reportArgumentType] - they stand in these files
        schema=Identifier(schema), views=Identifier(f"{schema}_views")
    )
