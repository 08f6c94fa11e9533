"""Totals as results: with the quantity under the rules of the query, and with their groups."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from ...domain.rules import Rules
from ...domain.rules_schedule import bound_to_datetime
from ...domain.totals import Totals
from ...projections.dimensions import Group, group_order
from ..results import Total


class CountedRange(NamedTuple):
    """A range as it was queried, and the range of its windows, with None for a bound that is the same."""

    start: datetime
    end: datetime
    counted_from: datetime | None
    counted_until: datetime | None

    @classmethod
    def of(cls, start: datetime, end: datetime, counted: tuple[int, int]) -> "CountedRange":
        """Return the range [start, end) with the range of its windows in microseconds."""
        counted_from, counted_until = map(bound_to_datetime, counted)
        return cls(
            start,
            end,
            None if counted_from == start else counted_from,
            None if counted_until == end else counted_until,
        )


class TotalResults:
    """Creates the results of a query. Rules and groups are looked up once, because a query may have many results."""

    def __init__(self, rules: Rules, group_by: Sequence[str]) -> None:
        self._quantity = rules.quantity_function()
        self._billable = rules.billable
        self._group_by = group_by
        self._order = _GroupOrder()

    def total(
        self, totals_by_group: Mapping[Group, Totals], customer: str | None, counted_range: CountedRange
    ) -> Total:
        """Return the result for computed totals by group."""
        merged = Totals.merge_all(list(totals_by_group.values()))
        groups = sorted(totals_by_group, key=self._order.__getitem__) if self._group_by else ()
        parts = tuple([self._of_totals(totals_by_group[group], customer, counted_range, group) for group in groups])
        return self._of_totals(merged, customer, counted_range, (), parts)

    def _of_totals(
        self,
        totals: Totals,
        customer: str | None,
        counted_range: CountedRange,
        group: Group,
        parts: tuple[Total, ...] = (),
    ) -> Total:
        value, (start, end, counted_from, counted_until) = self._quantity(totals), counted_range
        dimensions = dict(zip(self._group_by, group, strict=False)) if group else {}
        return Total(
            value, totals.sum, totals.count, totals.last, self._billable(value), customer, start, end,
            totals.min, totals.max, dimensions, parts, counted_from, counted_until,
        )  # fmt: skip


class _GroupOrder(dict[Group, tuple[tuple[bool, str], ...]]):
    """Maps each group to the key by which groups are sorted: many customers have the same groups."""

    def __missing__(self, group: Group) -> tuple[tuple[bool, str], ...]:
        order = self[group] = group_order(group)
        return order
