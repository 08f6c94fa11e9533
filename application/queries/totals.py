"""Queries of totals: of a customer, of each customer, by calendar window, and replayed from the ledger."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

from ...domain.calendar import CalendarWindow, get_timezone, iter_windows, window_containing
from ...domain.errors import InvalidParameter
from ...domain.rules_schedule import RulesSchedule, bound_to_datetime
from ...domain.timestamps import from_microseconds, to_microseconds
from ...domain.totals import Totals
from ...projections.dimensions import Group
from ...projections.projector import Projector
from ...projections.range_totals import FEW_WINDOWS
from ...projections.replay import ReplayQuery, replay_totals
from ..ledger.ledger import Ledger
from ..ledger.retry import retry_on_connection_loss
from ..result_lists import TotalList
from ..results import Total
from ..validation import optional_customer, require_choice, require_event_name, require_time_range
from .dimension_query import Where, parse_dimensions
from .meter_query import MeterQueryFactory, single_quantity_rules
from .total_results import CountedRange, TotalResults

MAX_WINDOWS = 100_000
_WINDOW_LENGTHS = {
    CalendarWindow.MINUTE: timedelta(minutes=1),
    CalendarWindow.HOUR: timedelta(hours=1),
    CalendarWindow.DAY: timedelta(days=1),
    CalendarWindow.MONTH: timedelta(days=30),
    CalendarWindow.YEAR: timedelta(days=365),
}
"""How long a window is, or about how long."""


class TotalQueries:
    """Returns totals. Each result contains every event that was recorded before the call."""

    def __init__(self, ledger: Ledger, meter_queries: MeterQueryFactory, projector: Projector) -> None:
        self._ledger = ledger
        self._meter_queries = meter_queries
        self._projector = projector

    @retry_on_connection_loss
    def total(
        self,
        event_name: str,
        customer: str | None,
        start: datetime,
        end: datetime,
        as_of: datetime | int | None,
        where: Where | None,
        group_by: Sequence[str],
    ) -> Total:
        """Return the total of a customer in [start, end), or of all customers if `customer` is None."""
        (start, end, bounds), customer = require_time_range(start, end), optional_customer(customer)
        dimensions = parse_dimensions(where, group_by)
        with self._meter_queries.query(event_name, as_of, bounds, dimensions) as query:
            by_group: _ByGroup = defaultdict(list)
            for (_, _, group), totals in query.view.totals(query.customer_id(customer), bounds, query.as_of).items():
                by_group[group].append(totals)
            results = TotalResults(query.rules, dimensions.group_by)
            return results.total(_merge(by_group), customer, query.counted_range(start, end))

    @retry_on_connection_loss
    def totals(
        self,
        event_name: str,
        start: datetime,
        end: datetime,
        as_of: datetime | int | None,
        where: Where | None,
        group_by: Sequence[str],
    ) -> TotalList:
        """Return the total of each customer with counted usage in [start, end), ordered by customer."""
        (start, end, bounds), dimensions = require_time_range(start, end), parse_dimensions(where, group_by)
        with self._meter_queries.query(event_name, as_of, bounds, dimensions) as query:
            results, counted_range = TotalResults(query.rules, dimensions.group_by), query.counted_range(start, end)
            by_customer: defaultdict[int, dict[Group, Totals]] = defaultdict(dict)
            for (_, customer_id, group), totals in query.view.totals(None, bounds, query.as_of).items():
                by_customer[customer_id][group] = totals
            names = query.view.customer_names(by_customer)
            totals_by_customer = (
                results.total(by_customer[customer_id], customer, counted_range)
                for customer_id, customer in sorted(names.items(), key=lambda item: item[1])
            )
            return TotalList(totals_by_customer, dimensions.group_by)

    @retry_on_connection_loss
    def replay_totals(self, event_name: str, start: datetime, end: datetime) -> TotalList:
        """Return the total of each customer, computed from the ledger alone."""
        (start, end, bounds), event_name = require_time_range(start, end), require_event_name(event_name)
        meter = self._ledger.meter(event_name)
        in_range = list(meter.schedule.whole_windows(*bounds))
        rules = single_quantity_rules(event_name, [(part.start, part.effective.rules) for part in in_range])
        results = TotalResults(rules, ())
        counted_range = CountedRange.of(start, end, (in_range[0].start, in_range[-1].end) if in_range else bounds)
        by_customer: defaultdict[str, list[Totals]] = defaultdict(list)
        for part_start, part_end, (_, _, part_rules) in in_range:
            times = bound_to_datetime(part_start), bound_to_datetime(part_end)
            query = ReplayQuery(meter.recorded_name, part_rules, *times)
            part_totals = replay_totals(
                self._ledger, query, page_size=self._projector.page_size, workers=self._projector.workers
            )
            for customer, totals in part_totals.items():
                by_customer[customer].append(totals)
        return TotalList(
            results.total({(): Totals.merge_all(parts)}, customer, counted_range)
            for customer, parts in sorted(by_customer.items())
        )

    @retry_on_connection_loss
    def summaries(
        self,
        event_name: str,
        customer: str | None,
        start: datetime,
        end: datetime,
        window: str,
        timezone: str,
        as_of: datetime | int | None,
        where: Where | None,
        group_by: Sequence[str],
    ) -> TotalList:
        """Return a total for each calendar window of [start, end) with counted usage, in order of time."""
        calendar_window, zone = require_choice(window, "window", CalendarWindow), get_timezone(timezone)
        (start, end, bounds), customer = require_time_range(start, end), optional_customer(customer)
        dimensions = parse_dimensions(where, group_by)
        with self._meter_queries.open(event_name, as_of) as meter:
            query = meter.query(bounds, dimensions)
            customer_id = query.customer_id(customer)
            has_few_windows = end - start <= FEW_WINDOWS * _WINDOW_LENGTHS[calendar_window]
            time_span = bounds if has_few_windows else query.view.time_span(customer_id) or (0, 0)
            boundaries = window_boundaries(bounds, time_span, calendar_window, zone)
            boundaries = split_at_changes(bounds, boundaries, meter.schedule)
            by_window: defaultdict[int, _ByGroup] = defaultdict(lambda: defaultdict(list))
            for (index, _, group), totals in query.view.totals(customer_id, boundaries, query.as_of).items():
                by_window[index][group].append(totals)
            windows = list(pairwise(from_microseconds(boundary) for boundary in boundaries))
            totals_by_window = (
                TotalResults(query.view.rules_from(boundaries[index]), dimensions.group_by).total(
                    _merge(by_group), customer, query.counted_range(*windows[index])
                )
                for index, by_group in sorted(by_window.items())
            )
            return TotalList(totals_by_window, dimensions.group_by)


_ByGroup = defaultdict[Group, list[Totals]]
"""Parts of a total by group of dimension values."""


def _merge(by_group: _ByGroup) -> dict[Group, Totals]:
    return {group: Totals.merge_all(parts) for group, parts in by_group.items()}


def split_at_changes(bounds: tuple[int, int], boundaries: Sequence[int], schedule: RulesSchedule) -> list[int]:
    """Return the boundaries of windows in `bounds`, and those where a window's quantity changes with the rules.

    A window is divided there also if no usage was counted under the rules before.
    """
    changes = islice(schedule.quantity_ranges(*bounds), 1, None)
    return sorted({*boundaries, *(at for at, _, _ in changes if boundaries and boundaries[0] < at < boundaries[-1])})


def window_boundaries(
    bounds: tuple[int, int], time_span: tuple[int, int], window: CalendarWindow, timezone: ZoneInfo
) -> list[int]:
    """Return the boundaries of the windows of `bounds` that overlap `time_span`, in microseconds.

    `time_span` is the range with usage; windows outside it have no totals. Raises InvalidParameter if there are more
    than 100,000 windows.
    """
    first, last = max(bounds[0], time_span[0]), min(bounds[1], time_span[1])
    if first >= last:
        return []
    start = max(from_microseconds(bounds[0]), window_containing(from_microseconds(first), window, timezone)[0])
    end = min(from_microseconds(bounds[1]), window_containing(from_microseconds(last - 1), window, timezone)[1])
    windows = list(islice(iter_windows(start, end, window, timezone), MAX_WINDOWS + 1))
    if len(windows) > MAX_WINDOWS:
        raise InvalidParameter(
            f"The range has more than {MAX_WINDOWS} windows of a {window}; query a shorter range.",
            field="window",
            value=str(window),
        )
    return [to_microseconds(window_start) for window_start, _ in windows] + [to_microseconds(end)]
