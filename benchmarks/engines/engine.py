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


GroupBy = Callable[[int], list[CountAndSum]]
"""Returns count and sum of each customer, of the events after a position."""


class RawTable(Protocol):
    """The ledger's table of stored events, with its constraints and triggers, written without Tallybook."""

    def insert(self, rows: Sequence[StoredRow]) -> None:
        """Store rows in one durable transaction."""
        ...


class TypedTable(Protocol):
    """The usage of a ledger in typed columns with a covering index, as a team would write it by hand."""

    def total_of(self, customer: str, start: datetime, end: datetime) -> CountAndSum:
        """Return count and sum of a customer."""
        ...

    def totals_by_customer(self, start: datetime, end: datetime) -> list[CountAndSum]:
        """Return count and sum of each customer, ordered by customer."""
        ...

    def totals_by_day(self, customer: str, start: datetime, end: datetime) -> list[CountAndSum]:
        """Return count and sum of each UTC day of a customer, in order."""
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

    def typed_table(self, url: str) -> AbstractContextManager[TypedTable]:
        """Return a typed table with the usage of a ledger, which is removed on exit."""
        ...
