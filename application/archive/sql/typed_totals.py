"""Totals from usage segments: DuckDB adds integers, and the results are the exact values of the ledger's own totals."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from ....domain.decimals import EXACT_CONTEXT, ZERO, canonical
from ....domain.totals import Totals
from .counted_events import add_counted_events
from .dialects import Dialect
from .statement import Statement, UsageSelection, select

TotalsByCustomer = Mapping[str, Mapping[tuple[str | None, ...], Totals]]
_SHIFT = 1 << 62
"""A time, multiplied by this, and a position are one integer of 128 bits, in the order of the last event."""


def typed_totals_statement(selection: UsageSelection, group_by: Sequence[str], dialect: Dialect) -> str:
    """Return the statement for the totals of each customer, group and number of digits after the point."""
    statement = Statement(dialect)
    source = add_counted_events(statement, selection, group_by)
    keys = ["customer", *(f"group_{number}" for number, _ in enumerate(group_by, 1)), "scale"]
    order = f"CAST(occurred_us AS HUGEINT) * {_SHIFT} + position"
    numbers = ["COUNT(*)", "COUNT(digits)", "SUM(digits)", "MIN(digits)", "MAX(digits)"]
    last = [f"ARG_MAX(digits, {order})", f"MAX({order})"]
    return statement.text(select([*keys, *numbers, *last], source, (), f"GROUP BY {', '.join(keys)}"))


def totals_by_customer(rows: Iterable[Sequence[Any]]) -> TotalsByCustomer | None:
    """Return the totals in the rows of the statement, or None if a value has too many digits for an integer."""
    parts: defaultdict[str, defaultdict[tuple[str | None, ...], list[Totals]]] = defaultdict(lambda: defaultdict(list))
    for customer, *group, scale, count, typed_count, total, smallest, largest, last, order in rows:
        if scale is not None and typed_count < count:
            return None
        parts[customer][tuple(group)].append(_totals(scale, count, (total, smallest, largest, last), order))
    return {
        customer: {group: Totals.merge_all(totals) for group, totals in by_group.items()}
        for customer, by_group in parts.items()
    }


def _totals(scale: int | None, count: int, numbers: Sequence[int], order: int) -> Totals:
    last_at, last_position = divmod(order, _SHIFT)
    if scale is None:  # no event has a value
        return Totals(ZERO, count, None, last_at, last_position)
    total, smallest, largest, last = [EXACT_CONTEXT.scaleb(Decimal(digits), -scale) for digits in numbers]
    return Totals(total, count, last, last_at, last_position, canonical(smallest), canonical(largest))
