"""Compare the totals of a generation of the read models with those of the live one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from ...domain.calendar import CalendarWindow, get_timezone
from ...domain.decimals import EXACT_CONTEXT, ZERO
from ...domain.errors import LedgerUnavailable
from ...domain.schedule import ALL_TIME, RulesSchedule
from ...domain.timestamps import from_microseconds
from ...projections.dimensions import Group, group_order
from ...projections.ports import ReadModelReader
from ...projections.projector import Projector
from ..read_models.generations import Generations
from ..validation import require_choice, require_generation
from .dimension_query import DimensionArguments, Where, parse_dimensions
from .meter_query import MeterQueryFactory
from .totals import split_at_changes, window_boundaries
from .view_factory import ViewFactory

_MAX_ATTEMPTS = 100


@dataclass(frozen=True, slots=True)
class CustomerDifference:
    """The totals of one customer, meter and window: `before` in the live generation, `after` in the other one.

    `dimensions` are the values of the dimensions that the comparison groups by.
    """

    event_name: str
    customer: str
    start: datetime
    end: datetime
    before: Decimal
    after: Decimal
    dimensions: dict[str, str | None] = field(default_factory=dict, hash=False)

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

    def diff(
        self, generation: int, window: str, timezone: str, where: Where | None, group_by: Sequence[str]
    ) -> GenerationDifference:
        """Return how a generation differs from the live one, by windows of `timezone` and groups of dimension values.

        Only meters are compared that have the dimensions in `where` and `group_by` under either rules.

        Both are brought up to date first. Raises GenerationNotFound, GenerationInUse, or LedgerUnavailable if events
        are recorded so fast that the two are never at the same position.
        """
        generation = require_generation(generation)
        calendar_window, zone = require_choice(window, "window", CalendarWindow), get_timezone(timezone)
        dimensions = parse_dimensions(where, group_by)
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
                        windows = _Windows(calendar_window, zone)
                        differences, meters = self._compare(live, other, windows, dimensions)
                        return GenerationDifference(generation, live_position, differences, meters)
                self._generations.catch_up(compared, until=live_position)
                self._projector.catch_up(until=other_position)
        raise LedgerUnavailable(
            "The two generations were never at the same position, because queries move the live one; try again."
        )

    def _compare(
        self,
        live: ReadModelReader,
        other: ReadModelReader,
        windows: "_Windows",
        dimensions: DimensionArguments,
    ) -> tuple[tuple[CustomerDifference, ...], tuple[MeterDifference, ...]]:
        customer_differences: list[CustomerDifference] = []
        meter_differences: list[MeterDifference] = []
        other_meters = other.meters()
        for event_name, meter in sorted(live.meters().items()):
            other_meter = other_meters[event_name]
            schedules = meter.folded_schedule, other_meter.folded_schedule
            keys = [key for schedule in schedules for part in schedule.parts for key in part.rules.all_dimension_keys]
            before = _FoldedMeter(self._meter_queries.views_of(live, meter), schedules[0], dimensions, keys)
            after = _FoldedMeter(self._meter_queries.views_of(other, other_meter), schedules[1], dimensions, keys)
            differences, sums = _compare_meter(event_name, before, after, windows)
            customer_differences += differences
            meter_differences.append(sums)
        return tuple(customer_differences), tuple(meter_differences)


class _Windows(NamedTuple):
    """The windows that totals are compared by."""

    window: CalendarWindow
    timezone: ZoneInfo


class _FoldedMeter:
    """A meter in one generation, under the rules that it was folded under."""

    def __init__(
        self, views: ViewFactory, schedule: RulesSchedule, dimensions: DimensionArguments, keys: Sequence[str]
    ) -> None:
        self.schedule = schedule
        self.group_by = dimensions.group_by
        self.view = views.view(schedule, *ALL_TIME, dimensions, keys)

    def quantities(self, boundaries: Sequence[int]) -> "_Quantities":
        """Return the quantity of each customer, window between `boundaries` and group. Rules change at boundaries."""
        totals_by_key = self.view.totals(None, boundaries)
        names = self.view.customer_names({customer_id for _, customer_id, _ in totals_by_key})
        return {
            (names[customer_id], index, group): self.view.part_at(boundaries[index]).rules.quantity(totals)
            for (index, customer_id, group), totals in totals_by_key.items()
        }


_QuantityKey = tuple[str, int, Group]
"""Customer, index of the window, and group of dimension values."""
_Quantities = dict[_QuantityKey, Decimal]


def _compare_meter(
    event_name: str, before: _FoldedMeter, after: _FoldedMeter, windows: _Windows
) -> tuple[list[CustomerDifference], MeterDifference]:
    spans = [span for meter in (before, after) if (span := meter.view.time_span(None)) is not None]
    if not spans:
        return [], MeterDifference(event_name, 0, ZERO, ZERO)
    time_span = min(start for start, _ in spans), max(end for _, end in spans)
    boundaries = window_boundaries(ALL_TIME, time_span, *windows)
    boundaries = split_at_changes(split_at_changes(boundaries, before.schedule), after.schedule)
    ranges = list(pairwise(map(from_microseconds, boundaries)))
    quantities_before, quantities_after = before.quantities(boundaries), after.quantities(boundaries)
    differences: list[CustomerDifference] = []
    for key in sorted(quantities_before.keys() | quantities_after.keys(), key=_key_order):
        customer, index, group = key
        quantity_before, quantity_after = quantities_before.get(key, ZERO), quantities_after.get(key, ZERO)
        if quantity_before != quantity_after:
            dimensions = dict(zip(before.group_by, group, strict=False))
            differences.append(
                CustomerDifference(event_name, customer, *ranges[index], quantity_before, quantity_after, dimensions)
            )
    customers = len({difference.customer for difference in differences})
    return differences, MeterDifference(event_name, customers, _sum(quantities_before), _sum(quantities_after))


def _key_order(key: _QuantityKey) -> tuple[str, int, object]:
    customer, index, group = key
    return customer, index, group_order(group)


def _sum(quantities: _Quantities) -> Decimal:
    total = ZERO
    for quantity in quantities.values():
        total = EXACT_CONTEXT.add(total, quantity)
    return total
