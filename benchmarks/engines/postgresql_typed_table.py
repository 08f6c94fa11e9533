"""A typed table of usage with a covering index, as a team would write it by hand on PostgreSQL."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from psycopg import Connection
from psycopg.sql import SQL, Composable, Composed, Identifier

from .engine import CountAndSum, GroupTotal, Quantity, exact_average

CREATE_TYPED_TABLE = (
    """CREATE TABLE {table} (event_name TEXT COLLATE "C" NOT NULL, customer TEXT COLLATE "C" NOT NULL,
    model TEXT COLLATE "C", occurred_at TIMESTAMPTZ NOT NULL, value BIGINT NOT NULL)""",
    """INSERT INTO {table}
    SELECT e ->> 'event_name', e -> 'payload' ->> 'customer', e -> 'payload' ->> 'model',
           (e ->> 'occurred_at')::timestamptz, (e -> 'payload' ->> 'tokens')::bigint
    FROM (SELECT convert_from(state, 'UTF8')::jsonb AS e FROM {schema}.stored_events WHERE topic = 'UsageRecorded'
          OFFSET 0) AS stored""",
    "CREATE INDEX ON {table} (event_name, {index}) INCLUDE (value)",
    "VACUUM ANALYZE {table}",
)
QUANTITIES: Mapping[str, str] = {
    "sum": "sum(value)",
    "count": "count(*)",
    "max": "max(value)",
    "min": "min(value)",
    "avg": "sum(value), count(*)",  # avg() is not exact
    "unique_count": "count(DISTINCT value)",
}
"""The quantity of each formula but last; of avg, its numerator and denominator."""
_MONTH = "event_name = 'tokens' AND occurred_at >= %s AND occurred_at < %s"


class PostgreSQLTypedTable:
    """The usage of a ledger in typed columns."""

    def __init__(self, connection: Connection[Any], url: str, index: Sequence[str]) -> None:
        self._connection = connection
        self._url = url
        self._names = {
            "table": Identifier(schema_name(url), f"usage_by_{index[0]}"),
            "index": SQL(", ").join(map(Identifier, index)),
        }
        for statement in CREATE_TYPED_TABLE:
            connection.execute(self._statement(statement))
        self._insert_sql = self._statement("INSERT INTO {table} VALUES ('tokens', %s, NULL, %s, %s)")
        usage = "FROM {table} WHERE " + _MONTH
        self._total_sql = self._statement(f"SELECT count(*), sum(value) {usage} AND customer = %s")
        self._totals_by_customer_sql = self._statement(
            f"SELECT customer, count(*), sum(value) {usage} GROUP BY customer ORDER BY customer"
        )
        self._totals_by_day_sql = self._statement(
            "SELECT to_char(date_trunc('day', occurred_at, 'UTC') AT TIME ZONE 'UTC', 'YYYY-MM-DD'), count(*),"
            f" sum(value) {usage} AND customer = %s GROUP BY date_trunc('day', occurred_at, 'UTC') ORDER BY 1",
        )
        self._totals_by_group_sql = self._statement(
            f"SELECT customer, model, count(*), sum(value) {usage} GROUP BY customer, model ORDER BY customer, model"
        )

    def drop(self) -> None:
        """Remove the table."""
        self._connection.execute(self._statement("DROP TABLE {table}"))

    def insert(self, customer: str, at: datetime, value: int) -> None:
        """Store the usage of a customer in one durable transaction."""
        self._connection.execute(self._insert_sql, (customer, at, value))

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

    def totals_by_group(self, start: datetime, end: datetime) -> list[GroupTotal]:
        """Return count and sum of each customer and model, ordered by both."""
        return self._connection.execute(self._totals_by_group_sql, (start, end)).fetchall()

    def quantities(self, formula: str, customer: str | None, start: datetime, end: datetime) -> list[Quantity]:
        """Return the quantity of a customer under a formula; of each customer, in order, if `customer` is None."""
        condition, arguments = _MONTH, (start, end)
        if customer is not None:
            condition, arguments = f"{_MONTH} AND customer = %s", (start, end, customer)
        if formula == "last":
            columns, order = "DISTINCT ON (customer) customer, value", "ORDER BY customer, occurred_at DESC"
            if customer is not None:
                columns, order = "customer, value", "ORDER BY occurred_at DESC LIMIT 1"
        else:
            columns, order = f"customer, {QUANTITIES[formula]}", "GROUP BY customer ORDER BY customer"
        statement = self._statement(f"SELECT {columns} FROM {{table}} WHERE {condition} {order}")
        rows = self._connection.execute(statement, arguments).fetchall()
        if formula == "avg":
            return [(name, exact_average(total, counted)) for name, total, counted in rows]
        return [(name, Decimal(quantity)) for name, quantity in rows]

    def _statement(self, statement: str) -> Composed:
        return format_statement(self._url, statement, **self._names)


def format_statement(url: str, statement: str, **names: Composable) -> Composed:
    """Insert the schemas of the ledger at `url`, `{schema}` and `{read_models}`, and other names into a statement."""
    schema = schema_name(url)
    return SQL(statement).format(  # pyright: ignore[reportArgumentType] - all statements are constants
        schema=Identifier(schema), read_models=Identifier(f"{schema}_read_models"), **names
    )


def schema_name(url: str) -> str:
    """Return the name of the schema of the ledger at `url`."""
    return url.rpartition("schema=")[2]
