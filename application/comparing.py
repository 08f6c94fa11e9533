"""What a generation would change: its figures beside those of the live one."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from itertools import pairwise
from zoneinfo import ZoneInfo

from ..domain.calendar import CalendarWindow, zone
from ..domain.errors import LedgerUnavailable
from ..domain.instants import FIRST, LAST, instant, microseconds
from ..domain.quantities import EXACT, ZERO
from ..projections.rows import Rows
from ..projections.usage_view import UsageView
from .arguments import choice
from .generations import Generations
from .reading import UsageReader
from .tiling import tiles

_TRIES = 100
_ALL_TIME = microseconds(FIRST), microseconds(LAST)


@dataclass(frozen=True, slots=True)
class Difference:
    """One customer's figure of one meter and period, by the live generation and by the one it is compared with."""

    event_name: str
    customer: str
    start: datetime
    end: datetime
    before: Decimal
    after: Decimal

    @property
    def difference(self) -> Decimal:
        """What is added by the other generation; negative where it takes away."""
        return EXACT.subtract(self.after, self.before)


@dataclass(frozen=True)
class MeterDifference:
    """The figures of one meter, of each customer and period, added up; and how many customers have any that differs."""

    event_name: str
    customers: int
    before: Decimal
    after: Decimal

    @property
    def difference(self) -> Decimal:
        """What is added by the other generation; negative where it takes away."""
        return EXACT.subtract(self.after, self.before)


@dataclass(frozen=True)
class GenerationDifference:
    """How a generation differs from the live one, both folded up to `position`.

    `differences` are the figures that differ, by meter, customer and period; `meters` sum up each meter, also those of
    which nothing differs.
    """

    generation: int
    position: int
    differences: tuple[Difference, ...]
    meters: tuple[MeterDifference, ...]

    @cached_property
    def largest(self) -> tuple[Difference, ...]:
        """The differences again, the largest first."""
        return tuple(sorted(self.differences, key=lambda one: -abs(one.difference)))


class Comparer:
    """Compares generations with the live one."""

    def __init__(self, generations: Generations, reader: UsageReader) -> None:
        self.generations = generations
        self.reader = reader

    def diff(self, generation: int, window: str, timezone: str) -> GenerationDifference:
        """How a generation differs from the live one, by windows of `timezone`. Brings both up to date first."""
        span, local = choice(window, "window", CalendarWindow), zone(timezone)
        with self.reader.caught_up():
            pass  # before the lock is held: it may wait for who holds it
        views = self.generations.views
        with views.alone(f"comparing generation {generation}"):
            compared = self.generations.built(generation)
            for _ in range(_TRIES):
                with views.reading() as live:
                    other = live.beside(generation)
                    positions = live.position(), other.position()
                    if positions[0] == positions[1]:
                        found = _differences(self.reader, live, other, span, local)
                        return GenerationDifference(generation, positions[0], *found)
                self.generations.bring_up(compared, until=positions[0])
                self.reader.projector.catch_up(until=positions[1])
        raise LedgerUnavailable("So much is asked that the two generations never stand at one position; try again.")


Quantities = dict[tuple[str, int], Decimal]
"""By customer and index of the window."""


def _differences(
    reader: UsageReader, live: Rows, other: Rows, window: CalendarWindow, timezone: ZoneInfo
) -> tuple[tuple[Difference, ...], tuple[MeterDifference, ...]]:
    differences: list[Difference] = []
    sums: list[MeterDifference] = []
    theirs = other.meters()
    for name, meter in sorted(live.meters().items()):
        views = reader.view(live, meter, meter.rules), reader.view(other, theirs[name], theirs[name].rules)
        extents = [extent for view in views if (extent := view.source.extent(None)) is not None]
        if not extents:
            sums.append(MeterDifference(name, 0, ZERO, ZERO))
            continue
        used = min(start for start, _ in extents), max(end for _, end in extents)
        boundaries = tiles(_ALL_TIME, used, window, timezone)
        before, after = (_figures(view, boundaries) for view in views)
        edges = list(pairwise(map(instant, boundaries)))
        found = [
            Difference(name, customer, *edges[index], before.get(key, ZERO), after.get(key, ZERO))
            for key in sorted(before.keys() | after.keys())
            if before.get(key, ZERO) != after.get(key, ZERO)
            for customer, index in (key,)
        ]
        differences += found
        sums.append(MeterDifference(name, len({one.customer for one in found}), _sum(before), _sum(after)))
    return tuple(differences), tuple(sums)


def _figures(view: UsageView, boundaries: list[int]) -> Quantities:
    totals = view.totals(None, boundaries)
    names = view.source.customer_names({number for _, number in totals})
    return {(names[number], index): of.quantity(view.rules.formula) for (index, number), of in totals.items()}


def _sum(figures: Quantities) -> Decimal:
    total = ZERO
    for figure in figures.values():
        total = EXACT.add(total, figure)
    return total
