"""Event time windows: their complete records, and the one record that counts in each."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

from ..domain.counting import UsageRecord, window_start
from ..domain.event_time_window import EventTimeWindow
from ..domain.totals import Totals
from .blocks import BucketKey, UsageBlock
from .buckets import HOUR_SECONDS, bucket_end
from .models import AS_OF_HEAD, AsOf
from .usage_source import UsageSource

UsageReader = Callable[[Sequence[UsageBlock]], Iterator[list[UsageRecord]]]
"""Returns the records of each block, in ledger order."""

_GROUP_MICROSECONDS = bucket_end(0, HOUR_SECONDS)
"""Without an event time window, records are processed in groups of one hour."""


def complete_windows(
    source: UsageSource, customer_id: int | None, start: int, end: int, as_of: AsOf | None
) -> Iterator[Sequence[UsageRecord]]:
    """Yield the records of each window that overlaps [start, end), completely: superseding ignores the range."""
    window = source.rules.event_time_window
    width = _GROUP_MICROSECONDS if window is None else window.microseconds
    start, end = overlapping_windows(window, start, end)
    records = source.usage_between(customer_id, start, end, as_of)
    for _, group in groupby(records, lambda record: record.occurred_at // width):
        yield list(group)


def overlapping_windows(window: EventTimeWindow | None, start: int, end: int) -> tuple[int, int]:
    """Return the range of all windows that overlap [start, end); the range itself without an event time window."""
    return (start, end) if window is None else (window_start(start, window), -window_start(-end, window))


def totals_by_window(
    blocks: Iterable[UsageBlock], read_usage: UsageReader, as_of: AsOf = AS_OF_HEAD
) -> dict[BucketKey, Totals]:
    """Return the totals of each window with a counted record, by the key of its bucket.

    `blocks` are all blocks of each window, in ledger order. The last record that was known and not cancelled counts, so
    the blocks before the block of this record aren't read.
    """
    remaining: defaultdict[BucketKey, list[UsageBlock]] = defaultdict(list)
    for block in blocks:
        remaining[block.key].append(block)
    totals: dict[BucketKey, Totals] = {}
    while remaining:
        totals.update(_last_counted([stack.pop() for stack in remaining.values()], read_usage, as_of))
        for key in [key for key, stack in remaining.items() if not stack or key in totals]:
            del remaining[key]
    return totals


def _last_counted(
    blocks: Sequence[UsageBlock], read_usage: UsageReader, as_of: AsOf
) -> Iterator[tuple[BucketKey, Totals]]:
    """Yield the totals of the last counted record of each block that has one."""
    opened: list[UsageBlock] = []
    for block in blocks:
        if as_of.includes_all(block.changes) and block.totals.count <= 1:
            if block.totals.count:
                yield block.key, block.totals
        elif as_of.includes_some(block.changes):
            opened.append(block)
    for block, records in zip(opened, read_usage(opened), strict=True):
        counted = as_of.counted(records)
        if counted:
            yield block.key, Totals.from_usage(counted[-1:])
