"""The source of a view's usage: its records and, if they are stored, its parts with totals."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache, partial
from itertools import chain
from typing import Protocol

from ..domain.counting import UsageRecord
from ..domain.formulas import ValueType
from ..domain.rules import Rules
from ..domain.totals import Totals
from .blocks import BucketKey, UsageBlock
from .buckets import bucket_end, bucket_sizes, cover_range, has_unsorted_usage
from .change_span import ChangeSpan
from .models import AsOf, Bucket, FoldedRules
from .ports import ReadModelReader

_SAME_RECORDS = {
    (ValueType.NUMBER, ValueType.NUMBER),
    (ValueType.NUMBER, ValueType.OPTIONAL_NUMBER),
    (ValueType.OPTIONAL_NUMBER, ValueType.OPTIONAL_NUMBER),
    (ValueType.TEXT, ValueType.TEXT),
}
"""The value types of two formulas, if records that are folded under the first are counted by the second."""


CustomerRecords = tuple[int, list[UsageRecord]]
"""A customer id, and records of this customer."""

CUSTOMERS_PER_PAGE = 500
"""The number of customers whose usage is read by one statement."""


class StoredParts(Protocol):
    """The usage of one meter in buckets and blocks, with totals of the records that count."""

    @property
    def bucket_sizes(self) -> Sequence[int]:
        """The sizes of the buckets in seconds, largest first."""
        ...

    def batch(self) -> AbstractContextManager[None]:
        """Let the store read what several calls return at once. Iterate over what they return after the batch."""
        ...

    def totals_between(
        self, bucket_seconds: int, customer_id: int | None, start: int, end: int
    ) -> Iterator[tuple[BucketKey, Totals]]:
        """Yield the key and the totals of each bucket of one size that starts in [start, end)."""
        ...

    def buckets_between(self, bucket_seconds: int, customer_id: int | None, start: int, end: int) -> Iterator[Bucket]:
        """Yield the buckets of one size that start in [start, end)."""
        ...

    def buckets_in(self, bucket_seconds: int, keys: Sequence[BucketKey]) -> Iterator[Bucket]:
        """Yield the buckets of the next smaller size in each bucket among `keys`, which are of one size."""
        ...

    def blocks_between(self, customer_id: int | None, start: int, end: int) -> Iterator[UsageBlock]:
        """Yield the blocks with usage in [start, end)."""
        ...

    def blocks_of(self, keys: Sequence[BucketKey]) -> Iterator[UsageBlock]:
        """Yield all blocks of each bucket of the smallest size among `keys`, in ledger order."""
        ...

    def unsorted_between(self, customer_id: int | None, start: int, end: int) -> Iterator[UsageBlock]:
        """Yield the unsorted blocks with usage in [start, end), with their encoded records."""
        ...

    def unsorted_of(self, months: Sequence[BucketKey]) -> Iterator[UsageBlock]:
        """Yield the unsorted blocks of each month among `months`, with their encoded records."""
        ...

    def usage_in(self, blocks: Sequence[UsageBlock]) -> Iterator[list[UsageRecord]]:
        """Yield the records of each block, in ledger order."""
        ...


class UsageSource(Protocol):
    """The usage of one meter under some rules. Times are microseconds since 1970 UTC."""

    @property
    def rules(self) -> Rules:
        """The rules of the records."""
        ...

    @property
    def parts(self) -> StoredParts | None:
        """The stored parts of the usage; None if their totals aren't those of these rules."""
        ...

    def customer_id(self, customer: str) -> int | None:
        """Return the id of a customer, or None if it has no usage."""
        ...

    def time_span(self, customer_id: int | None) -> tuple[int, int] | None:
        """Return a range [start, end) that contains all usage of a customer, or of all customers if None."""
        ...

    def usage_between(self, customer_id: int | None, start: int, end: int, as_of: AsOf | None) -> Iterator[UsageRecord]:
        """Yield the records in [start, end), ordered by (occurred_at, position), as known as of `as_of`."""
        ...

    def usage_by_customer(self, start: int, end: int, as_of: AsOf | None) -> Iterator[CustomerRecords]:
        """Yield each customer that has records in [start, end), by id, with these in order of time.

        Unlike a query for each customer this reads many customers at once.
        """
        ...

    def last_changes(self, start: int, end: int, after: int) -> Mapping[int, int] | None:
        """Return, by customer id, the position of the last change after `after` of the usage in [start, end).

        A customer may be returned without such a change. None if another customer's usage may have become that of a
        customer: all may have changed.
        """
        ...


def counts_same_records(folded: Rules, rules: Rules) -> bool:
    """Return whether `rules` count the same records with the same values as the rules that usage is folded under.

    They may have another formula that reads the same values. But the formula `count` also folds records without a
    value, which others don't count.
    """
    if rules is folded or rules == folded:
        return True
    value_types = folded.formula.rule.value_type, rules.formula.rule.value_type
    if value_types not in _SAME_RECORDS:
        return False
    of_quantity = {"formula": folded.formula, "multiplier": folded.multiplier, "rounding": folded.rounding}
    return folded == rules.model_copy(update=of_quantity)


class ProjectedUsage:
    """The usage of a meter under rules that count the records that it is folded to: its records and stored parts.

    It has the usage of one part of the meter's rules over time.
    """

    def __init__(self, reader: ReadModelReader, folded: FoldedRules, rules: Rules | None = None) -> None:
        self.rules = rules or folded.rules
        self.bucket_sizes = bucket_sizes(folded.rules.event_time_window)
        self.customer_id = reader.customer_id
        self.batch = reader.batch
        self.totals_between = partial(reader.totals_between, folded.meter_id)
        self.buckets_between = partial(reader.buckets_between, folded.meter_id)
        self.buckets_in = partial(reader.buckets_in, folded.meter_id)
        self.blocks_of = partial(reader.blocks_of, folded.meter_id)
        self.unsorted_between = partial(reader.unsorted_blocks_between, folded.meter_id)
        self.unsorted_of = partial(reader.unsorted_blocks_of, folded.meter_id)
        self.usage_in = partial(reader.usage_in, folded.meter_id)
        self._reader = reader
        self._meter_id = folded.meter_id
        self._starts = cache(partial(reader.time_span, folded.meter_id, bucket_seconds=self.bucket_sizes[-1]))

    @property
    def parts(self) -> StoredParts:
        """The stored parts: the source itself."""
        return self

    def time_span(self, customer_id: int | None) -> tuple[int, int] | None:
        """Return a range [start, end) that contains all usage of a customer, or of all customers if None."""
        starts = self._starts(customer_id)
        return None if starts is None else (starts[0], bucket_end(starts[1], self.bucket_sizes[-1]))

    def usage_between(self, customer_id: int | None, start: int, end: int, as_of: AsOf | None) -> Iterator[UsageRecord]:
        """Yield the records in [start, end), ordered by (occurred_at, position), as known as of `as_of`."""
        return self._reader.usage_between(self._meter_id, customer_id, self.bucket_sizes[-1], start, end, as_of)

    def usage_by_customer(self, start: int, end: int, as_of: AsOf | None) -> Iterator[CustomerRecords]:
        """Yield each customer that has records in [start, end), by id, with these in order of time."""
        meter_id, bucket_seconds, last = self._meter_id, self.bucket_sizes[-1], 0
        while page := self._reader.customers_after(meter_id, last, CUSTOMERS_PER_PAGE):
            yield from self._reader.usage_of_customers(meter_id, page, bucket_seconds, start, end, as_of)
            last = page[-1]

    def last_changes(self, start: int, end: int, after: int) -> Mapping[int, int]:
        """Return, by customer id, the position of the last change after `after` of the usage in [start, end).

        It is found from the spans of changes of buckets; records are read only of blocks that extend beyond the range.
        """
        last: dict[int, int] = {}
        for size, first, until in cover_range((start, end), self.bucket_sizes):
            if size is not None:
                changes = self._reader.changes_after(self._meter_id, size, first, until, after)
            else:
                changes = self._changes_in_blocks(self.blocks_between(None, first, until), first, until, after)
            if has_unsorted_usage(size, self.bucket_sizes):
                unsorted = self.unsorted_between(None, first, until)
                changes = chain(changes, self._changes_in_blocks(unsorted, first, until, after))
            for customer_id, position in changes:
                if position > last.get(customer_id, after):
                    last[customer_id] = position
        return last

    def _changes_in_blocks(
        self, blocks: Iterable[UsageBlock], start: int, end: int, after: int
    ) -> Iterator[tuple[int, int]]:
        straddling: list[UsageBlock] = []
        for block in blocks:
            if block.changes.last_position > after:
                if start <= block.earliest and block.latest < end:
                    yield block.key[0], block.changes.last_position
                else:
                    straddling.append(block)
        for block, records in zip(straddling, self.usage_in(straddling), strict=True):
            changes = [ChangeSpan.from_usage([record]).last_position for record in records]
            if max(changes) < block.changes.last_position:  # by an event that no record tells of
                yield block.key[0], block.changes.last_position
            for record, position in zip(records, changes, strict=True):
                if start <= record.occurred_at < end:
                    yield block.key[0], position

    def blocks_between(self, customer_id: int | None, start: int, end: int) -> Iterator[UsageBlock]:
        """Yield the blocks with usage in [start, end)."""
        return self._reader.blocks_between(self._meter_id, customer_id, self.bucket_sizes[-1], start, end)
