"""Totals: what usages add up to, as a value."""

from collections.abc import Sequence
from decimal import Decimal
from functools import reduce
from operator import attrgetter

import msgspec

from ..domain.counting import Usage
from ..domain.quantities import EXACT, ZERO
from ..domain.rules import Formula

_add = EXACT.add
_NEWEST = attrgetter("last_at", "last_position")


class Totals(msgspec.Struct, frozen=True, gc=False):
    """Sum, count and last of some usages that count. Exact, and the same in whatever order it was made up.

    `last` is the value of the usage with the latest (occurred_at, position), which `last_at` and `last_position` tell.
    """

    sum: Decimal = ZERO
    count: int = 0
    last: Decimal | None = None
    last_at: int | None = None
    last_position: int | None = None

    @classmethod
    def of(cls, usages: Sequence[Usage]) -> "Totals":
        """What `usages` add up to."""
        if not usages:
            return cls()
        total, newest, newest_at = ZERO, usages[0], usages[0].occurred_at
        for usage in usages:
            value, at = usage.value, usage.occurred_at
            if value is not None:
                total = _add(total, value)
            if at > newest_at or (at == newest_at and usage.position > newest.position):
                newest, newest_at = usage, at
        return cls(total, len(usages), newest.value, newest_at, newest.position)

    @classmethod
    def together(cls, parts: Sequence["Totals"]) -> "Totals":
        """What all parts add up to, of usages that are in one of them only."""
        if len(parts) == 1:
            return parts[0]
        newest = max((part for part in parts if part.count), key=_NEWEST, default=None)
        if newest is None:
            return cls()
        total, count = reduce(_add, [part.sum for part in parts], ZERO), sum(part.count for part in parts)
        return cls(total, count, newest.last, newest.last_at, newest.last_position)

    def merge(self, other: "Totals") -> "Totals":
        """What both add up to, of usages that are in one of them only."""
        return Totals.together((self, other))

    def quantity(self, formula: Formula) -> Decimal:
        """The figure that `formula` makes of these totals; 0 where there is none."""
        match formula:
            case Formula.SUM:
                return self.sum
            case Formula.COUNT:
                return Decimal(self.count)
            case Formula.LAST:
                return ZERO if self.last is None else self.last

    def contribution(self, usage: Usage, formula: Formula) -> Decimal:
        """What a usage that counts adds to the figure; those of all that count add up to it."""
        match formula:
            case Formula.SUM:
                return ZERO if usage.value is None else usage.value
            case Formula.COUNT:
                return Decimal(1)
            case Formula.LAST:
                is_last = usage.position == self.last_position
                return usage.value if is_last and usage.value is not None else ZERO
