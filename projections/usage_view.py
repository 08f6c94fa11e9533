"""The usage view: what the read models answer. The same rules give figures, lists and explanations."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import msgspec

from ..domain.counting import Usage, counted, survivors, window_start
from .buckets import HOUR_SECONDS, Piece, bucket_end, pieces
from .rows import AsOf
from .runs import Run
from .totals import Totals
from .usage_source import UsageSource

_AT_A_TIME = bucket_end(0, HOUR_SECONDS)
"""Where every event stands for itself, an hour's are looked at together."""
_PARTS_AT_A_TIME = 20
"""So many parts of a figure are held before they are added up."""
_RUNS_AT_A_TIME = 200
"""So many runs are held before they are opened."""


class Standing(msgspec.Struct, frozen=True, gc=False):
    """A usage and the one that counts in its place: itself, a later arrival, or none as it is cancelled."""

    usage: Usage
    counts: Usage | None

    @property
    def is_counted(self) -> bool:
        """Whether the usage counts."""
        return self.counts is self.usage


class Change(NamedTuple):
    """A usage as it stands, and as it stood at an earlier moment; `before` is None where it wasn't known then."""

    now: Standing
    before: Standing | None


class UsageView:
    """Answers about one meter, from one consistent state of the read models. Times are microseconds since 1970 UTC."""

    def __init__(self, source: UsageSource) -> None:
        self.source = source
        self.rules = source.rules
        self.window = source.rules.event_time_window

    def totals(
        self, customer: int | None, boundaries: Sequence[int], as_of: AsOf | None = None
    ) -> dict[tuple[int, int], Totals]:
        """Totals by (index of the window between `boundaries`, customer), where there is usage that counts.

        Now, they are read from buckets as far as these lie within the windows; as of an earlier moment, from the
        usage rows as they were.
        """
        parts: defaultdict[tuple[int, int], list[Totals]] = defaultdict(list)
        sizes = self.source.bucket_sizes if as_of is None else ()
        used_from, used_to = self.source.extent(customer) or (0, 0)
        used = [min(max(boundary, used_from), used_to) for boundary in boundaries]
        for piece in pieces(used, sizes):
            for key, part in self._parts(piece, customer, boundaries, as_of):
                parts[key].append(part)
                if len(parts[key]) >= _PARTS_AT_A_TIME:  # or all buckets of all customers would be held until the end
                    parts[key] = [Totals.together(parts[key])]
        return {key: Totals.together(of) for key, of in parts.items()}

    def standings(self, customer: int | None, start: int, end: int, as_of: AsOf | None = None) -> Iterator[Standing]:
        """Every usage in [start, end), by (occurred_at, position), with the one that counts in its place."""
        if self.window is None:  # said in full: to look at them by groups would take longer than to read them
            for usage in self.source.usages(customer, start, end, as_of):
                yield Standing(usage, usage if usage.cancelled_position is None else None)
            return
        for group in self._whole_windows(customer, start, end, as_of):
            counts = survivors(group, self.window)
            for usage in group:
                if start <= usage.occurred_at < end:
                    yield Standing(usage, counts.get(usage.position))

    def changes(
        self, customer: int | None, start: int, end: int, since: AsOf, as_of: AsOf | None = None
    ) -> Iterator[Change]:
        """Every usage in [start, end), by (occurred_at, position), with what it was as of `since`, which is earlier.

        Where nothing happened in its window since, both are one.
        """
        for group in self._whole_windows(customer, start, end, as_of):
            known = [then for usage in group if (then := since.knew(usage)) is not None]
            now = self._standing(group)
            before = now if known == group else self._standing(known)
            for usage in group:
                if start <= usage.occurred_at < end:
                    yield Change(now[usage.position], before.get(usage.position))

    def _standing(self, group: Sequence[Usage]) -> dict[int, Standing]:
        """How each of `group`, whole windows, stands, by its position."""
        counts = survivors(group, self.window)
        return {usage.position: Standing(usage, counts.get(usage.position)) for usage in group}

    def _parts(
        self, piece: Piece, customer: int | None, boundaries: Sequence[int], as_of: AsOf | None
    ) -> Iterator[tuple[tuple[int, int], Totals]]:
        """Totals of parts of `piece`, each by its window between `boundaries` and its customer."""
        size, start, end = piece
        if size is not None:
            for bucket in self.source.buckets(size, customer, start, end):
                if bucket.totals.count:
                    yield (bisect_right(boundaries, bucket.start) - 1, bucket.customer), bucket.totals
            return
        if as_of is None and self.source.has_runs:
            yield from self._parts_of_runs(customer, start, end, boundaries)
            return
        for group in self._whole_windows(customer, start, end, as_of):
            yield from _parts_of(counted(group, self.window), start, end, boundaries)

    def _parts_of_runs(
        self, customer: int | None, start: int, end: int, boundaries: Sequence[int]
    ) -> Iterator[tuple[tuple[int, int], Totals]]:
        """The same where every event stands for itself: what whole runs add up to; others are opened."""
        reaching_over: list[Run] = []
        for run in self.source.runs(customer, start, end):
            window = bisect_right(boundaries, run.earliest)
            if start <= run.earliest and run.latest < end and window == bisect_right(boundaries, run.latest):
                if run.totals.count:
                    yield (window - 1, run.key[0]), run.totals
            else:
                reaching_over.append(run)
            if len(reaching_over) >= _RUNS_AT_A_TIME:
                yield from self._parts_of_opened(reaching_over, start, end, boundaries)
                reaching_over = []
        yield from self._parts_of_opened(reaching_over, start, end, boundaries)

    def _parts_of_opened(
        self, runs: Sequence[Run], start: int, end: int, boundaries: Sequence[int]
    ) -> Iterator[tuple[tuple[int, int], Totals]]:
        for usages in self.source.usages_of(runs):
            yield from _parts_of(counted(usages, None), start, end, boundaries)

    def _whole_windows(
        self, customer: int | None, start: int, end: int, as_of: AsOf | None
    ) -> Iterator[Sequence[Usage]]:
        """The usages of each window that touches [start, end), whole: what counts is decided before the cut."""
        width = _AT_A_TIME
        if self.window is not None:
            start, end = window_start(start, self.window), -window_start(-end, self.window)
            width = self.window.microseconds
        usages = self.source.usages(customer, start, end, as_of)
        for _, group in groupby(usages, lambda usage: usage.occurred_at // width):
            yield list(group)


def _parts_of(
    usages: Sequence[Usage], start: int, end: int, boundaries: Sequence[int]
) -> Iterator[tuple[tuple[int, int], Totals]]:
    """Totals of those of `usages` that lie in [start, end), by their window between `boundaries` and customer."""
    parts: defaultdict[tuple[int, int], list[Usage]] = defaultdict(list)
    for usage in usages:
        if start <= usage.occurred_at < end:
            parts[bisect_right(boundaries, usage.occurred_at) - 1, usage.customer].append(usage)
    for key, part in parts.items():
        yield key, Totals.of(part)
