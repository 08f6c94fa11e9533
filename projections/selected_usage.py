"""The usage of a meter with some dimension values only: the source of a query with conditions on dimensions."""

from collections.abc import Iterator

from ..domain.counting import UsageRecord
from ..domain.totals import Totals
from .blocks import BucketKey, UsageBlock
from .dimensions import DimensionFilter
from .models import AsOf, Bucket
from .usage_source import CustomerRecords, StoredParts, UsageSource


class SelectedUsage:
    """A usage source that passes on the records and parts whose dimension values `selected` contains.

    A window counts one event for each combination of dimension values, so the selection drops whole windows.
    """

    def __init__(self, source: UsageSource, selected: DimensionFilter) -> None:
        self.rules = source.rules
        self.customer_id = source.customer_id
        self.time_span = source.time_span
        self.last_changes = source.last_changes
        self.parts: StoredParts | None = None if source.parts is None else _SelectedParts(source.parts, selected)
        self._source = source
        self._selected = selected

    def usage_between(self, customer_id: int | None, start: int, end: int, as_of: AsOf | None) -> Iterator[UsageRecord]:
        """Yield the records in [start, end), ordered by (occurred_at, position), as known as of `as_of`."""
        selected, records = self._selected, self._source.usage_between(customer_id, start, end, as_of)
        return (record for record in records if selected[record.dimensions])

    def usage_by_customer(self, start: int, end: int, as_of: AsOf | None) -> Iterator[CustomerRecords]:
        """Yield each customer that has records in [start, end), by id, with these in order of time."""
        for customer_id, records in self._source.usage_by_customer(start, end, as_of):
            if selected := [record for record in records if self._selected[record.dimensions]]:
                yield customer_id, selected


class _SelectedParts:
    """The stored parts of selected dimension values. Parts that are opened come from those that were selected."""

    def __init__(self, parts: StoredParts, selected: DimensionFilter) -> None:
        self.bucket_sizes = parts.bucket_sizes
        self.batch = parts.batch
        self.buckets_in = parts.buckets_in
        self.blocks_of = parts.blocks_of
        self.unsorted_of = parts.unsorted_of
        self.usage_in = parts.usage_in
        self._parts = parts
        self._selected = selected

    def totals_between(
        self, bucket_seconds: int, customer_id: int | None, start: int, end: int
    ) -> Iterator[tuple[BucketKey, Totals]]:
        """Yield the key and the totals of each selected bucket of one size that starts in [start, end)."""
        selected, all_totals = self._selected, self._parts.totals_between(bucket_seconds, customer_id, start, end)
        return ((key, totals) for key, totals in all_totals if selected[key[2]])

    def buckets_between(self, bucket_seconds: int, customer_id: int | None, start: int, end: int) -> Iterator[Bucket]:
        """Yield the selected buckets of one size that start in [start, end)."""
        selected, buckets = self._selected, self._parts.buckets_between(bucket_seconds, customer_id, start, end)
        return (bucket for bucket in buckets if selected[bucket.key[2]])

    def blocks_between(self, customer_id: int | None, start: int, end: int) -> Iterator[UsageBlock]:
        """Yield the selected blocks with usage in [start, end)."""
        selected, blocks = self._selected, self._parts.blocks_between(customer_id, start, end)
        return (block for block in blocks if selected[block.key[2]])

    def unsorted_between(self, customer_id: int | None, start: int, end: int) -> Iterator[UsageBlock]:
        """Yield the selected unsorted blocks with usage in [start, end)."""
        selected, blocks = self._selected, self._parts.unsorted_between(customer_id, start, end)
        return (block for block in blocks if selected[block.key[2]])


def select_usage(source: UsageSource, selected: DimensionFilter | None) -> UsageSource:
    """Return the usage with the selected dimension values; the source itself if all are selected."""
    return source if selected is None else SelectedUsage(source, selected)
