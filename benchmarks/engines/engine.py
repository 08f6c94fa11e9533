"""What an engine by itself has to offer, to be measured against: raw rows, its GROUP BY, and a plain typed table."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from decimal import Decimal
from typing import Protocol

StoredRow = tuple[str, int, str, bytes]
"""A row of `stored_events`: stream, version, topic and state."""
Counted = tuple[str, int, Decimal]
"""A customer, or the day as a date, with count and sum."""


Grouping = Callable[[int], list[Counted]]
"""Gives count and sum of each customer, of all that was recorded after a position."""


class RawTable(Protocol):
    """A table of stored events like the ledger's own, with all that guards it, written without Tallybook."""

    def insert(self, rows: Sequence[StoredRow]) -> None:
        """Store rows in one durable transaction."""
        ...


class PlainTable(Protocol):
    """The usage of a ledger in typed columns, with an index that covers the questions: what a team writes by hand."""

    def one(self, customer: str, start: datetime, end: datetime) -> Counted:
        """Count and sum of a customer."""
        ...

    def each(self, start: datetime, end: datetime) -> list[Counted]:
        """Count and sum of each customer, ordered by customer."""
        ...

    def days(self, customer: str, start: datetime, end: datetime) -> list[Counted]:
        """Count and sum of each UTC day of a customer, in order."""
        ...


class Engine(Protocol):
    """A database engine, with ledgers on it and what is measured against them."""

    name: str
    """As in `--store`."""
    insert_name: str
    """How raw rows are written."""
    group_name: str
    """How the stored JSON is grouped, as one writes it."""
    groupings: Mapping[str, str]
    """That statement by its name, and quicker ones if there are any."""

    def version(self) -> str:
        """Its name and version."""
        ...

    def new_url(self) -> str:
        """Where a ledger can be made that nobody has made yet."""
        ...

    def delete(self, url: str) -> None:
        """Remove a ledger and its read models."""
        ...

    def delete_views(self, url: str) -> None:
        """Remove the read models of a ledger that nobody has open."""
        ...

    def settle(self, url: str) -> None:
        """Let the engine do what it does after much was written, before anything is measured."""
        ...

    def stored_rows(self, url: str) -> Iterator[StoredRow]:
        """The rows of a ledger, by position."""
        ...

    def raw_table(self, url: str) -> AbstractContextManager[RawTable]:
        """The table of the ledger at `url`, where nothing but its meter is configured."""
        ...

    def grouping(self, url: str, name: str) -> AbstractContextManager[Grouping]:
        """One GROUP BY over the stored JSON of a ledger, on a connection that is open."""
        ...

    def plain_table(self, url: str) -> AbstractContextManager[PlainTable]:
        """The usage of a ledger in a plain typed table, which is removed afterwards."""
        ...
