"""The interface of an engine: the operations with which Tallybook is compared."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from decimal import Decimal
from typing import Protocol

StoredRow = tuple[str, int, str, bytes]
"""A row of `stored_events`: stream, version, topic and state."""
CountAndSum = tuple[str, int, Decimal]
"""A customer or an ISO date, with count and sum."""


GroupTotal = tuple[str, str, int, Decimal]
"""A customer and a model, with count and sum."""
Quantity = tuple[str, Decimal]
"""A customer and the quantity under a formula."""
BY_CUSTOMER, BY_GROUP, BY_TIME = (
    ("customer", "occurred_at"),
    ("customer", "model", "occurred_at"),
    ("occurred_at", "customer", "model"),
)
"""The columns of covering indexes of a typed table, after the event name and before the value."""


GroupBy = Callable[[int], list[CountAndSum]]
"""Returns count and sum of each customer, of the events after a position."""


def exact_average(total: Decimal | int, count: int) -> Decimal:
    """Return an average as Tallybook returns it: exact up to 15 digits after the point."""
    return round(Decimal(total) / count, 15)


class RawTable(Protocol):
    """The ledger's table of stored events, with its constraints and triggers, written without Tallybook."""

    def insert(self, rows: Sequence[StoredRow]) -> None:
        """Store rows in one durable transaction."""
        ...


class TypedTable(Protocol):
    """The usage of a ledger in typed columns with a covering index, as a team would write it by hand."""

    def insert(self, customer: str, at: datetime, value: int) -> None:
        """Store the usage of a customer in one durable transaction."""
        ...

    def total_of(self, customer: str, start: datetime, end: datetime) -> CountAndSum:
        """Return count and sum of a customer."""
        ...

    def totals_by_customer(self, start: datetime, end: datetime) -> list[CountAndSum]:
        """Return count and sum of each customer, ordered by customer."""
        ...

    def totals_by_day(self, customer: str, start: datetime, end: datetime) -> list[CountAndSum]:
        """Return count and sum of each UTC day of a customer, in order."""
        ...

    def totals_by_group(self, start: datetime, end: datetime) -> list[GroupTotal]:
        """Return count and sum of each customer and model, ordered by both."""
        ...

    def quantities(self, formula: str, customer: str | None, start: datetime, end: datetime) -> list[Quantity]:
        """Return the quantity of a customer under a formula; of each customer, in order, if `customer` is None."""
        ...


class Engine(Protocol):
    """A database engine that stores ledgers, with the raw operations for comparison."""

    name: str
    """The value of `--store`."""
    insert_name: str
    """The name of the method that inserts raw rows."""
    group_name: str
    """The name of the usual statement that groups the stored JSON."""
    groupings: Mapping[str, str]
    """The statements that group the stored JSON, by name: the usual one, and faster ones if any."""

    def version(self) -> str:
        """Return the name and version of the engine."""
        ...

    def new_url(self) -> str:
        """Return the URL of a ledger that does not exist."""
        ...

    def delete(self, url: str) -> None:
        """Remove a ledger and its read models."""
        ...

    def delete_read_models(self, url: str) -> None:
        """Remove the read models of a ledger that is not open."""
        ...

    def settle(self, url: str) -> None:
        """Run the engine's maintenance after a large write, before a measurement."""
        ...

    def stored_rows(self, url: str) -> Iterator[StoredRow]:
        """Yield the rows of a ledger, ordered by position."""
        ...

    def raw_table(self, url: str) -> AbstractContextManager[RawTable]:
        """Return the table of the ledger at `url`, which contains only its meter."""
        ...

    def group_by(self, url: str, name: str) -> AbstractContextManager[GroupBy]:
        """Return a GROUP BY over the stored JSON of a ledger, on an open connection."""
        ...

    def storage_bytes(self, url: str) -> tuple[int, int]:
        """Return the storage of a ledger that is not open, and that of its read models, with their indexes."""
        ...

    def typed_table(self, url: str, index: Sequence[str] = BY_CUSTOMER) -> AbstractContextManager[TypedTable]:
        """Return a typed table with the usage of a ledger and a covering index, which is removed on exit."""
        ...
