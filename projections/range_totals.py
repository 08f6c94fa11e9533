"""Totals of a range, now or as of an earlier point in the ledger, from the largest stored parts that suffice.

A meter's usage is stored in parts with totals: a month consists of days and unsorted blocks, a day of hours if the
meter has hour windows, days and hours consist of blocks, and a block of records. A part counts as a whole if it lies in
one of the requested windows and all of its changes were known. It is skipped if none of its changes was known. Other
parts are opened.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import TypeVar

import msgspec

from ..domain.counting import UsageRecord, effective_usage
from ..domain.event_time_window import EventTimeWindow
from ..domain.rules_schedule import ALL_TIME
from ..domain.totals import Totals
from .blocks import BucketKey, UsageBlock
from .buckets import (
    MONTH_SECONDS,
    RangePart,
    bucket_start,
    cover_range,
    has_unsorted_usage,
    next_bucket_start,
    smaller_size,
)
from .dimensions import NO_GROUPS, DimensionGroups, Group
from .models import AS_OF_HEAD, AsOf, Bucket
from .usage_source import StoredParts, UsageSource
from .windows import complete_windows, totals_by_window

TotalsKey = tuple[int, int, Group]
"""The index of a requested window, a customer id and a group of dimension values."""
PartialTotals = tuple[TotalsKey, Totals]
Part = TypeVar("Part", Bucket, UsageBlock)

_MERGE_BATCH = 20
"""The number of partial totals that are held before they are merged."""
FEW_WINDOWS = 40
"""About so few windows, such as the days of a month, are read without looking up the span of the usage first."""
_OPEN_BATCH = 200
"""The number of parts that are held before they are opened."""


def range_totals(
    source: UsageSource,
    customer_id: int | None,
    boundaries: Sequence[int],
    as_of: AsOf | None,
    groups: DimensionGroups = NO_GROUPS,
    *,
    are_parts_enough: bool = False,
) -> dict[TotalsKey, Totals]:
    """Return the totals by (index of the window between `boundaries`, customer id, group), if there is counted usage.

    `boundaries` are microseconds since 1970 UTC, and starts of event time windows if the meter has them. With
    `are_parts_enough`, they have no unique values, and are those of stored parts under each formula.
    """
    are_parts_enough = are_parts_enough or source.rules.formula.rule.is_stored
    of_customer = _partial_totals(source, customer_id, boundaries, as_of, groups, are_parts_enough)
    return _merge(of_customer, range(len(boundaries) - 1))


def meter_totals(source: UsageSource, start: int, end: int, as_of: AsOf | None) -> Totals:
    """Return the totals of all customers in [start, end) without their unique values.

    They are computed from stored parts, also under a formula whose quantity needs the records, in little memory.
    """
    partial_totals = _partial_totals(source, None, (start, end), as_of, NO_GROUPS, are_parts_enough=True)
    of_all: Iterator[PartialTotals] = (
        (
            (window, 0, group),
            msgspec.structs.replace(totals, unique_values=frozenset()) if totals.unique_values else totals,
        )
        for (window, _, group), totals in partial_totals
    )
    return _merge(of_all, range(1)).get((0, 0, ()), Totals())


def _partial_totals(
    source: UsageSource,
    customer_id: int | None,
    boundaries: Sequence[int],
    as_of: AsOf | None,
    groups: DimensionGroups,
    are_parts_enough: bool,
) -> Iterator[PartialTotals]:
    if source.parts is None or not are_parts_enough:
        ranges = cover_range(_clamp(source, customer_id, boundaries), ())
        of_range = partial(_totals_of_records, source, boundaries, as_of, groups)
        return chain.from_iterable(of_range(range_part, customer_id) for range_part in ranges)
    part_totals = PartTotals(source.parts, source.rules.event_time_window, boundaries, as_of, groups)
    # To find the span of the usage takes as long as to find nothing in a few parts of a range.
    has_few_windows = len(boundaries) <= FEW_WINDOWS + 2
    clamped = boundaries if has_few_windows else _clamp(source, customer_id, boundaries)
    ranges = cover_range(clamped, source.parts.bucket_sizes)
    is_one_statement = len(ranges) == 1 and not has_unsorted_usage(ranges[0].bucket_seconds, source.parts.bucket_sizes)
    if customer_id is None or is_one_statement:
        return chain.from_iterable(part_totals.of_range(range_part, customer_id) for range_part in ranges)
    with source.parts.batch():
        return chain.from_iterable([part_totals.of_range(range_part, customer_id) for range_part in ranges])


def _clamp(source: UsageSource, customer_id: int | None, boundaries: Sequence[int]) -> list[int]:
    """Return the boundaries, moved to the span of the usage if they are outside of it."""
    earliest, latest = source.time_span(customer_id) or (0, 0)
    if source.parts is not None:  # a whole month is read as one bucket, also if the usage begins or ends inside it
        size = source.parts.bucket_sizes[0]
        earliest, latest = bucket_start(earliest, size), next_bucket_start(latest, size)
    return [min(max(boundary, earliest), latest) for boundary in boundaries]


def _merge(partial_totals: Iterable[PartialTotals], windows: range) -> dict[TotalsKey, Totals]:
    """Return the merged totals of the requested windows."""
    merged: dict[TotalsKey, Totals] = {}
    pending: defaultdict[TotalsKey, list[Totals]] = defaultdict(list)
    for key, totals in partial_totals:
        if key[0] not in windows:
            continue
        if key not in merged:  # often the only one
            merged[key] = totals
            continue
        pending[key].append(totals)
        if len(pending[key]) >= _MERGE_BATCH:  # limits memory
            merged[key] = Totals.merge_all((merged[key], *pending.pop(key)))
    merged.update({key: Totals.merge_all((merged[key], *parts)) for key, parts in pending.items()})
    return merged


class PartTotals:
    """Computes partial totals of stored parts as known at `as_of`; some may lie outside of the requested windows."""

    def __init__(
        self,
        parts: StoredParts,
        window: EventTimeWindow | None,
        boundaries: Sequence[int],
        as_of: AsOf | None,
        groups: DimensionGroups,
    ) -> None:
        self._parts = parts
        self._event_time_window = window
        self._boundaries = boundaries
        self._groups = groups
        self._is_current = as_of is None
        self._as_of = AS_OF_HEAD if as_of is None else as_of

    def of_range(self, range_part: RangePart, customer_id: int | None) -> Iterator[PartialTotals]:
        """Return partial totals of all usage in a range."""
        size, start, end = range_part
        stored = self._of_stored_range(range_part, customer_id)
        if not has_unsorted_usage(size, self._parts.bucket_sizes):
            return stored
        unsorted = self._parts.unsorted_between(customer_id, start, end)
        return chain(stored, self._of_blocks(unsorted, (start, end)))

    def _of_stored_range(self, range_part: RangePart, customer_id: int | None) -> Iterator[PartialTotals]:
        size, start, end = range_part
        if size is None:  # event time windows aren't cut by ranges, so this is a meter without them
            return self._of_blocks(self._parts.blocks_between(customer_id, start, end), (start, end))
        if self._is_current:
            current = self._parts.totals_between(size, customer_id, start, end)
            window, groups = self._window_at(start), self._groups
            if window == self._window_at(end - 1):
                return (((window, key[0], groups[key[2]]), totals) for key, totals in current if totals.count)
            return ((self._key(key), totals) for key, totals in current if totals.count)
        return self._of_buckets(size, self._parts.buckets_between(size, customer_id, start, end))

    def _of_buckets(self, size: int, buckets: Iterable[Bucket]) -> Iterator[PartialTotals]:
        """Return the totals of buckets of one size, each of which lies in one requested window."""

        def open_buckets(opened: Sequence[Bucket]) -> Iterator[PartialTotals]:
            keys = [bucket.key for bucket in opened]
            if size > self._parts.bucket_sizes[-1]:
                smaller = self._of_buckets(smaller_size(size), self._parts.buckets_in(size, keys))
                if size != MONTH_SECONDS:
                    return smaller
                return chain(smaller, self._of_blocks(self._parts.unsorted_of(keys)))
            blocks = self._parts.blocks_of(keys)
            if self._event_time_window is None:
                return self._of_blocks(blocks)
            return self._of_event_time_windows(blocks)

        return self._of_parts(buckets, lambda bucket: self._window_at(bucket.key[1]), open_buckets)

    def _of_blocks(self, blocks: Iterable[UsageBlock], bounds: tuple[int, int] = ALL_TIME) -> Iterator[PartialTotals]:
        """Return the totals of the usage in `bounds` of blocks of a meter without an event time window."""
        start, end = bounds

        def window_of(block: UsageBlock) -> int | None:
            if block.earliest < start or block.latest >= end:
                return None
            first, last = self._window_at(block.earliest), self._window_at(block.latest)
            return first if first == last else None

        def open_blocks(opened: Sequence[UsageBlock]) -> Iterator[PartialTotals]:
            for block, records in zip(opened, self._parts.usage_in(opened), strict=True):
                counted, window = self._as_of.counted(records), window_of(block)
                if window is None:
                    in_bounds = (record for record in counted if start <= record.occurred_at < end)
                    yield from _sum(in_bounds, self._boundaries, self._groups)
                elif counted:
                    yield (window, block.key[0], self._groups[block.key[2]]), Totals.from_usage(counted)

        return self._of_parts(blocks, window_of, open_blocks)

    def _of_parts(
        self,
        parts: Iterable[Part],
        window_of: Callable[[Part], int | None],
        open_parts: Callable[[Sequence[Part]], Iterator[PartialTotals]],
    ) -> Iterator[PartialTotals]:
        """Yield the totals of parts. `window_of` returns the requested window of all usage of a part, or None."""
        opened: list[Part] = []
        for part in parts:
            if self._as_of.includes_all(part.changes) and (window := window_of(part)) is not None:
                if part.totals.count:
                    yield (window, part.key[0], self._groups[part.key[2]]), part.totals
            elif self._as_of.includes_some(part.changes):
                opened.append(part)
                if len(opened) >= _OPEN_BATCH:
                    yield from open_parts(opened)
                    opened = []
        if opened:
            yield from open_parts(opened)

    def _of_event_time_windows(self, blocks: Iterable[UsageBlock]) -> Iterator[PartialTotals]:
        """Yield the totals of event time windows, given all blocks of each."""
        for key, totals in totals_by_window(blocks, self._parts.usage_in, self._as_of).items():
            yield self._key(key), totals

    def _key(self, key: BucketKey) -> TotalsKey:
        """Return the requested window that contains the bucket, the customer and the group."""
        return self._window_at(key[1]), key[0], self._groups[key[2]]

    def _window_at(self, at: int) -> int:
        """Return the index of the requested window that contains a time; -1 or an index too high if none does."""
        return bisect_right(self._boundaries, at) - 1


def _totals_of_records(
    source: UsageSource,
    boundaries: Sequence[int],
    as_of: AsOf | None,
    groups: DimensionGroups,
    range_part: RangePart,
    customer_id: int | None,
) -> Iterator[PartialTotals]:
    """Yield partial totals of the records in a range, if there are no stored parts."""
    for group in complete_windows(source, customer_id, range_part.start, range_part.end, as_of):
        yield from _sum(effective_usage(group, source.rules.event_time_window), boundaries, groups)


def _sum(records: Iterable[UsageRecord], boundaries: Sequence[int], groups: DimensionGroups) -> Iterator[PartialTotals]:
    """Yield the totals of records, with their unique values, by requested window, customer and group."""
    parts: defaultdict[TotalsKey, list[UsageRecord]] = defaultdict(list)
    for record in records:
        window = bisect_right(boundaries, record.occurred_at) - 1
        parts[window, record.customer_id, groups[record.dimensions]].append(record)
    for key, part in parts.items():
        yield key, Totals.with_unique_values(part)
