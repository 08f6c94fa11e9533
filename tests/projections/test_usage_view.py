"""The usage view holds little memory, however much usage it reads."""

import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from decimal import Decimal

import msgspec
from tallybook.domain import Rules
from tallybook.domain.counting import UsageRecord
from tallybook.domain.totals import Totals
from tallybook.projections.blocks import BucketKey, UsageBlock
from tallybook.projections.buckets import DAY_SECONDS, bucket_end
from tallybook.projections.change_span import ChangeSpan
from tallybook.projections.models import AsOf, Bucket
from tallybook.projections.usage_source import StoredParts
from tallybook.projections.usage_view import UsageView, ViewPart

DAYS = 20_000
DAY = bucket_end(0, DAY_SECONDS)
MAX_BYTES = 500_000
LATER_POSITION = DAYS + 1
"""The position of an event that changed every day."""


def usage_record(day: int) -> UsageRecord:
    """Return a record with the value 1 at the start of a day."""
    return UsageRecord(1, day * DAY, day + 1, "", Decimal(1), 0)


def block(day: int) -> UsageBlock:
    """Return the block of a day, which was changed by a later event."""
    block = UsageBlock.from_usage((1, day * DAY, ""), [usage_record(day)])
    return msgspec.structs.replace(block, changes=ChangeSpan(day + 1, LATER_POSITION))


class DailyUsage:
    """A source with many days of one customer, generated on demand."""

    rules = Rules()
    bucket_sizes = (DAY_SECONDS,)

    @property
    def parts(self) -> StoredParts:
        """The source itself."""
        return self

    def batch(self) -> AbstractContextManager[None]:
        """Do nothing."""
        return nullcontext()

    def customer_id(self, customer: str) -> int | None:
        """Not called."""
        raise AssertionError("totals of whole days do not need this")

    def time_span(self, customer_id: int | None) -> tuple[int, int]:
        """Return the range of all days."""
        return 0, DAYS * DAY

    def totals_between(
        self, bucket_seconds: int, customer_id: int | None, start: int, end: int
    ) -> Iterator[tuple[BucketKey, Totals]]:
        """Yield the totals of each day."""
        return ((block(day).key, block(day).totals) for day in range(start // DAY, end // DAY))

    def buckets_between(self, bucket_seconds: int, customer_id: int | None, start: int, end: int) -> Iterator[Bucket]:
        """Yield one bucket for each day."""
        return (Bucket.from_parts(block(day).key, [block(day)]) for day in range(start // DAY, end // DAY))

    def buckets_in(self, bucket_seconds: int, keys: Sequence[BucketKey]) -> Iterator[Bucket]:
        """Not called."""
        raise AssertionError("totals of whole days do not need this")

    def blocks_between(self, customer_id: int | None, start: int, end: int) -> Iterator[UsageBlock]:
        """Yield one block for each day, also of days after `end`, whose header says that it crosses `end`."""
        return (msgspec.structs.replace(block(day), earliest=start, latest=end) for day in range(start // DAY, DAYS))

    def blocks_of(self, keys: Sequence[BucketKey]) -> Iterator[UsageBlock]:
        """Yield the block of each day."""
        return (block(start // DAY) for _, start, _ in keys)

    def unsorted_between(self, customer_id: int | None, start: int, end: int) -> Iterator[UsageBlock]:
        """Yield nothing: all usage is in order."""
        return iter(())

    def unsorted_of(self, months: Sequence[BucketKey]) -> Iterator[UsageBlock]:
        """Not called."""
        raise AssertionError("there are no months")

    def usage_in(self, blocks: Sequence[UsageBlock]) -> Iterator[list[UsageRecord]]:
        """Yield the record of each block."""
        return ([usage_record(block.first_position - 1)] for block in blocks)

    def usage_between(self, customer_id: int | None, start: int, end: int, as_of: AsOf | None) -> Iterator[UsageRecord]:
        """Not called."""
        raise AssertionError("totals of whole days do not need this")

    def usage_by_customer(self, start: int, end: int, as_of: AsOf | None) -> Iterator[tuple[int, list[UsageRecord]]]:
        """Not called."""
        raise AssertionError("totals of whole days do not need this")

    def last_changes(self, start: int, end: int, after: int) -> Mapping[int, int] | None:
        """Not called."""
        raise AssertionError("totals of whole days do not need this")


def peak_bytes(end: int, as_of: AsOf | None = None) -> int:
    """Return the peak memory in bytes of a total over one record for each day."""
    view = UsageView([ViewPart(0, DAYS * DAY, DailyUsage())], lambda _: {})
    tracemalloc.start()
    try:
        totals = view.totals(1, (0, end), as_of)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [total.count for total in totals.values()] == [-(-end // DAY)]
    return peak


def test_buckets_are_summed_as_they_are_read() -> None:
    """A total over many buckets holds few of them at a time."""
    assert peak_bytes(DAYS * DAY) < MAX_BYTES


def test_blocks_are_decoded_as_they_are_read() -> None:
    """Blocks that cross the edge of a range within a day are read a few at a time."""
    assert peak_bytes(1) < MAX_BYTES


def test_buckets_that_changed_since_are_opened_as_they_are_read() -> None:
    """Neither the buckets nor their blocks are held until all are read."""
    assert peak_bytes(DAYS * DAY, AsOf(position=LATER_POSITION - 1)) < MAX_BYTES
