"""The formulas of meters. Each is one value: what it reads of a meter event, its quantity, and the share of each event.

A formula is added here. The shares of all counted events add up to the quantity, so that an explanation adds up.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from .counting import UsageRecord
from .decimals import ZERO
from .totals import Totals, unique_key

ExactNumber = Decimal | Fraction
"""An exact number; a Fraction if it may have no finite decimal form."""

Shares = Callable[[UsageRecord], ExactNumber]
"""Returns the share of a counted event; called once for each, ordered by (occurred_at, position)."""


class ValueType(StrEnum):
    """What a formula reads under the value key of a payload."""

    NUMBER = "number"
    OPTIONAL_NUMBER = "optional number"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class FormulaRule:
    """How a formula computes its quantity, and how it is explained.

    `quantity` returns the quantity of totals; 0 if there are no counted events. `shares` returns what each counted
    event adds to the quantity of these totals. `is_stored` is set if the stored totals of parts of a range suffice for
    the quantity of the range; else its records must be read. `is_finite` is set if quantity and shares are decimals,
    which are never rounded.
    """

    value_type: ValueType
    quantity: Callable[[Totals], ExactNumber]
    shares: Callable[[Totals], Shares]
    is_stored: bool = True
    is_finite: bool = True


def _shares_of_sum(_: Totals) -> Shares:
    return lambda record: record.value or ZERO


def _shares_of_count(_: Totals) -> Shares:
    return lambda _: Decimal(1)


def _shares_of_last(totals: Totals) -> Shares:
    return lambda record: (record.value or ZERO) if record.position == totals.last_position else ZERO


def _shares_of_extreme(extreme: Decimal | None) -> Shares:
    """Return shares of which the first event with the extreme value has all."""
    is_explained = False

    def share(record: UsageRecord) -> Decimal:
        nonlocal is_explained
        if is_explained or extreme is None or record.value != extreme:
            return ZERO
        is_explained = True
        return extreme

    return share


def _average(totals: Totals) -> Fraction:
    return Fraction(totals.sum) / totals.count if totals.count else Fraction(0)


def _shares_of_average(totals: Totals) -> Shares:
    return lambda record: Fraction(record.value or ZERO) / totals.count


def _shares_of_unique_values(_: Totals) -> Shares:
    """Return shares of which the first event of each value has one."""
    seen: set[str | None] = set()

    def share(record: UsageRecord) -> Decimal:
        key = None if record.unique_value is None else unique_key(record.unique_value)
        if key in seen:
            return ZERO
        seen.add(key)
        return Decimal(1)

    return share


class Formula(StrEnum):
    """How meter events are aggregated into a quantity."""

    SUM = "sum"
    COUNT = "count"
    LAST = "last"
    MAX = "max"
    MIN = "min"
    AVG = "avg"
    UNIQUE_COUNT = "unique_count"

    @property
    def rule(self) -> FormulaRule:
        """How the formula computes its quantity."""
        return _RULES[self]


_RULES = {
    Formula.SUM: FormulaRule(ValueType.NUMBER, lambda totals: totals.sum, _shares_of_sum),
    Formula.COUNT: FormulaRule(ValueType.OPTIONAL_NUMBER, lambda totals: Decimal(totals.count), _shares_of_count),
    Formula.LAST: FormulaRule(ValueType.NUMBER, lambda totals: totals.last or ZERO, _shares_of_last),
    Formula.MAX: FormulaRule(
        ValueType.NUMBER, lambda totals: totals.max or ZERO, lambda totals: _shares_of_extreme(totals.max)
    ),
    Formula.MIN: FormulaRule(
        ValueType.NUMBER, lambda totals: totals.min or ZERO, lambda totals: _shares_of_extreme(totals.min)
    ),
    Formula.AVG: FormulaRule(ValueType.NUMBER, _average, _shares_of_average, is_finite=False),
    Formula.UNIQUE_COUNT: FormulaRule(
        ValueType.TEXT, lambda totals: Decimal(len(totals.unique_values)), _shares_of_unique_values, is_stored=False
    ),
}
