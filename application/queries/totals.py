"""Queries of totals: of a customer, of each customer, by calendar window, and replayed from the ledger."""

from collections import defaultdict
from datetime import datetime
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

from ...domain.calendar import CalendarWindow, get_timezone, iter_windows, window_containing
from ...domain.decimals import billable
from ...domain.errors import InvalidParameter
from ...domain.rules import Rules
from ...domain.timestamps import from_microseconds, to_microseconds
from ...projections.projector import Projector
from ...projections.replay import TotalsQuery, replay_totals
from ...projections.totals import Totals
from ..ledger.ledger import Ledger
from ..ledger.retry import retry_on_connection_loss
from ..results import Total
from ..validation import optional_customer, require_choice, require_event_name, require_time_range
from .meter_query import MeterQueryFactory

MAX_WINDOWS = 100_000


class TotalQueries:
    """Returns totals. Each result contains every event that was recorded before the call."""

    def __init__(self, ledger: Ledger, meter_queries: MeterQueryFactory, projector: Projector) -> None:
        self._ledger = ledger
        self._meter_queries = meter_queries
        self._projector = projector

    @retry_on_connection_loss
    def total(
        self, event_name: str, customer: str | None, start: datetime, end: datetime, as_of: datetime | int | None
    ) -> Total:
        """Return the total of a customer in [start, end), or of all customers if `customer` is None."""
        (start, end, bounds), customer = require_time_range(start, end), optional_customer(customer)
        with self._meter_queries.open(event_name, as_of) as query:
            totals = query.view.totals(query.customer_id(customer), bounds, query.as_of)
            return to_total(Totals.merge_all(list(totals.values())), query.rules, customer, start, end)

    @retry_on_connection_loss
    def totals(self, event_name: str, start: datetime, end: datetime, as_of: datetime | int | None) -> list[Total]:
        """Return the total of each customer with counted usage in [start, end), ordered by customer."""
        start, end, bounds = require_time_range(start, end)
        with self._meter_queries.open(event_name, as_of) as query:
            by_window_and_customer = query.view.totals(None, bounds, query.as_of)
            totals = {customer_id: totals for (_, customer_id), totals in by_window_and_customer.items()}
            names = query.view.source.customer_names(totals)
            return [
                to_total(totals[customer_id], query.rules, customer, start, end)
                for customer_id, customer in sorted(names.items(), key=lambda item: item[1])
            ]

    @retry_on_connection_loss
    def replay_totals(self, event_name: str, start: datetime, end: datetime) -> list[Total]:
        """Return the total of each customer, computed from the ledger alone."""
        (start, end, _), event_name = require_time_range(start, end), require_event_name(event_name)
        rules = self._ledger.meter(event_name).rules
        totals_by_customer = replay_totals(
            self._ledger,
            TotalsQuery(event_name, rules, start, end),
            page_size=self._projector.page_size,
            workers=self._projector.workers,
        )
        return [
            to_total(totals, rules, customer, start, end) for customer, totals in sorted(totals_by_customer.items())
        ]

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
    ) -> list[Total]:
        """Return a total for each calendar window of [start, end) with counted usage, in order of time."""
        calendar_window, zone = require_choice(window, "window", CalendarWindow), get_timezone(timezone)
        bounds, customer = require_time_range(start, end).bounds, optional_customer(customer)
        with self._meter_queries.open(event_name, as_of) as query:
            customer_id = query.customer_id(customer)
            time_span = query.view.source.time_span(customer_id) or (0, 0)
            boundaries = window_boundaries(bounds, time_span, calendar_window, zone)
            by_window: defaultdict[int, list[Totals]] = defaultdict(list)
            for (index, _), totals in query.view.totals(customer_id, boundaries, query.as_of).items():
                by_window[index].append(totals)
            windows = list(pairwise(from_microseconds(boundary) for boundary in boundaries))
            return [
                to_total(Totals.merge_all(parts), query.rules, customer, *windows[index])
                for index, parts in sorted(by_window.items())
            ]


def to_total(totals: Totals, rules: Rules, customer: str | None, start: datetime, end: datetime) -> Total:
    """Return the result for computed totals, with the value by the formula of `rules`."""
    value = totals.quantity(rules.formula)
    return Total(value, totals.sum, totals.count, totals.last, billable(value), customer, start, end)


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
