"""Compare the totals of a generation of the read models with those of the live one."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from itertools import pairwise
from zoneinfo import ZoneInfo

from ...domain.calendar import CalendarWindow, get_timezone
from ...domain.decimals import EXACT_CONTEXT, ZERO
from ...domain.errors import LedgerUnavailable
from ...domain.timestamps import MAX_DATETIME, MIN_DATETIME, from_microseconds, to_microseconds
from ...projections.ports import ReadModelReader
from ...projections.projector import Projector
from ...projections.usage_view import UsageView
from ..read_models.generations import Generations
from ..validation import require_choice, require_generation
from .meter_query import MeterQueryFactory
from .totals import window_boundaries

_MAX_ATTEMPTS = 100
_ALL_TIME = to_microseconds(MIN_DATETIME), to_microseconds(MAX_DATETIME)


@dataclass(frozen=True, slots=True)
class CustomerDifference:
    """The totals of one customer, meter and window: `before` in the live generation, `after` in the other one."""

    event_name: str
    customer: str
    start: datetime
    end: datetime
    before: Decimal
    after: Decimal

    @property
    def difference(self) -> Decimal:
        """The total in the other generation less the total in the live one."""
        return EXACT_CONTEXT.subtract(self.after, self.before)


@dataclass(frozen=True)
class MeterDifference:
    """The sums of one meter's totals over all customers and windows; `customers` is the number of those that differ."""

    event_name: str
    customers: int
    before: Decimal
    after: Decimal

    @property
    def difference(self) -> Decimal:
        """The sum in the other generation less the sum in the live one."""
        return EXACT_CONTEXT.subtract(self.after, self.before)


@dataclass(frozen=True)
class GenerationDifference:
    """How a generation differs from the live one, both projected up to `position`.

    `differences` are the totals that differ, by meter, customer and window; `meters` are the sums of every meter,
    including those without differences.
    """

    generation: int
    position: int
    differences: tuple[CustomerDifference, ...]
    meters: tuple[MeterDifference, ...]

    @cached_property
    def sorted_by_size(self) -> tuple[CustomerDifference, ...]:
        """The differences, the largest first."""
        return tuple(sorted(self.differences, key=lambda difference: -abs(difference.difference)))


class GenerationComparison:
    """Compares generations with the live one."""

    def __init__(self, generations: Generations, projector: Projector, meter_queries: MeterQueryFactory) -> None:
        self._generations = generations
        self._projector = projector
        self._meter_queries = meter_queries

    def diff(self, generation: int, window: str, timezone: str) -> GenerationDifference:
        """Return how a generation differs from the live one, by windows of `timezone`.

        Both are brought up to date first. Raises GenerationNotFound, GenerationInUse, or LedgerUnavailable if events
        are recorded so fast that the two are never at the same position.
        """
        generation = require_generation(generation)
        calendar_window, zone = require_choice(window, "window", CalendarWindow), get_timezone(timezone)
        with self._meter_queries.session():
            pass  # brought up to date before the lock is taken: that may wait for the process that has the lock
        store = self._generations.views
        with store.generation_lock(f"comparing generation {generation}"):
            compared = self._generations.get_built(generation)
            for _ in range(_MAX_ATTEMPTS):
                with store.read_session() as live:
                    other = live.for_generation(generation)
                    live_position, other_position = live.position(), other.position()
                    if live_position == other_position:
                        differences, meters = self._compare(live, other, calendar_window, zone)
                        return GenerationDifference(generation, live_position, differences, meters)
                self._generations.catch_up(compared, until=live_position)
                self._projector.catch_up(until=other_position)
        raise LedgerUnavailable(
            "The two generations were never at the same position, because queries move the live one; try again."
        )

    def _compare(
        self, live: ReadModelReader, other: ReadModelReader, window: CalendarWindow, timezone: ZoneInfo
    ) -> tuple[tuple[CustomerDifference, ...], tuple[MeterDifference, ...]]:
        customer_differences: list[CustomerDifference] = []
        meter_differences: list[MeterDifference] = []
        other_meters = other.meters()
        for event_name, meter in sorted(live.meters().items()):
            other_meter = other_meters[event_name]
            before = self._meter_queries.usage_view(live, meter, meter.rules)
            after = self._meter_queries.usage_view(other, other_meter, other_meter.rules)
            differences, sums = _compare_meter(event_name, before, after, window, timezone)
            customer_differences += differences
            meter_differences.append(sums)
        return tuple(customer_differences), tuple(meter_differences)


_Quantities = dict[tuple[str, int], Decimal]
"""Totals by customer and index of the window."""


def _compare_meter(
    event_name: str, before: UsageView, after: UsageView, window: CalendarWindow, timezone: ZoneInfo
) -> tuple[list[CustomerDifference], MeterDifference]:
    spans = [span for view in (before, after) if (span := view.source.time_span(None)) is not None]
    if not spans:
        return [], MeterDifference(event_name, 0, ZERO, ZERO)
    time_span = min(start for start, _ in spans), max(end for _, end in spans)
    boundaries = window_boundaries(_ALL_TIME, time_span, window, timezone)
    windows = list(pairwise(map(from_microseconds, boundaries)))
    quantities_before, quantities_after = _quantities(before, boundaries), _quantities(after, boundaries)
    differences: list[CustomerDifference] = []
    for customer, index in sorted(quantities_before.keys() | quantities_after.keys()):
        quantity_before = quantities_before.get((customer, index), ZERO)
        quantity_after = quantities_after.get((customer, index), ZERO)
        if quantity_before != quantity_after:
            differences.append(
                CustomerDifference(event_name, customer, *windows[index], quantity_before, quantity_after)
            )
    customers = len({difference.customer for difference in differences})
    return differences, MeterDifference(event_name, customers, _sum(quantities_before), _sum(quantities_after))


def _quantities(view: UsageView, boundaries: list[int]) -> _Quantities:
    totals_by_key = view.totals(None, boundaries)
    names = view.source.customer_names({customer_id for _, customer_id in totals_by_key})
    return {
        (names[customer_id], index): totals.quantity(view.rules.formula)
        for (index, customer_id), totals in totals_by_key.items()
    }


def _sum(quantities: _Quantities) -> Decimal:
    total = ZERO
    for quantity in quantities.values():
        total = EXACT_CONTEXT.add(total, quantity)
    return total
