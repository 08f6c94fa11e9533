"""Views of a meter for closed periods, shared by the customers of one range."""

from typing import NamedTuple

from ...domain.closed_period import ClosedPeriod
from ...domain.rules import Rules
from ...domain.rules_schedule import RulesSchedule
from ...domain.timestamps import to_microseconds
from ...domain.totals import Totals
from ...projections.models import AsOf
from ...projections.usage_view import UsageView
from .dimension_query import DimensionArguments
from .meter_query import Bounds, OpenMeter


class CurrentUsage(NamedTuple):
    """The usage of a range under the current rules. The range may begin or end in the midst of a window of these."""

    rules: Rules
    bounds: Bounds
    view: UsageView
    has_whole_windows: bool

    def totals(self, customer: str, as_of: AsOf | None) -> Totals:
        """Return the totals of a customer."""
        customer_id = self.view.customer_id(customer) or 0
        if self.has_whole_windows:
            return Totals.merge_all(list(self.view.totals(customer_id, self.bounds, as_of).values()))
        verdicts = self.view.verdicts(customer_id, *self.bounds, as_of)
        return Totals.with_unique_values([verdict.record for verdict in verdicts if verdict.is_counted])


class RangeViews:
    """The views of a meter for closed periods, which are sorted by their range: customers of one range share a view.

    A view may parse the payloads of a whole range at once, and then serves all customers from it.
    """

    def __init__(self, meter: OpenMeter, dimensions: DimensionArguments) -> None:
        self.is_partial = bool(dimensions.where)
        self._meter = meter
        self._dimensions = dimensions
        self._bounds: Bounds | None = None
        self._at_closing: dict[int, UsageView] = {}
        self._is_current: dict[int, bool] = {}
        self._current: dict[int, list[CurrentUsage]] = {}

    def at_closing(self, period: ClosedPeriod) -> UsageView:
        """Return the usage of the period's range under the rules over time that it was closed under."""
        bounds = self._select_range(period)
        view = self._at_closing.get(period.revision)
        if view is None:
            schedule = schedule_at_closing(self._meter, bounds, period.rules, period.revision)
            at_closing = self._meter._replace(schedule=schedule)
            view = self._at_closing[period.revision] = at_closing.closing_query(bounds, self._dimensions).view
        return view

    def are_current_rules(self, period: ClosedPeriod) -> bool:
        """Return whether the rules over time in the period's range are those that it was closed under."""
        bounds = self._select_range(period)
        is_current = self._is_current.get(period.revision)
        if is_current is None:
            is_current = are_current_rules(self._meter, bounds, period.rules, period.revision)
            self._is_current[period.revision] = is_current
        return is_current

    def under_current_rules(self, period: ClosedPeriod) -> list["CurrentUsage"]:
        """Return the usage of each part of the period's range that has a single quantity under the current rules.

        The range is exactly that of the closing, whatever windows these rules have: other usage is in other periods.
        """
        bounds = self._select_range(period)
        parts = self._current.get(period.revision)
        if parts is None:
            keys, meter = self._meter.views.all_dimension_keys, self._meter
            parts = self._current[period.revision] = [
                CurrentUsage(
                    part.effective.rules,
                    (part.start, part.end),
                    meter.views.exact_view(meter.schedule, part.start, part.end, self._dimensions, keys),
                    meter.whole_windows((part.start, part.end)) == (part.start, part.end),
                )
                for part in meter.schedule.exact_quantity_ranges(*bounds)
            ]
        return parts

    def _select_range(self, period: ClosedPeriod) -> Bounds:
        """Return the range of a period, after dropping the views of another range."""
        bounds = bounds_of(period)
        if bounds != self._bounds:
            self._bounds, self._at_closing, self._is_current, self._current = bounds, {}, {}, {}
        return bounds


def schedule_at_closing(meter: OpenMeter, counted: Bounds, rules: Rules, revision: int) -> RulesSchedule:
    """Return the rules over time of a closing, which counted the usage in a range.

    They are those of its revision: newer ones were not known, or apply to usage after the range.
    """
    schedule = meter.views.schedule_of_revision(revision)
    if schedule.at(counted[1] - 1).rules != rules:  # the stored closing has other rules than its revision
        return RulesSchedule.always(rules, revision)
    return schedule


def are_current_rules(meter: OpenMeter, counted: Bounds, rules: Rules, revision: int) -> bool:
    """Return whether a closing, which counted the usage in a range, has the rules over time that apply there now.

    It may have several: `rules` are only the last ones.
    """
    return schedule_at_closing(meter, counted, rules, revision).has_same_rules(meter.schedule, *counted)


def bounds_of(period: ClosedPeriod) -> Bounds:
    """Return the range of the usage in a closed period, in microseconds since 1970 UTC."""
    counted_from, counted_until = period.counted_range
    return to_microseconds(counted_from), to_microseconds(counted_until)


def under_rules_of(meter: OpenMeter, counted: Bounds, rules: Rules, revision: int) -> OpenMeter:
    """Return a meter under the rules over time of a closing, which counted the usage in a range."""
    return meter._replace(schedule=schedule_at_closing(meter, counted, rules, revision))
