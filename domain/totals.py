"""Totals: what all formulas need of usage records, as one mergeable value."""

import hashlib
from collections.abc import Sequence
from decimal import Decimal
from functools import reduce
from operator import attrgetter

import msgspec

from .counting import UsageRecord
from .decimals import EXACT_CONTEXT, ZERO, canonical

_add = EXACT_CONTEXT.add
_RECENCY = attrgetter("last_at", "last_position")


MAX_UNIQUE_TEXT_LENGTH = 64


def unique_key(text: str) -> str:
    """Return the key of a text in a set of unique values: the text itself, or its SHA-256 if it is long.

    A query holds the keys of all usage in its range. The key of a long text is longer than any text that is its own
    key, so two different texts never have the same one.
    """
    return text if len(text) <= MAX_UNIQUE_TEXT_LENGTH else f"={hashlib.sha256(text.encode()).hexdigest()}"


def extremes(values: Sequence[Decimal]) -> tuple[Decimal, Decimal] | tuple[None, None]:
    """Return the minimum and the maximum, each in one form: which of several equal values came first has no effect."""
    if not values:
        return None, None
    smallest, largest = min(values), max(values)
    return canonical(smallest), canonical(smallest if largest is smallest else largest)


class Totals(msgspec.Struct, frozen=True, gc=False):
    """Sum, count, last, minimum and maximum of counted usage records. Exact, and independent of the order of merging.

    `last` is the value of the record with the latest (occurred_at, position); `last_at` and `last_position` are these.
    `min` and `max` are None if no record has a value. `unique_values` are the keys of the texts of records, only if it
    was computed `with_unique_values`; no stored totals have them.
    """

    sum: Decimal = ZERO
    count: int = 0
    last: Decimal | None = None
    last_at: int | None = None
    last_position: int | None = None
    min: Decimal | None = None
    max: Decimal | None = None
    unique_values: frozenset[str] = frozenset()

    @classmethod
    def from_usage(cls, records: Sequence[UsageRecord]) -> "Totals":
        """Return the totals of the records."""
        return cls.from_columns(
            [record.occurred_at for record in records],
            [record.position for record in records],
            [record.value for record in records],
        )

    @classmethod
    def from_columns(cls, times: Sequence[int], positions: Sequence[int], values: Sequence[Decimal | None]) -> "Totals":
        """Return the totals of records with these times, positions and values."""
        count = len(times)
        if count == 1:
            (value,) = values
            extreme = None if value is None else canonical(value)
            return cls(ZERO if value is None else value, 1, value, times[0], positions[0], extreme, extreme)
        if not count:
            return cls()
        last_at, last = max(times), count - 1
        if times[last] != last_at or times.count(last_at) > 1:
            last = max((index for index, at in enumerate(times) if at == last_at), key=positions.__getitem__)
        numbers = [value for value in values if value is not None]
        smallest, largest = extremes(numbers)
        return cls(reduce(_add, numbers, ZERO), count, values[last], last_at, positions[last], smallest, largest)

    @classmethod
    def with_unique_values(cls, records: Sequence[UsageRecord]) -> "Totals":
        """Return the totals of the records, with their unique values."""
        texts = (record.unique_value for record in records)
        unique_values = frozenset([unique_key(text) for text in texts if text is not None])
        return msgspec.structs.replace(cls.from_usage(records), unique_values=unique_values)

    @classmethod
    def merge_all(cls, parts: Sequence["Totals"]) -> "Totals":
        """Return the totals of all parts, which must have no record in common."""
        if len(parts) == 1:
            return parts[0]
        counted = [part for part in parts if part.count]
        if not counted:
            return cls()
        newest, unique_values = max(counted, key=_RECENCY), [part.unique_values for part in counted]
        return cls(
            reduce(_add, [part.sum for part in counted]),
            sum([part.count for part in counted]),
            newest.last,
            newest.last_at,
            newest.last_position,
            min([part.min for part in counted if part.min is not None], default=None),
            max([part.max for part in counted if part.max is not None], default=None),
            frozenset[str]().union(*unique_values) if any(unique_values) else newest.unique_values,
        )

    def merge(self, other: "Totals") -> "Totals":
        """Return the totals of both, which must have no record in common."""
        if not (self.count and other.count):
            return self if self.count else other
        # Conditions instead of functions, because this runs for every bucket and block that a page changes.
        last_at, other_at = self.last_at or 0, other.last_at or 0
        is_newest = last_at > other_at or (last_at == other_at and _RECENCY(self) > _RECENCY(other))
        newest = self if is_newest else other
        smallest, largest = self.min, self.max
        if smallest is None or largest is None:
            smallest, largest = other.min, other.max
        elif other.min is not None and other.max is not None:
            smallest = other.min if other.min < smallest else smallest  # noqa: FURB136
            largest = other.max if other.max > largest else largest  # noqa: FURB136
        unique_values = self.unique_values
        if other.unique_values:
            unique_values |= other.unique_values
        return Totals(
            _add(self.sum, other.sum), self.count + other.count, newest.last, newest.last_at, newest.last_position,
            smallest, largest, unique_values,
        )  # fmt: skip
