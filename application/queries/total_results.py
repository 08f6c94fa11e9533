"""Totals as results: with the quantity under the rules of the query, and with their groups."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from ...domain.rules import Rules
from ...domain.totals import Totals
from ...projections.dimensions import Group, group_order
from ..results import Total


class TotalResults:
    """Creates the results of a query. Rules and groups are looked up once, because a query may have many results."""

    def __init__(self, rules: Rules, group_by: Sequence[str]) -> None:
        self._quantity = rules.quantity_function()
        self._billable = rules.billable
        self._group_by = group_by
        self._order = _GroupOrder()

    def total(
        self, totals_by_group: Mapping[Group, Totals], customer: str | None, start: datetime, end: datetime
    ) -> Total:
        """Return the result for computed totals by group."""
        merged = Totals.merge_all(list(totals_by_group.values()))
        groups = sorted(totals_by_group, key=self._order.__getitem__) if self._group_by else ()
        parts = tuple([self._of_totals(totals_by_group[group], customer, start, end, group) for group in groups])
        return self._of_totals(merged, customer, start, end, (), parts)

    def _of_totals(
        self,
        totals: Totals,
        customer: str | None,
        start: datetime,
        end: datetime,
        group: Group,
        parts: tuple[Total, ...] = (),
    ) -> Total:
        value = self._quantity(totals)
        dimensions = dict(zip(self._group_by, group, strict=False)) if group else {}
        return Total(
            value, totals.sum, totals.count, totals.last, self._billable(value), customer, start, end,
            totals.min, totals.max, dimensions, parts,
        )  # fmt: skip


class _GroupOrder(dict[Group, tuple[tuple[bool, str], ...]]):
    """Maps each group to the key by which groups are sorted: many customers have the same groups."""

    def __missing__(self, group: Group) -> tuple[tuple[bool, str], ...]:
        order = self[group] = group_order(group)
        return order
