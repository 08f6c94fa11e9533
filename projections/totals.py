"""Totals: sum, count and last of usage records, as one mergeable value."""

from collections.abc import Sequence
from decimal import Decimal
from functools import reduce
from operator import attrgetter

import msgspec

from ..domain.counting import UsageRecord
from ..domain.decimals import EXACT_CONTEXT, ZERO
from ..domain.rules import Formula

_add = EXACT_CONTEXT.add
_RECENCY = attrgetter("last_at", "last_position")


class Totals(msgspec.Struct, frozen=True, gc=False):
    """Sum, count and last of counted usage records. Exact, and independent of the order of merging.

    `last` is the value of the record with the latest (occurred_at, position); `last_at` and `last_position` are these.
    """

    sum: Decimal = ZERO
    count: int = 0
    last: Decimal | None = None
    last_at: int | None = None
    last_position: int | None = None

    @classmethod
    def from_usage(cls, records: Sequence[UsageRecord]) -> "Totals":
        """Return the totals of the records."""
        if not records:
            return cls()
        total, newest, newest_at = ZERO, records[0], records[0].occurred_at
        for record in records:
            value, at = record.value, record.occurred_at
            if value is not None:
                total = _add(total, value)
            if at > newest_at or (at == newest_at and record.position > newest.position):
                newest, newest_at = record, at
        return cls(total, len(records), newest.value, newest_at, newest.position)

    @classmethod
    def merge_all(cls, parts: Sequence["Totals"]) -> "Totals":
        """Return the totals of all parts, which must have no record in common."""
        if len(parts) == 1:
            return parts[0]
        newest = max((part for part in parts if part.count), key=_RECENCY, default=None)
        if newest is None:
            return cls()
        total, count = reduce(_add, [part.sum for part in parts], ZERO), sum(part.count for part in parts)
        return cls(total, count, newest.last, newest.last_at, newest.last_position)

    def merge(self, other: "Totals") -> "Totals":
        """Return the totals of both, which must have no record in common."""
        if not (self.count and other.count):
            return self if self.count else other
        newest = max(self, other, key=_RECENCY)
        total, count = _add(self.sum, other.sum), self.count + other.count
        return Totals(total, count, newest.last, newest.last_at, newest.last_position)

    def quantity(self, formula: Formula) -> Decimal:
        """Return the quantity by `formula`; 0 if there are no records."""
        match formula:
            case Formula.SUM:
                return self.sum
            case Formula.COUNT:
                return Decimal(self.count)
            case Formula.LAST:
                return ZERO if self.last is None else self.last

    def contribution(self, record: UsageRecord, formula: Formula) -> Decimal:
        """Return what a counted record contributes to the quantity; the contributions of all records add up to it."""
        match formula:
            case Formula.SUM:
                return ZERO if record.value is None else record.value
            case Formula.COUNT:
                return Decimal(1)
            case Formula.LAST:
                is_last = record.position == self.last_position
                return record.value if is_last and record.value is not None else ZERO
