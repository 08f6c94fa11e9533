"""A typed table of usage with a covering index, as a team would write it by hand on SQLite."""

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from .engine import CountAndSum, GroupTotal, Quantity, exact_average

CREATE_TYPED_TABLE = (
    (
        "CREATE TABLE usage (event_name TEXT NOT NULL, customer TEXT NOT NULL, model TEXT,"
        " occurred_at INTEGER NOT NULL, value INTEGER NOT NULL)"
    ),
    """INSERT INTO usage
    SELECT json_extract(e, '$.event_name'), json_extract(e, '$.payload.customer'), json_extract(e, '$.payload.model'),
           CAST(strftime('%s', substr(json_extract(e, '$.occurred_at'), 1, 19)) AS INTEGER) * 1000000
           + CAST(substr(rtrim(substr(json_extract(e, '$.occurred_at'), 21), 'Z') || '000000', 1, 6) AS INTEGER),
           CAST(json_extract(e, '$.payload.tokens') AS INTEGER)
    FROM (SELECT CAST(state AS TEXT) AS e FROM ledger.stored_events WHERE topic = 'UsageRecorded')""",
    "CREATE INDEX usage_covered ON usage (event_name, {index}, value)",
    "ANALYZE",
)
QUANTITIES: Mapping[str, str] = {
    "sum": "sum(value)",
    "count": "count(*)",
    "last": "value, max(occurred_at)",  # SQLite takes the other column from the row with the maximum
    "max": "max(value)",
    "min": "min(value)",
    "avg": "sum(value), count(*)",  # avg() is not exact
    "unique_count": "count(DISTINCT value)",
}
"""The quantity of each formula; of avg, its numerator and denominator."""
_MONTH = "event_name = 'tokens' AND occurred_at >= ? AND occurred_at < ?"
_DAY = 86_400_000_000


class SQLiteTypedTable:
    """The usage of a ledger in typed columns. Times are in microseconds."""

    def __init__(self, connection: sqlite3.Connection, ledger: Path, index: Sequence[str]) -> None:
        self._connection = connection
        connection.execute("ATTACH ? AS ledger", (str(ledger),))
        for statement in CREATE_TYPED_TABLE:
            connection.execute(statement.format(index=", ".join(index)))
        connection.execute("DETACH ledger")

    def insert(self, customer: str, at: datetime, value: int) -> None:
        """Store the usage of a customer in one durable transaction."""
        row = customer, int(at.timestamp()) * 1_000_000, value
        self._connection.execute("INSERT INTO usage VALUES ('tokens', ?, NULL, ?, ?)", row)

    def total_of(self, customer: str, start: datetime, end: datetime) -> CountAndSum:
        """Return count and sum of a customer."""
        cursor = self._connection.execute(
            f"SELECT count(*), sum(value) FROM usage WHERE {_MONTH} AND customer = ?", (*_range(start, end), customer)
        )
        counted, total = cursor.fetchone()
        return customer, counted, Decimal(total or 0)

    def totals_by_customer(self, start: datetime, end: datetime) -> list[CountAndSum]:
        """Return count and sum of each customer, ordered by customer."""
        rows = self._connection.execute(
            f"SELECT customer, count(*), sum(value) FROM usage WHERE {_MONTH} GROUP BY customer ORDER BY customer",
            _range(start, end),
        )
        return [(customer, counted, Decimal(total)) for customer, counted, total in rows]

    def totals_by_day(self, customer: str, start: datetime, end: datetime) -> list[CountAndSum]:
        """Return count and sum of each UTC day of a customer, in order."""
        rows = self._connection.execute(
            f"SELECT occurred_at / {_DAY}, count(*), sum(value) FROM usage WHERE {_MONTH} AND customer = ?"
            " GROUP BY 1 ORDER BY 1",
            (*_range(start, end), customer),
        )
        return [(_date(day), counted, Decimal(total)) for day, counted, total in rows]

    def totals_by_group(self, start: datetime, end: datetime) -> list[GroupTotal]:
        """Return count and sum of each customer and model, ordered by both."""
        rows = self._connection.execute(
            f"SELECT customer, model, count(*), sum(value) FROM usage WHERE {_MONTH}"
            " GROUP BY customer, model ORDER BY customer, model",
            _range(start, end),
        )
        return [(customer, model, counted, Decimal(total)) for customer, model, counted, total in rows]

    def quantities(self, formula: str, customer: str | None, start: datetime, end: datetime) -> list[Quantity]:
        """Return the quantity of a customer under a formula; of each customer, in order, if `customer` is None."""
        columns, condition = f"customer, {QUANTITIES[formula]}", _MONTH
        order, arguments = "GROUP BY customer ORDER BY customer", (*_range(start, end),)
        if customer is not None:
            condition, arguments = f"{_MONTH} AND customer = ?", (*arguments, customer)
            if formula == "last":
                columns, order = "customer, value", "ORDER BY occurred_at DESC LIMIT 1"
        rows = self._connection.execute(f"SELECT {columns} FROM usage WHERE {condition} {order}", arguments)
        if formula == "avg":
            return [(name, exact_average(total, counted)) for name, total, counted in rows]
        return [(name, Decimal(quantity)) for name, quantity, *_ in rows]


def _range(start: datetime, end: datetime) -> tuple[int, int]:
    return int(start.timestamp()) * 1_000_000, int(end.timestamp()) * 1_000_000


def _date(day: int) -> str:
    return f"{datetime.fromtimestamp(day * 86_400, UTC):%Y-%m-%d}"
