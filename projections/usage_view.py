"""The usage view: totals, verdicts and changes of one meter, from one consistent state of the read models."""

import heapq
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import msgspec

from ..domain.counting import UsageRecord, effective_by_position, effective_usage
from ..domain.event_time_window import EventTimeWindow, round_up_to_window
from ..domain.rules import Rules
from ..domain.totals import Totals
from .concatenated_usage import joined_span
from .dimensions import NO_GROUPS, DimensionGroups, Group
from .models import AsOf
from .range_totals import TotalsKey, meter_totals, range_totals
from .usage_source import UsageSource
from .windows import complete_windows, overlapping_windows


class UsageVerdict(msgspec.Struct, frozen=True, gc=False):
    """A record and the record that counts in its place: itself, one that supersedes it, or None.

    None counts in place of a record that is cancelled or doesn't match the filter of the meter.
    """

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


class ViewPart(NamedTuple):
    """The part of a view in [start, end): usage under one revision of the rules, and the groups of its dimensions."""

    start: int
    end: int
    source: UsageSource
    groups: DimensionGroups = NO_GROUPS
    revision: int = 1

    @property
    def rules(self) -> Rules:
        """The rules of the part."""
        return self.source.rules

    def round_up(self, at: int) -> int:
        """Return the start of the first window of the part that starts at a time or later; at most its end."""
        return min(max(round_up_to_window(at, self.rules.event_time_window), self.start), self.end)

    def time_span(self, customer_id: int | None) -> tuple[int, int] | None:
        """Return a range that contains all windows with usage of a customer, or of all customers if None.

        The source may be stored under other rules, with shorter windows: its first usage is in a window of the part
        that starts earlier.
        """
        span, window = self.source.time_span(customer_id), self.rules.event_time_window
        return span if span is None or window is None else (span[0] - span[0] % window.microseconds, span[1])


CustomerNames = Callable[[Iterable[int]], Mapping[int, str]]
"""Returns customers by their ids."""


class UsageView:
    """Queries one meter in one consistent state of the read models. Times are microseconds since 1970 UTC.

    Its parts, in order of time, are the revisions of the rules that apply to the usage of the queried range. No window
    of theirs extends over two parts. `customer_names` returns the customers of all parts by their ids.
    """

    def __init__(self, parts: Sequence[ViewPart], customer_names: CustomerNames) -> None:
        self.parts = parts
        self.customer_names = customer_names
        self._starts = [part.start for part in parts]

    def part_at(self, occurred_at: int) -> ViewPart:
        """Return the part with usage that occurred at a time."""
        return self.parts[max(bisect_right(self._starts, occurred_at) - 1, 0)]

    def rules_from(self, start: int) -> Rules:
        """Return the rules of the first window that starts at a time or later.

        They are those of the quantity of a range that starts then, if the rules change at no later bound in it.
        """
        return self.part_at(self.part_at(start).round_up(start)).rules

    def group_of(self, record: UsageRecord) -> Group:
        """Return the group of a record: the dimensions of its part."""
        return self.part_at(record.occurred_at).groups[record.dimensions]

    @property
    def bounds(self) -> tuple[int, int]:
        """The range of the view."""
        return self.parts[0].start, self.parts[-1].end

    @property
    def dimension_keys(self) -> tuple[str, ...]:
        """The dimension keys of all parts, in their order."""
        return tuple(dict.fromkeys(key for part in self.parts for key in part.rules.all_dimension_keys))

    def whole_windows(self, start: int, end: int) -> tuple[int, int]:
        """Return the range of the windows that start in [start, end), which lies in the queried range."""
        return self.part_at(start).round_up(start), self.part_at(end - 1).round_up(end)

    def customer_id(self, customer: str) -> int | None:
        """Return the id of a customer, which is the same in all parts, or None if it has no usage."""
        return next((known for part in self.parts if (known := part.source.customer_id(customer)) is not None), None)

    def time_span(self, customer_id: int | None) -> tuple[int, int] | None:
        """Return a range that contains all windows with usage of a customer, or of all customers if None."""
        return joined_span(part.time_span(customer_id) for part in self.parts)

    def totals(
        self,
        customer_id: int | None,
        boundaries: Sequence[int],
        as_of: AsOf | None = None,
        *,
        are_parts_enough: bool = False,
    ) -> dict[TotalsKey, Totals]:
        """Return the totals by (index of the range between `boundaries`, customer id, group), if there is usage.

        An event time window belongs to the range that it starts in. With `are_parts_enough`, the totals have no unique
        values, and are those of stored parts under each formula.
        """
        totals: dict[TotalsKey, Totals] = {}
        for part in self.parts:
            rounded = [part.round_up(boundary) for boundary in boundaries]
            part_totals = range_totals(
                part.source, customer_id, rounded, as_of, part.groups, are_parts_enough=are_parts_enough
            )
            common = {key: totals[key].merge(part_totals[key]) for key in totals.keys() & part_totals.keys()}
            totals = {**totals, **part_totals, **common} if totals else part_totals
        return totals

    def totals_of_all(self, start: int, end: int, as_of: AsOf | None = None) -> Totals:
        """Return the totals of all customers in [start, end), without their unique values, in little memory."""
        totals = Totals()
        for part in self.parts:
            first, last = max(start, part.start), min(end, part.end)
            totals = totals.merge(meter_totals(part.source, first, last, as_of)) if first < last else totals
        return totals

    def usage_by_customer(self, start: int, end: int, as_of: AsOf | None = None) -> Iterator["CustomerUsage"]:
        """Yield the usage of each customer with records in [start, end), by customer id.

        Many customers are read at once. A customer may be yielded without records in the range: windows that overlap it
        are read completely.
        """
        of_parts = heapq.merge(
            *(_part_usage_by_customer(part, (start, end), as_of) for part in self.parts), key=_CUSTOMER_ID
        )
        for customer_id, usage in groupby(of_parts, _CUSTOMER_ID):
            yield CustomerUsage(customer_id, (start, end), tuple((part, records) for _, part, records in usage))

    def last_changes(self, start: int, end: int, after: int) -> Mapping[int, int] | None:
        """Return, by customer id, the position of the last change after `after` of what counts in [start, end).

        A customer may be returned without such a change. None if it isn't known which customers have changed.
        """
        last: dict[int, int] = {}
        for part in self.parts:
            first, until = overlapping_windows(part.rules.event_time_window, max(start, part.start), min(end, part.end))
            if first >= until:
                continue
            changes = part.source.last_changes(first, until, after)
            if changes is None:
                return None
            last |= {customer_id: max(position, last.get(customer_id, 0)) for customer_id, position in changes.items()}
        return last

    def verdicts(
        self, customer_id: int | None, start: int, end: int, as_of: AsOf | None = None
    ) -> Iterator[UsageVerdict]:
        """Yield every record in [start, end) with its verdict, ordered by (occurred_at, position).

        The range isn't rounded to windows: pass the `bounds` of a view.
        """
        for part in self.parts:
            yield from _part_verdicts(part, customer_id, max(start, part.start), min(end, part.end), as_of)

    def changes(
        self, customer_id: int | None, start: int, end: int, since: AsOf, as_of: AsOf | None = None
    ) -> Iterator[VerdictChange]:
        """Yield every record in [start, end) with its verdicts now and as of `since`, which is earlier.

        Records are ordered by (occurred_at, position). Both verdicts are the same object if its window didn't change.
        The range isn't rounded to windows: pass the `bounds` of a view.
        """
        for part in self.parts:
            yield from _part_changes(part, customer_id, (max(start, part.start), min(end, part.end)), since, as_of)


class CustomerUsage(NamedTuple):
    """The records of one customer in all windows that overlap a range, by part of the view."""

    customer_id: int
    bounds: tuple[int, int]
    parts: tuple[tuple[ViewPart, Sequence[UsageRecord]], ...]

    def counted(self, as_of: AsOf | None = None) -> list[UsageRecord]:
        """Return the records that count in the range, as known as of an earlier point if `as_of` is not None."""
        start, end = self.bounds
        counted: list[UsageRecord] = []
        for part, records in self.parts:
            known = records if as_of is None else [seen for record in records if (seen := as_of.visible(record))]
            counted += [
                record
                for record in effective_usage(known, part.rules.event_time_window)
                if start <= record.occurred_at < end
            ]
        return counted


def _part_usage_by_customer(
    part: ViewPart, bounds: tuple[int, int], as_of: AsOf | None
) -> Iterator[tuple[int, ViewPart, list[UsageRecord]]]:
    start, end = max(bounds[0], part.start), min(bounds[1], part.end)
    if start < end:
        start, end = overlapping_windows(part.rules.event_time_window, start, end)
        for customer_id, records in part.source.usage_by_customer(start, end, as_of):
            yield customer_id, part, records


_CUSTOMER_ID = itemgetter(0)


def _part_verdicts(
    part: ViewPart, customer_id: int | None, start: int, end: int, as_of: AsOf | None
) -> Iterator[UsageVerdict]:
    if start >= end:
        return
    window = part.rules.event_time_window
    if window is None:  # a fast path: grouping the records would take longer than reading them
        for record in part.source.usage_between(customer_id, start, end, as_of):
            yield UsageVerdict(record, record if record.is_active else None)
        return
    for group in complete_windows(part.source, customer_id, start, end, as_of):
        effective = effective_by_position(group, window)
        for record in group:
            if start <= record.occurred_at < end:
                yield UsageVerdict(record, effective.get(record.position))


def _part_changes(
    part: ViewPart, customer_id: int | None, bounds: tuple[int, int], since: AsOf, as_of: AsOf | None
) -> Iterator[VerdictChange]:
    start, end = bounds
    if start >= end:
        return
    window = part.rules.event_time_window
    for group in complete_windows(part.source, customer_id, start, end, as_of):
        known = [earlier for record in group if (earlier := since.visible(record)) is not None]
        now = _verdicts_in(group, window)
        before = now if known == group else _verdicts_in(known, window)
        for record in group:
            if start <= record.occurred_at < end:
                yield VerdictChange(now[record.position], before.get(record.position))


def _verdicts_in(group: Sequence[UsageRecord], window: EventTimeWindow | None) -> dict[int, UsageVerdict]:
    """Return the verdict on each record of complete windows, by its position."""
    effective = effective_by_position(group, window)
    return {record.position: UsageVerdict(record, effective.get(record.position)) for record in group}
