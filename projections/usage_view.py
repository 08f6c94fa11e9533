"""The usage view: totals, verdicts and changes of one meter, from one consistent state of the read models."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from ..domain.counting import UsageRecord, effective_by_position
from ..domain.totals import Totals
from .dimensions import NO_GROUPS, DimensionGroups
from .models import AsOf
from .range_totals import TotalsKey, range_totals
from .usage_source import UsageSource
from .windows import complete_windows


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


class UsageView:
    """Queries one meter in one consistent state of the read models. Times are microseconds since 1970 UTC."""

    def __init__(self, source: UsageSource) -> None:
        self.source = source
        self.rules = source.rules
        self.window = source.rules.event_time_window

    def totals(
        self,
        customer_id: int | None,
        boundaries: Sequence[int],
        as_of: AsOf | None = None,
        groups: DimensionGroups = NO_GROUPS,
    ) -> dict[TotalsKey, Totals]:
        """Return the totals by (index of the window between `boundaries`, customer id, group), if there is usage."""
        return range_totals(self.source, customer_id, boundaries, as_of, groups)

    def verdicts(
        self, customer_id: int | None, start: int, end: int, as_of: AsOf | None = None
    ) -> Iterator[UsageVerdict]:
        """Yield every record in [start, end) with its verdict, ordered by (occurred_at, position)."""
        if self.window is None:  # a fast path: grouping the records would take longer than reading them
            for record in self.source.usage_between(customer_id, start, end, as_of):
                yield UsageVerdict(record, record if record.is_active else None)
            return
        for group in complete_windows(self.source, customer_id, start, end, as_of):
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
        for group in complete_windows(self.source, customer_id, start, end, as_of):
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
