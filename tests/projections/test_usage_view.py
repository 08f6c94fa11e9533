"""The usage view holds little memory, however much usage it reads."""

import tracemalloc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal

from tallybook.domain import Rules
from tallybook.domain.counting import UsageRecord
from tallybook.projections.blocks import UsageBlock
from tallybook.projections.buckets import DAY_SECONDS, bucket_end
from tallybook.projections.models import AsOf, Bucket
from tallybook.projections.totals import Totals
from tallybook.projections.usage_view import UsageView

DAYS = 20_000
DAY = bucket_end(0, DAY_SECONDS)
MAX_BYTES = 500_000


def usage_record(day: int) -> UsageRecord:
    """Return a record with the value 1 at the start of a day."""
    return UsageRecord(1, day * DAY, day + 1, "", Decimal(1), 0)


class DailyUsage:
    """A source with many days of one customer, generated on demand."""

    rules = Rules()
    has_blocks = True

    def __init__(self, bucket_sizes: Sequence[int]) -> None:
        self.bucket_sizes = bucket_sizes

    def customer_id(self, customer: str) -> int | None:
        """Not called."""
        raise NotImplementedError

    def customer_names(self, customer_ids: Iterable[int]) -> Mapping[int, str]:
        """Not called."""
        raise NotImplementedError

    def time_span(self, customer_id: int | None) -> tuple[int, int]:
        """Return the range of all days."""
        return 0, DAYS * DAY

    def buckets_between(self, bucket_seconds: int, customer_id: int | None, start: int, end: int) -> Iterator[Bucket]:
        """Yield one bucket for each day."""
        return (
            Bucket(1, day * DAY, "", Totals.from_usage([usage_record(day)])) for day in range(start // DAY, end // DAY)
        )

    def blocks_between(self, customer_id: int | None, start: int, end: int) -> Iterator[UsageBlock]:
        """Yield one block for each day whose header says that it crosses the end of the range."""
        runs = (
            UsageBlock.from_usage((1, day * DAY, ""), [usage_record(day)]) for day in range(start // DAY, end // DAY)
        )
        return (run._replace(latest=end) for run in runs)

    def usage_in(self, blocks: Sequence[UsageBlock]) -> Iterator[list[UsageRecord]]:
        """Yield the record of each block."""
        return ([usage_record(run.first_position - 1)] for run in blocks)

    def usage_between(self, customer_id: int | None, start: int, end: int, as_of: AsOf | None) -> Iterator[UsageRecord]:
        """Not called."""
        raise NotImplementedError


def peak_bytes(bucket_sizes: Sequence[int]) -> int:
    """Return the peak memory in bytes of a total over one record for each day."""
    view = UsageView(DailyUsage(bucket_sizes))
    tracemalloc.start()
    try:
        totals = view.totals(1, (0, DAYS * DAY))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [total.count for total in totals.values()] == [DAYS]
    return peak


def test_buckets_are_summed_as_they_are_read() -> None:
    """A total over many buckets holds few of them at a time."""
    assert peak_bytes((DAY_SECONDS,)) < MAX_BYTES


def test_blocks_are_decoded_as_they_are_read() -> None:
    """Blocks that cross an edge are read a few at a time."""
    assert peak_bytes(()) < MAX_BYTES
