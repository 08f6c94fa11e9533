"""The usage view: totals, verdicts and changes of one meter, from one consistent state of the read models."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import msgspec

from ..domain.counting import UsageRecord, effective_by_position, effective_usage, window_start
from .blocks import UsageBlock
from .buckets import HOUR_SECONDS, RangePart, bucket_end, cover_range
from .models import AsOf
from .totals import Totals
from .usage_source import UsageSource

_GROUP_MICROSECONDS = bucket_end(0, HOUR_SECONDS)
"""Without an event time window, records are processed in groups of one hour."""
_MERGE_BATCH = 20
"""The number of partial totals that are held before they are merged."""
_BLOCK_BATCH = 200
"""The number of blocks that are held before their records are read."""


class UsageVerdict(msgspec.Struct, frozen=True, gc=False):
    """A record and the record that counts in its place: itself, one that supersedes it, or None if it is cancelled."""

    record: UsageRecord
    effective: UsageRecord | None

    @property
    def is_counted(self) -> bool:
        """Whether the record counts."""
        return self.effective is self.record


class VerdictChange(NamedTuple):
    """The verdict on a record now and as of an earlier time; `before` is None if it was recorded later."""

    now: UsageVerdict
    before: UsageVerdict | None


class UsageView:
    """Queries one meter in one consistent state of the read models. Times are microseconds since 1970 UTC."""

    def __init__(self, source: UsageSource) -> None:
        self.source = source
        self.rules = source.rules
        self.window = source.rules.event_time_window

    def totals(
        self, customer_id: int | None, boundaries: Sequence[int], as_of: AsOf | None = None
    ) -> dict[tuple[int, int], Totals]:
        """Return the totals by (index of the window between `boundaries`, customer id), for those with counted usage.

        Current totals are read from buckets, as far as these lie within one window; totals as of an earlier time are
        computed from the records as known then.
        """
        parts: defaultdict[tuple[int, int], list[Totals]] = defaultdict(list)
        sizes = self.source.bucket_sizes if as_of is None else ()
        earliest, latest = self.source.time_span(customer_id) or (0, 0)
        clamped = [min(max(boundary, earliest), latest) for boundary in boundaries]
        for range_part in cover_range(clamped, sizes):
            for key, part in self._partial_totals(range_part, customer_id, boundaries, as_of):
                parts[key].append(part)
                if len(parts[key]) >= _MERGE_BATCH:  # limits memory
                    parts[key] = [Totals.merge_all(parts[key])]
        return {key: Totals.merge_all(partial_totals) for key, partial_totals in parts.items()}

    def verdicts(
        self, customer_id: int | None, start: int, end: int, as_of: AsOf | None = None
    ) -> Iterator[UsageVerdict]:
        """Yield every record in [start, end) with its verdict, ordered by (occurred_at, position)."""
        if self.window is None:  # a fast path: grouping the records would take longer than reading them
            for record in self.source.usage_between(customer_id, start, end, as_of):
                yield UsageVerdict(record, record if record.cancelled_position is None else None)
            return
        for group in self._complete_windows(customer_id, start, end, as_of):
            effective = effective_by_position(group, self.window)
            for record in group:
                if start <= record.occurred_at < end:
                    yield UsageVerdict(record, effective.get(record.position))

    def changes(
        self, customer_id: int | None, start: int, end: int, since: AsOf, as_of: AsOf | None = None
    ) -> Iterator[VerdictChange]:
        """Yield every record in [start, end) with its verdicts now and as of `since`, which is earlier.

        Records are ordered by (occurred_at, position). Both verdicts are the same object if its window didn't change.
        """
        for group in self._complete_windows(customer_id, start, end, as_of):
            known = [earlier for record in group if (earlier := since.visible(record)) is not None]
            now = self._verdicts_in(group)
            before = now if known == group else self._verdicts_in(known)
            for record in group:
                if start <= record.occurred_at < end:
                    yield VerdictChange(now[record.position], before.get(record.position))

    def _verdicts_in(self, group: Sequence[UsageRecord]) -> dict[int, UsageVerdict]:
        """Return the verdict on each record of complete windows, by its position."""
        effective = effective_by_position(group, self.window)
        return {record.position: UsageVerdict(record, effective.get(record.position)) for record in group}

    def _partial_totals(
        self, range_part: RangePart, customer_id: int | None, boundaries: Sequence[int], as_of: AsOf | None
    ) -> Iterator[tuple[tuple[int, int], Totals]]:
        """Yield partial totals of a part, each with the index of its window and its customer id."""
        size, start, end = range_part
        if size is not None:
            for bucket in self.source.buckets_between(size, customer_id, start, end):
                if bucket.totals.count:
                    yield (bisect_right(boundaries, bucket.start) - 1, bucket.customer_id), bucket.totals
            return
        if as_of is None and self.source.has_blocks:
            yield from self._partial_totals_of_blocks(customer_id, start, end, boundaries)
            return
        for group in self._complete_windows(customer_id, start, end, as_of):
            yield from _totals_by_window(effective_usage(group, self.window), start, end, boundaries)

    def _partial_totals_of_blocks(
        self, customer_id: int | None, start: int, end: int, boundaries: Sequence[int]
    ) -> Iterator[tuple[tuple[int, int], Totals]]:
        """Yield the totals of blocks that lie within one window; read the records of all other blocks."""
        partial_blocks: list[UsageBlock] = []
        for block in self.source.blocks_between(customer_id, start, end):
            window = bisect_right(boundaries, block.earliest)
            if start <= block.earliest and block.latest < end and window == bisect_right(boundaries, block.latest):
                if block.totals.count:
                    yield (window - 1, block.key[0]), block.totals
            else:
                partial_blocks.append(block)
            if len(partial_blocks) >= _BLOCK_BATCH:
                yield from self._partial_totals_of_opened(partial_blocks, start, end, boundaries)
                partial_blocks = []
        yield from self._partial_totals_of_opened(partial_blocks, start, end, boundaries)

    def _partial_totals_of_opened(
        self, blocks: Sequence[UsageBlock], start: int, end: int, boundaries: Sequence[int]
    ) -> Iterator[tuple[tuple[int, int], Totals]]:
        for records in self.source.usage_in(blocks):
            yield from _totals_by_window(effective_usage(records, None), start, end, boundaries)

    def _complete_windows(
        self, customer_id: int | None, start: int, end: int, as_of: AsOf | None
    ) -> Iterator[Sequence[UsageRecord]]:
        """Yield the records of each window that overlaps [start, end), completely: superseding ignores the range."""
        width = _GROUP_MICROSECONDS
        if self.window is not None:
            start, end = window_start(start, self.window), -window_start(-end, self.window)
            width = self.window.microseconds
        records = self.source.usage_between(customer_id, start, end, as_of)
        for _, group in groupby(records, lambda record: record.occurred_at // width):
            yield list(group)


def _totals_by_window(
    records: Sequence[UsageRecord], start: int, end: int, boundaries: Sequence[int]
) -> Iterator[tuple[tuple[int, int], Totals]]:
    """Yield the totals of the records in [start, end), by the index of their window and customer id."""
    parts: defaultdict[tuple[int, int], list[UsageRecord]] = defaultdict(list)
    for record in records:
        if start <= record.occurred_at < end:
            parts[bisect_right(boundaries, record.occurred_at) - 1, record.customer_id].append(record)
    for key, part in parts.items():
        yield key, Totals.from_usage(part)
