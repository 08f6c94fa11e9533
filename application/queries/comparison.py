"""Compare the totals of a generation of the read models with those of the live one."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from ...domain.calendar import CalendarWindow, get_timezone
from ...domain.customer_periods import CustomerPeriods
from ...domain.decimals import EXACT_CONTEXT, ZERO, canonical, to_plain_string
from ...domain.errors import InvalidParameter, LedgerUnavailable, PreviewChanged
from ...domain.rules import Rules
from ...domain.rules_schedule import ALL_TIME, RulesSchedule
from ...domain.text import abbreviated_repr
from ...domain.timestamps import from_microseconds, to_iso
from ...projections.dimensions import Group, group_order
from ...projections.ports import ReadModelReader
from ...projections.projector import Projector
from ..read_models.generations import Generations
from ..validation import require_choice, require_generation
from .dimension_query import NO_DIMENSIONS, DimensionArguments, Where, parse_dimensions
from .meter_query import MeterQueryFactory
from .totals import split_at_changes, window_boundaries
from .view_factory import ViewFactory

_MAX_ATTEMPTS = 100


class WindowState(StrEnum):
    """Whether the periods of a customer are closed in a window, so that a difference isn't billed."""

    OPEN = "open"
    CLOSED = "closed"
    PARTLY_CLOSED = "partly_closed"


@dataclass(frozen=True, slots=True)
class CustomerDifference:
    """The totals of one customer, meter and window: `before` in the live generation, `after` in the other one.

    The totals differ, or the billable quantities of these totals, or both. A difference in a closed window isn't owed:
    closed periods keep their totals. `dimensions` are the values of the dimensions that the comparison groups by.
    """

    event_name: str
    customer: str
    start: datetime
    end: datetime
    before: Decimal
    after: Decimal
    billable_before: Decimal
    billable_after: Decimal
    state: WindowState
    dimensions: dict[str, str | None] = field(default_factory=dict[str, str | None], hash=False)

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

    `differences` are the totals that differ, or whose billable quantities do, by meter, customer and window; `meters`
    are the sums of every meter, including those without differences. `digest` identifies the differences, for
    `promote`; it is None if the comparison selects or groups by dimension values. It is the window, the timezone and
    the SHA-256 of the differences.
    """

    generation: int
    position: int
    differences: tuple[CustomerDifference, ...]
    meters: tuple[MeterDifference, ...]
    digest: str | None

    @cached_property
    def sorted_by_size(self) -> tuple[CustomerDifference, ...]:
        """The differences, the largest first: of the total or of the billable quantity, whichever is larger."""
        return tuple(sorted(self.differences, key=_size, reverse=True))


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

        Only meters are compared that have the dimensions in `where` and `group_by` under either rules, and derived
        meters that both generations count.

        Both are brought up to date first. Raises GenerationNotFound, GenerationInUse, or LedgerUnavailable if events
        are recorded so fast that the two are never at the same position.
        """
        generation = require_generation(generation)
        calendar_window, zone = require_choice(window, "window", CalendarWindow), get_timezone(timezone)
        dimensions = parse_dimensions(where, group_by)
        with self._meter_queries.session():
            pass  # brought up to date before the lock is taken: that may wait for the process that has the lock
        with self._generations.views.generation_lock(f"comparing generation {generation}"):
            return self._diff(generation, _Windows(calendar_window, zone), dimensions)

    def require_same(self, generation: int, digest: str) -> None:
        """Raise PreviewChanged unless the differences of a generation still have this digest.

        The caller has the generation lock. Raises InvalidParameter if `digest` is none.
        """
        match = _DIGEST.fullmatch(digest)
        if match is None:
            raise InvalidParameter(
                f"'digest' must be the digest of a difference, like 'month UTC 3f0c…', not {abbreviated_repr(digest)}.",
                field="digest",
                value=digest,
            )
        windows = _Windows(require_choice(match[1], "window", CalendarWindow), get_timezone(match[2]))
        self._projector.catch_up()
        present = self._diff(generation, windows, NO_DIMENSIONS)
        if present.digest != digest:
            raise PreviewChanged(
                f"The differences of generation {generation} have changed since they were previewed. Compare it again "
                "and promote it with the new digest.",
                field="digest",
                value=digest,
            )

    def _diff(self, generation: int, windows: "_Windows", dimensions: DimensionArguments) -> GenerationDifference:
        compared = self._generations.get_built(generation)
        for _ in range(_MAX_ATTEMPTS):
            with self._generations.views.read_session() as live:
                other = live.for_generation(generation)
                live_position, other_position = live.position(), other.position()
                if live_position == other_position:
                    differences, meters = self._compare(live, other, windows, dimensions)
                    digest = _digest(windows, differences) if dimensions is NO_DIMENSIONS else None
                    return GenerationDifference(generation, live_position, differences, meters, digest)
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
        other_meters, named = other.meters(), {*dimensions.where, *dimensions.group_by}
        for event_name, meter in sorted(live.meters().items()):
            other_meter = other_meters.get(event_name)
            if other_meter is None or not (meter.folded and other_meter.folded and meter.is_known(None)):
                continue
            schedules = meter.folded_schedule, other_meter.folded_schedule
            keys = [key for schedule in schedules for part in schedule.parts for key in part.rules.all_dimension_keys]
            if not named <= set(keys):
                continue
            before = _FoldedMeter(self._meter_queries.views_of(live, meter), schedules[0], dimensions, keys)
            after = _FoldedMeter(self._meter_queries.views_of(other, other_meter), schedules[1], dimensions, keys)
            closed = _ClosedPeriods(self._generations.ledger.closed_periods(event_name))
            differences, sums = _compare_meter(event_name, before, after, windows, closed)
            customer_differences += differences
            meter_differences.append(sums)
        if named and not meter_differences:
            raise InvalidParameter(
                f"No meter has the dimensions {', '.join(map(repr, sorted(named)))} in either generation.",
                field="group_by" if dimensions.group_by else "where",
            )
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
            (names[customer_id], index, group): self.rules_from(boundaries[index]).quantity(totals)
            for (index, customer_id, group), totals in totals_by_key.items()
        }

    def rules_from(self, start: int) -> Rules:
        """Return the rules of the quantity of the range that starts then."""
        return self.view.rules_from(start)


_QuantityKey = tuple[str, int, Group]
"""Customer, index of the window, and group of dimension values."""
_Quantities = dict[_QuantityKey, Decimal]


def _compare_meter(
    event_name: str, before: _FoldedMeter, after: _FoldedMeter, windows: _Windows, closed: "_ClosedPeriods"
) -> tuple[list[CustomerDifference], MeterDifference]:
    spans = [span for meter in (before, after) if (span := meter.view.time_span(None)) is not None]
    if not spans:
        return [], MeterDifference(event_name, 0, ZERO, ZERO)
    time_span = min(start for start, _ in spans), max(end for _, end in spans)
    boundaries = window_boundaries(ALL_TIME, time_span, *windows)
    for schedule in (before.schedule, after.schedule):
        boundaries = split_at_changes(ALL_TIME, boundaries, schedule)
    ranges = list(pairwise(map(from_microseconds, boundaries)))
    quantities_before, quantities_after = before.quantities(boundaries), after.quantities(boundaries)
    differences: list[CustomerDifference] = []
    for key in sorted(quantities_before.keys() | quantities_after.keys(), key=_key_order):
        customer, index, group = key
        quantity_before, quantity_after = quantities_before.get(key, ZERO), quantities_after.get(key, ZERO)
        billable_before = before.rules_from(boundaries[index]).billable(quantity_before)
        billable_after = after.rules_from(boundaries[index]).billable(quantity_after)
        if (quantity_before, billable_before) != (quantity_after, billable_after):
            differences.append(
                CustomerDifference(
                    event_name, customer, *ranges[index], quantity_before, quantity_after, billable_before,
                    billable_after, closed.state(customer, *ranges[index]),
                    dict(zip(before.group_by, group, strict=False)),
                )
            )  # fmt: skip
    customers = len({difference.customer for difference in differences})
    return differences, MeterDifference(event_name, customers, _sum(quantities_before), _sum(quantities_after))


class _ClosedPeriods:
    """The closed periods of one meter, by customer."""

    def __init__(self, customers: Iterable[CustomerPeriods]) -> None:
        self._by_customer = {
            periods.customer: [(period.start, period.end) for period in periods.closed_periods if period.is_closed]
            for periods in customers
        }

    def state(self, customer: str, start: datetime, end: datetime) -> WindowState:
        """Return whether the periods of a customer in [start, end) are closed."""
        overlapping = [
            min(end, period_end) - max(start, period_start)
            for period_start, period_end in self._by_customer.get(customer, ())
            if period_start < end and start < period_end
        ]
        if not overlapping:
            return WindowState.OPEN
        return WindowState.CLOSED if sum(overlapping, timedelta()) == end - start else WindowState.PARTLY_CLOSED


def _size(difference: CustomerDifference) -> Decimal:
    """Return the larger one of the differences of the total and of the billable quantity, without their signs."""
    billable_difference = EXACT_CONTEXT.subtract(difference.billable_after, difference.billable_before)
    return max(abs(difference.difference), abs(billable_difference))


def _digest(windows: _Windows, differences: Iterable[CustomerDifference]) -> str:
    """Return the digest of differences: window, timezone, and the SHA-256 of a line of JSON for each difference.

    A line has the billable quantities if they aren't the totals.
    """
    sha256 = hashlib.sha256()
    for difference in differences:
        totals = difference.before, difference.after
        billable = difference.billable_before, difference.billable_after
        line = (
            difference.event_name, difference.customer, to_iso(difference.start), to_iso(difference.end),
            *map(to_plain_string, map(canonical, totals if billable == totals else totals + billable)),
        )  # fmt: skip
        sha256.update(msgspec.json.encode(line) + b"\n")
    return f"{windows.window} {windows.timezone.key} {sha256.hexdigest()}"


_DIGEST = re.compile(r"([a-z]+) (\S+) [0-9a-f]{64}")


def _key_order(key: _QuantityKey) -> tuple[str, int, object]:
    customer, index, group = key
    return customer, index, group_order(group)


def _sum(quantities: _Quantities) -> Decimal:
    total = ZERO
    for quantity in quantities.values():
        total = EXACT_CONTEXT.add(total, quantity)
    return total
