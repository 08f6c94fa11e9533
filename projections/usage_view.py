"""The usage view: what the read models answer. The same rules give figures, lists and explanations."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from ..domain.counting import Usage, counted, survivors, window_start
from ..domain.rules import EventTimeWindow
from .buckets import bucket_end, bucket_sizes, pieces
from .rows import AsOf, ProjectedMeter, Rows
from .totals import Totals


class Standing(NamedTuple):
    """A usage and the one that counts in its place: itself, a later arrival, or none as it is cancelled."""

    usage: Usage
    counts: Usage | None


class UsageView:
    """Answers about one meter, from one consistent state of the read models. Times are microseconds since 1970 UTC."""

    def __init__(self, rows: Rows, meter: ProjectedMeter) -> None:
        self.rows = rows
        self.meter = meter
        self.window = meter.rules.event_time_window

    def totals(
        self, customer: int | None, boundaries: Sequence[int], as_of: AsOf | None = None
    ) -> dict[tuple[int, int], Totals]:
        """Totals by (index of the window between `boundaries`, customer), where there is usage that counts.

        Now, they are read from buckets as far as these lie within the windows; as of an earlier moment, from the
        usage rows as they were.
        """
        totals: defaultdict[tuple[int, int], Totals] = defaultdict(Totals)
        sizes = bucket_sizes(self.window) if as_of is None else ()
        for piece in pieces(boundaries, sizes):
            for customer_number, at, part in self._parts(piece.bucket_seconds, customer, piece.start, piece.end, as_of):
                key = (bisect_right(boundaries, at) - 1, customer_number)
                totals[key] = totals[key].merge(part)
        return dict(totals)

    def extent(self, customer: int | None) -> tuple[int, int] | None:
        """A range [start, end) that holds all usage of `customer`, or of everyone where None."""
        if customer is not None:
            ends = self.rows.extent(self.meter.number, customer)
            return None if ends is None else (ends[0], ends[1] + 1)
        smallest = bucket_sizes(self.window)[-1]
        starts = self.rows.full_extent(self.meter.number, smallest)
        return None if starts is None else (starts[0], bucket_end(starts[1], smallest))

    def standings(
        self, customer: int | None, start: int, end: int, as_of: AsOf | None = None
    ) -> Iterator[Standing]:
        """Every usage in [start, end), by (occurred_at, position), with the one that counts in its place."""
        for group in self._whole_windows(customer, start, end, as_of):
            standing = survivors(group, self.window)
            for usage in group:
                if start <= usage.occurred_at < end:
                    yield Standing(usage, standing.get(usage.position))

    def _parts(
        self, bucket_seconds: int | None, customer: int | None, start: int, end: int, as_of: AsOf | None
    ) -> Iterator[tuple[int, int, Totals]]:
        if bucket_seconds is not None:
            for bucket in self.rows.buckets(self.meter.number, bucket_seconds, customer, start, end):
                if bucket.totals.count:
                    yield bucket.customer, bucket.start, bucket.totals
            return
        for group in self._whole_windows(customer, start, end, as_of):
            for usage in counted(group, self.window):
                if start <= usage.occurred_at < end:
                    yield usage.customer, usage.occurred_at, Totals.of((usage,))

    def _whole_windows(
        self, customer: int | None, start: int, end: int, as_of: AsOf | None
    ) -> Iterator[Sequence[Usage]]:
        """The usages of each window that touches [start, end), whole: what is overwritten is decided before the range."""
        if self.window is None:
            for usage in self._usages(customer, start, end, as_of):
                yield (usage,)
            return
        first, last = window_start(start, self.window), -window_start(-end, self.window)
        yield from _by_window(self._usages(customer, first, last, as_of), self.window)

    def _usages(self, customer: int | None, start: int, end: int, as_of: AsOf | None) -> Iterator[Usage]:
        if customer is not None:
            return self.rows.usages(self.meter.number, customer, start, end, as_of)
        return self.rows.all_usages(self.meter.number, bucket_sizes(self.window)[-1], start, end, as_of)


def _by_window(usages: Iterable[Usage], window: EventTimeWindow) -> Iterator[Sequence[Usage]]:
    for _, group in groupby(usages, lambda usage: window_start(usage.occurred_at, window)):
        yield list(group)
