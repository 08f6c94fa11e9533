"""Statements on the read models of one generation that differ between the stores, and the names of their columns."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Literal, Self, get_args

from ...projections.blocks import BucketKey, UsageBlock

TableName = Literal["meters", "customers", "usage", "unsorted_usage", "totals", "high_water_marks"]
Row = tuple[Any, ...]


@lru_cache(maxsize=100)
def table_names(generation: int) -> tuple[str, ...]:
    """Return the names of a generation's tables."""
    return tuple(f"{table}_{generation}" for table in get_args(TableName))


def qualified_columns(table: str, columns: str) -> str:
    """Return columns qualified by a table."""
    return ", ".join(f"{table}.{column}" for column in columns.split(", "))


class SqlReadModelStatements(ABC):
    """The statements of a store inside one transaction. The placeholder of a statement is a question mark."""

    BUCKET_KEY = "meter, bucket_seconds, start, customer, dimensions"
    BLOCK_KEY = "meter, customer, start, dimensions, first_position"
    TOTALS_COLUMNS = "sum, count, last, last_at, last_position, min_value, max_value"
    BUCKET_VALUES = f"{TOTALS_COLUMNS}, first_change, last_change"
    BLOCK_VALUES = f"earliest, latest, {TOTALS_COLUMNS}, last_change"
    BUCKET_COLUMNS = f"customer, start, dimensions, {BUCKET_VALUES}"
    BLOCK_COLUMNS = f"customer, start, dimensions, first_position, {BLOCK_VALUES}"
    LENGTH_FUNCTION: ClassVar[str]
    """The SQL function that returns the number of bytes of a value."""
    POSITION_FUNCTION: ClassVar[str]
    """The SQL function that returns the position of a text in another one; 0 if it isn't in it."""

    def __init__(self, generation: int, schema: str = "") -> None:
        """Read a generation whose tables are in `schema`: its quoted name with a full stop, or empty."""
        self.generation = generation
        self.schema = schema
        (
            self.meters_table, self.customers_table, self.usage_table, self.unsorted_table, self.totals_table,
            self.marks_table,
        ) = (schema + table for table in table_names(generation))  # fmt: skip

    @abstractmethod
    def for_generation(self, generation: int) -> Self:
        """Return the read models of another generation in the same consistent state. Raise GenerationNotFound."""

    @abstractmethod
    def position(self) -> int:
        """Return the position up to which the ledger is projected."""

    @abstractmethod
    def select(self, statement: str, params: Sequence[object] = ()) -> Iterable[Row]:
        """Return the rows of a statement that selects few rows: at most those of one customer."""

    @abstractmethod
    def stream(self, statement: str, params: Sequence[object] = ()) -> Iterable[Row]:
        """Return an iterator over the rows of a statement; other statements may be executed meanwhile."""

    @abstractmethod
    def select_one(self, statement: str, params: Sequence[object] = ()) -> Row | None:
        """Return the first row of a statement, or None."""

    @abstractmethod
    def select_customer_ids(self, customers: Sequence[str]) -> Iterable[tuple[str, int]]:
        """Return the name and id of each of these customers that exists."""

    @abstractmethod
    def select_customer_names(self, customer_ids: Sequence[int]) -> Iterable[tuple[int, str]]:
        """Return the id and name of each of these customers that exists."""

    @abstractmethod
    def select_all_blocks(self, meter_id: int, bucket_seconds: int, first: int, start: int, end: int) -> Iterable[Row]:
        """Return the blocks of all customers with usage in [start, end), by the start of their bucket.

        The first bucket starts at `first`.
        """

    @abstractmethod
    def select_usage_of_customers(
        self, table: str, meter_id: int, customer_ids: Sequence[int], first: int, start: int, end: int
    ) -> Iterable[Row]:
        """Return the key and the encoded usage of the blocks of these customers with usage in [start, end).

        They are in the order of the customers. The first bucket starts at `first`.
        """

    @abstractmethod
    def select_block_usage(self, meter_id: int, blocks: Sequence[UsageBlock]) -> Iterable[tuple[bytes]]:
        """Return the encoded usage of each block, in the order of the blocks."""

    @abstractmethod
    def select_last_short_blocks(self, meter_id: int, keys: Sequence[BucketKey]) -> Iterable[Row]:
        """Return the last block of each of these buckets, followed by its encoded usage, if the block is short."""

    @abstractmethod
    def select_buckets(
        self, columns: str, meter_id: int, bucket_seconds: int, customer_id: int | None, start: int, end: int
    ) -> Iterable[Row]:
        """Return these columns of the buckets that start in [start, end)."""

    @abstractmethod
    def select_buckets_by_key(self, meter_id: int, bucket_seconds: int, keys: Sequence[BucketKey]) -> Iterable[Row]:
        """Return each of these buckets that exists."""

    @abstractmethod
    def select_buckets_at(
        self, meter_id: int, bucket_seconds: int, offsets: range, keys: Sequence[BucketKey]
    ) -> Iterable[Row]:
        """Return the buckets of a size that start at an offset from the start of each of these keys."""

    @abstractmethod
    def select_blocks_of(self, meter_id: int, keys: Sequence[BucketKey]) -> Iterable[Row]:
        """Return the blocks of each of these buckets, in the order of the ledger.

        Each is followed by its encoded usage if the block is short, else by None.
        """

    @abstractmethod
    def select_unsorted_blocks_of(self, columns: str, meter_id: int, months: Sequence[BucketKey]) -> Iterable[Row]:
        """Return these columns of the unsorted blocks of each of these months, in the order of the ledger."""

    @abstractmethod
    def select_unsorted_sizes(self, meter_id: int, months: Sequence[BucketKey]) -> Iterable[Row]:
        """Return the key of each of these months with unsorted usage, and the length of its encoded usage."""

    def select_value(self, statement: str, params: Sequence[object] = ()) -> Any:
        """Return the first column of the first row of a statement that selects at least one row."""
        row = self.select_one(statement, params)
        assert row is not None
        return row[0]
