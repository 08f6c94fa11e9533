"""The protocols that projections require: the ledger, the storage of read models, and worker processes."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, TypeVar

from ..domain.counting import UsageRecord
from ..domain.meter_event import MeterEvent
from ..domain.totals import Totals
from .blocks import BucketKey, UsageBlock, UsageRow
from .high_water_marks import HighWaterMark
from .models import AsOf, Bucket, CancellationMark, LedgerEvent, PinnedRules, ProjectedMeter, RawPage

USAGE_RECORDED = MeterEvent.UsageRecorded.__name__
"""The topic of recorded meter events."""
EVENT_CANCELLED = MeterEvent.EventCancelled.__name__
"""The topic of cancellations."""
CANCEL_REVOKED = MeterEvent.CancelRevoked.__name__
"""The topic of revocations of cancellations."""
CANCELLATION_TOPICS = frozenset({EVENT_CANCELLED, CANCEL_REVOKED})
"""The topics of events that refer to a meter event that was recorded before."""

Result = TypeVar("Result")


class LedgerReader(Protocol):
    """Reads the stored events of the ledger."""

    def head(self) -> int:
        """Return the position of the newest event; 0 if the ledger is empty."""
        ...

    def read_page(self, after: int, limit: int) -> Sequence[LedgerEvent]:
        """Return up to `limit` events after the position `after`, in order."""
        ...


class BulkLedgerReader(LedgerReader, Protocol):
    """Also reads whole pages as one JSON document."""

    @property
    def supports_concurrent_reads(self) -> bool:
        """Whether a thread may read the ledger while other threads write."""
        ...

    def read_page_bulk(self, after: int, limit: int) -> RawPage:
        """Return up to `limit` events after the position `after`, assembled by the database.

        The interpreter lock is free while the database works.
        """
        ...


class TableRow(NamedTuple):
    """One row of the read models, independent of the database: its key and its other cells.

    `cells` is None if the row can't be read.
    """

    key: tuple[int | str | None, ...]
    cells: tuple[object, ...] | None


class ReadModelReader(Protocol):
    """Reads one generation of the read models in one consistent state."""

    @property
    def generation(self) -> int:
        """The number of the generation."""
        ...

    def for_generation(self, generation: int) -> "ReadModelReader":
        """Return a reader of another generation in the same consistent state. Raises GenerationNotFound."""
        ...

    def batch(self) -> AbstractContextManager[None]:
        """Let the store read what several calls return at once. Iterate over what they return after the batch."""
        ...

    def ledger_head(self) -> int | None:
        """Return the position of the ledger's newest event in the same consistent state; None if it isn't known."""
        ...

    def next_events(self) -> Sequence[LedgerEvent]:
        """Return the ledger's event at the position of the read models and some after it, if the store knows them."""
        ...

    def pinned(self) -> PinnedRules:
        """Return the meters, by name, that are folded under other rules than the configured ones."""
        ...

    def position(self) -> int:
        """Return the position up to which the ledger is projected."""
        ...

    def ledger_fingerprint(self) -> str | None:
        """Return the fingerprint of the event at that position."""
        ...

    def page_id(self) -> str | None:
        """Return the id of the last page that was written before this session; None before the first."""
        ...

    def latest_recorded_at(self) -> int:
        """Return the latest time of recording, in microseconds since 1970 UTC, of the events up to that position."""
        ...

    def last_mark_at(self, moment: int) -> int:
        """Return the last position with a high-water mark that isn't later than a moment; 0 if there is none."""
        ...

    def meters(self) -> Mapping[str, ProjectedMeter]:
        """Return the meters by event name."""
        ...

    def customer_id(self, customer: str) -> int | None:
        """Return the id of a customer, or None if it has no rows."""
        ...

    def customer_ids(self, customers: Sequence[str]) -> Mapping[str, int]:
        """Return the ids of those of these customers that have rows."""
        ...

    def last_customer_id(self) -> int:
        """Return the highest customer id; 0 if there is none."""
        ...

    def customer_names(self, customer_ids: Iterable[int]) -> Mapping[int, str]:
        """Return the customers by their ids."""
        ...

    def find_customers(self, text: str, limit: int) -> Sequence[str]:
        """Return up to `limit` customers whose names contain `text`: those that start with it first, by name.

        ASCII letters inside of a name match in either case.
        """
        ...

    def usage_between(
        self,
        meter_id: int,
        customer_id: int | None,
        bucket_seconds: int,
        start: int,
        end: int,
        as_of: AsOf | None = None,
    ) -> Iterator[UsageRecord]:
        """Yield the records in [start, end), ordered by (occurred_at, position), as known as of `as_of`.

        `customer_id` None selects all customers. `bucket_seconds` is the size of the buckets of the blocks.
        """
        ...

    def customers_after(self, meter_id: int, customer_id: int, limit: int) -> Sequence[int]:
        """Return the next `limit` customer ids after `customer_id` with usage of the meter at any time, in order."""
        ...

    def usage_of_customers(
        self,
        meter_id: int,
        customer_ids: Sequence[int],
        bucket_seconds: int,
        start: int,
        end: int,
        as_of: AsOf | None = None,
    ) -> Iterator[tuple[int, list[UsageRecord]]]:
        """Yield each of these customers that has records in [start, end), in their order, with these in order of time.

        The records of many customers are read by one statement.
        """
        ...

    def blocks_between(
        self, meter_id: int, customer_id: int | None, bucket_seconds: int, start: int, end: int
    ) -> Iterator[UsageBlock]:
        """Yield the blocks with usage in [start, end), ordered by bucket; of all customers if `customer_id` is None."""
        ...

    def blocks_of(self, meter_id: int, keys: Sequence[BucketKey]) -> Iterator[UsageBlock]:
        """Yield all blocks of each bucket among `keys`, in ledger order."""
        ...

    def unsorted_blocks_of(self, meter_id: int, months: Sequence[BucketKey]) -> Iterator[UsageBlock]:
        """Yield the unsorted blocks of each month among `months`, with their encoded records, in ledger order."""
        ...

    def unsorted_blocks_between(
        self, meter_id: int, customer_id: int | None, start: int, end: int
    ) -> Iterator[UsageBlock]:
        """Yield the unsorted blocks with usage in [start, end), with their encoded records.

        `customer_id` None selects all customers.
        """
        ...

    def usage_in(self, meter_id: int, blocks: Sequence[UsageBlock]) -> Iterator[list[UsageRecord]]:
        """Yield the records of each block, in ledger order."""
        ...

    def totals_between(
        self, meter_id: int, bucket_seconds: int, customer_id: int | None, start: int, end: int
    ) -> Iterator[tuple[BucketKey, Totals]]:
        """Yield the key and the totals of each bucket that starts in [start, end).

        This is faster than `buckets_between`, which also reads the spans of changes.
        """
        ...

    def buckets_between(
        self, meter_id: int, bucket_seconds: int, customer_id: int | None, start: int, end: int
    ) -> Iterator[Bucket]:
        """Yield the buckets that start in [start, end)."""
        ...

    def buckets_in(self, meter_id: int, bucket_seconds: int, keys: Sequence[BucketKey]) -> Iterator[Bucket]:
        """Yield the buckets of the next smaller size in each bucket among `keys`, which are of one size."""
        ...

    def changes_after(
        self, meter_id: int, bucket_seconds: int, start: int, end: int, position: int
    ) -> Iterable[tuple[int, int]]:
        """Return the customers with a change after a position in buckets that start in [start, end), and the last one.

        A change is a recorded meter event or a cancellation; its position is returned.
        """
        ...

    def time_span(self, meter_id: int, customer_id: int | None, bucket_seconds: int) -> tuple[int, int] | None:
        """Return the starts of the first and the last bucket with usage; of all customers if `customer_id` is None."""
        ...

    def table_names(self) -> Sequence[str]:
        """Return the names of all tables, for `table_rows`."""
        ...

    def table_rows(self, table: str) -> Iterator[TableRow]:
        """Yield all rows of a table, ordered by key; usage records one by one, even if they are stored in blocks."""
        ...


class ReadModelWriter(ReadModelReader, Protocol):
    """Writes one generation of the read models, in the transaction of one page."""

    def upsert_meter(self, meter: ProjectedMeter) -> None:
        """Insert or replace a meter."""
        ...

    def add_customers(self, customer_ids: Mapping[str, int]) -> None:
        """Insert new customers with their ids."""
        ...

    def last_short_blocks(self, meter_id: int, keys: Sequence[BucketKey]) -> Iterable[UsageBlock]:
        """Return the last stored block of each of these buckets, with its encoded records, if it is short."""
        ...

    def add_blocks(
        self, meter_id: int, blocks: Sequence[UsageBlock], last_short_blocks: Iterable[UsageBlock]
    ) -> Mapping[BucketKey, UsageBlock]:
        """Insert new blocks with their records, which come later in the ledger than all stored blocks.

        The first new block of a bucket is appended to its block among `last_short_blocks`. Return the last block of
        each bucket, with its encoded records.
        """
        ...

    def unsorted_sizes(self, meter_id: int, months: Sequence[BucketKey]) -> Iterable[tuple[BucketKey, int]]:
        """Return the size of the encoded unsorted usage of each of these months that has any."""
        ...

    def all_unsorted_sizes(self, meter_id: int) -> Iterable[tuple[BucketKey, int]]:
        """Return the size of the encoded unsorted usage of each month of a meter, the oldest first."""
        ...

    def unsorted_rows_of(
        self, meter_id: int, months: Sequence[BucketKey]
    ) -> Iterator[tuple[BucketKey, Sequence[UsageRow]]]:
        """Yield the unsorted records of each month among `months`, in ledger order."""
        ...

    def add_unsorted_blocks(self, meter_id: int, blocks: Sequence[UsageBlock]) -> None:
        """Insert unsorted blocks, whose keys are those of months, with their records."""
        ...

    def delete_unsorted_blocks(self, meter_id: int, months: Sequence[BucketKey]) -> None:
        """Delete the unsorted usage of months."""
        ...

    def mark_cancelled(self, meter_id: int, cancellations: Iterable[CancellationMark]) -> Sequence[CancellationMark]:
        """Apply cancellations and revocations to their records, in order; return those that can't be applied.

        The record doesn't exist, is cancelled already, or isn't cancelled, in the case of a revocation.
        """
        ...

    def upsert_buckets(self, meter_id: int, bucket_seconds: int, buckets: Iterable[Bucket]) -> None:
        """Insert or replace buckets by key, also empty ones."""
        ...

    def buckets_of(self, meter_id: int, bucket_seconds: int, keys: Sequence[BucketKey]) -> Iterable[Bucket]:
        """Return the stored buckets of a size among `keys`."""
        ...

    def add_high_water_marks(self, marks: Sequence[HighWaterMark]) -> None:
        """Insert the marks of new positions."""
        ...

    def advance_position(self, position: int, fingerprint: str, latest: int, page_id: str) -> None:
        """Set the projected position, in the same transaction as the rows.

        `fingerprint` identifies the event at `position`, to detect another ledger. `latest` is the latest time of
        recording of the events since the position before. `page_id` identifies the page that was written.
        """
        ...


PageFold = Callable[[ReadModelReader], "Callable[[ReadModelWriter], None] | None"]
"""Folds the page after the reader's position and returns a function that writes it; None if there is no next page."""


class ReadModelStore(Protocol):
    """Stores the read models of one generation."""

    def read_session(self) -> AbstractContextManager[ReadModelReader]:
        """Open a reader of one consistent state."""
        ...

    def write_session(self) -> AbstractContextManager[ReadModelWriter]:
        """Open an exclusive writer; its transaction is committed at the end, or rolled back on an error."""
        ...

    def apply_next_page(self, fold: PageFold) -> int:
        """Fold and write the next page in one transaction; return the position reached.

        Pages are applied one at a time; a concurrent caller continues after the page that was applied.
        """
        ...


class ResettableReadModelStore(ReadModelStore, Protocol):
    """All generations of read models of one ledger."""

    def session_after_next_page(self, fold: PageFold) -> AbstractContextManager[ReadModelReader]:
        """Apply the next page as `apply_next_page` does, and open a reader of the live generation after it."""
        ...

    def generation_heads(self) -> Sequence[tuple[int, str | None]]:
        """Return the projected position of each generation and the fingerprint of the event at it."""
        ...

    def reset(self) -> None:
        """Delete all generations and create one without rows."""
        ...


class WorkerLost(Exception):
    """A worker process ended before it returned a result."""


class WorkerPool(Protocol):
    """Worker processes that call functions for this process."""

    def submit(self, job: Callable[[], Result]) -> "Future[Result]":
        """Run a job on a thread of this process; the job may use `call`. Raises WorkerLost."""
        ...

    def call(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Return the result of an importable function, called in a worker process. Raises WorkerLost."""
        ...

    def mark_lost(self, error: WorkerLost) -> None:
        """Terminate the pool, because a worker was lost."""
        ...


class WorkerPoolProvider(Protocol):
    """Provides pools of worker processes."""

    def size_for(self, events: int) -> int:
        """Return how many workers to start for this many events; 0 to use none."""
        ...

    def pool(self, size: int) -> AbstractContextManager[WorkerPool]:
        """Provide a pool of `size` workers."""
        ...
