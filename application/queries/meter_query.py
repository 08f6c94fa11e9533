"""A query of one meter: its usage in one consistent state of the read models, under the rules of the query."""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import NamedTuple

from ...domain.errors import RulesChangeInRange
from ...domain.rules import Rules
from ...domain.rules_schedule import RulesInRange, RulesSchedule
from ...domain.timestamps import from_microseconds, to_iso, to_microseconds
from ...projections.high_water_marks import MARK_INTERVAL
from ...projections.models import AsOf, ProjectedMeter
from ...projections.ports import ReadModelReader
from ...projections.stored_events import decode_recorded_at
from ...projections.usage_view import UsageView
from ..ledger.ledger import Ledger
from ..similar_names import meter_not_found, meter_not_found_then
from ..storage.ports import REBUILD_HINT, CorruptedReadModel
from ..validation import Moment, parse_as_of, require_event_name
from .dimension_query import NO_DIMENSIONS, DimensionArguments
from .freshness import FreshReadModels
from .total_results import CountedRange
from .view_factory import ViewFactory

Bounds = tuple[int, int]
"""A range [start, end) in microseconds since 1970 UTC."""


class MeterQuery(NamedTuple):
    """The usage of one meter in a range, in one consistent state of the read models, under the rules of the query.

    `position` is the last ledger position that the result includes. The events of the meter are recorded under
    `recorded_name`: its own name, or that of its source if it is derived.
    """

    event_name: str
    view: UsageView
    position: int
    as_of: AsOf | None
    recorded_name: str

    @property
    def rules(self) -> Rules:
        """The rules that the quantity of the range is computed under.

        Raises RulesChangeInRange if it has no single quantity.
        """
        return single_quantity_rules(self.event_name, [(part.start, part.rules) for part in self.view.parts])

    @property
    def revision(self) -> int:
        """The newest revision of the rules that applies to usage in the range."""
        return self.view.parts[-1].revision

    def counted_range(self, start: datetime, end: datetime) -> CountedRange:
        """Return a range, which lies in that of the query, with the times from and until which its usage counts."""
        bounds = to_microseconds(start), to_microseconds(end)
        return CountedRange.of(start, end, self.view.whole_windows(*bounds))

    def customer_id(self, customer: str | None) -> int | None:
        """Return the id of a customer, 0 (which no customer has) if it has no usage, and None for all customers."""
        return None if customer is None else self.view.customer_id(customer) or 0


def single_quantity_rules(event_name: str, parts: Sequence[tuple[int, Rules]]) -> Rules:
    """Return the rules for the quantity of a range, given the rules in it and their starts; the default if empty.

    Raises RulesChangeInRange if the range has no single quantity.
    """
    if not parts:
        return Rules()
    for start, rules in parts[1:]:
        if not rules.has_same_quantity(parts[0][1]):
            changed_at = from_microseconds(start)
            raise RulesChangeInRange(
                f"The rules of {event_name!r} change at {to_iso(changed_at)} inside the range, so it has no single "
                "quantity. Query the ranges before and after that, or summaries.",
                field="start",
                value=changed_at,
            )
    return parts[-1][1]


class OpenMeter(NamedTuple):
    """A meter in an open read session: its rules over time as of a point in the ledger, and views of its usage."""

    event_name: str
    views: ViewFactory
    schedule: RulesSchedule
    position: int
    as_of: AsOf | None
    recorded_name: str

    def query(self, bounds: Bounds, dimensions: DimensionArguments = NO_DIMENSIONS) -> MeterQuery:
        """Return a query of the usage in the windows that start in a range. Raises InvalidParameter."""
        return self._query(self.views.view(self.schedule, *bounds, dimensions))

    def exact_query(self, bounds: Bounds, dimensions: DimensionArguments = NO_DIMENSIONS) -> MeterQuery:
        """Return a query of the usage that occurred in a range, also in a part of a window."""
        return self._query(self.views.exact_view(self.schedule, *bounds, dimensions))

    def closing_query(self, bounds: Bounds, dimensions: DimensionArguments = NO_DIMENSIONS) -> MeterQuery:
        """Return a query of the usage in the range of a closed period.

        The dimensions may be those of any revision of the rules, because a period can be billed by dimensions that the
        meter got after it was first closed.
        """
        return self._query(self.views.exact_view(self.schedule, *bounds, dimensions, self.views.all_dimension_keys))

    def _query(self, view: UsageView) -> MeterQuery:
        return MeterQuery(self.event_name, view, self.position, self.as_of, self.recorded_name)

    def whole_windows(self, bounds: Bounds) -> Bounds:
        """Return the range of the windows that start in a range."""
        return self.views.view(self.schedule, *bounds).bounds

    def quantity_ranges(self, bounds: Bounds) -> Iterator[RulesInRange]:
        """Yield the parts of a range that each have a single quantity."""
        return self.schedule.quantity_ranges(*bounds)


class MeterQueryFactory:
    """Opens queries of meters on read models that are up to date."""

    def __init__(self, ledger: Ledger, read_models: FreshReadModels) -> None:
        self._ledger = ledger
        self._read_models = read_models

    def session(self, *, accept_outdated_rules: bool = False) -> AbstractContextManager[ReadModelReader]:
        """Open a read session that is up to date. See `FreshReadModels.session`."""
        return self._read_models.session(accept_outdated_rules=accept_outdated_rules)

    def as_of(self, as_of: object) -> AsOf | None:
        """Return the point in the ledger that an `as_of` argument names; None for now. Raises InvalidAsOf.

        A time is resolved to a position here, once, so that everything else works with positions.
        """
        known = parse_as_of(as_of)
        if not isinstance(known, Moment):
            return known
        with self.session(accept_outdated_rules=True) as read_models:
            return self._resolve(read_models, known)

    def position_at(self, at: datetime) -> int:
        """Return the position of the last event that was recorded by a time; 0 if there is none."""
        known = self.as_of(at)
        return 0 if known is None else known.position

    @contextmanager
    def open(self, event_name: str, as_of: datetime | int | None) -> Generator[OpenMeter]:
        """Check the arguments and open a meter. Raises InvalidParameter, InvalidAsOf or MeterNotFound."""
        event_name, known = require_event_name(event_name), parse_as_of(as_of)
        with self.session() as read_models:
            yield self.open_meter(read_models, event_name, self._resolve(read_models, known))

    @contextmanager
    def query(
        self,
        event_name: str,
        as_of: datetime | int | None,
        bounds: Bounds,
        dimensions: DimensionArguments = NO_DIMENSIONS,
    ) -> Generator[MeterQuery]:
        """Check the arguments and open a query of a range. Raises as `open` and `OpenMeter.query` do."""
        with self.open(event_name, as_of) as meter:
            yield meter.query(bounds, dimensions)

    def open_meter(self, read_models: ReadModelReader, event_name: str, as_of: AsOf | None = None) -> OpenMeter:
        """Return a meter in an open session, under the rules known at `as_of`.

        Raises MeterNotFound, also for a derived meter that was configured after `as_of`.
        """
        meters = read_models.meters()
        meter = meters.get(event_name)
        if meter is None or not meter.is_known(None):
            raise meter_not_found(event_name, [name for name, other in meters.items() if other.is_known(None)])
        if not meter.is_known(as_of):
            raise meter_not_found_then(event_name, from_microseconds(meter.history[0].recorded_at))
        head, views = read_models.position(), self.views_of(read_models, meter)
        position = head if as_of is None else min(head, as_of.position)
        return OpenMeter(event_name, views, meter.schedule(as_of), position, as_of, meter.recorded_name)

    def views_of(self, read_models: ReadModelReader, meter: ProjectedMeter) -> ViewFactory:
        """Return a factory of views of a meter's usage."""
        return ViewFactory(read_models, meter, self._payloads)

    def _resolve(self, read_models: ReadModelReader, as_of: AsOf | Moment | None) -> AsOf | None:
        """Resolve a time to the last position before the first event that was recorded later."""
        if not isinstance(as_of, Moment):
            return as_of
        if read_models.latest_recorded_at() <= as_of.at:
            return AsOf(read_models.position())
        later = self._first_recorded_after(as_of.at, read_models.last_mark_at(as_of.at))
        if later is None:
            raise CorruptedReadModel(f"The high-water marks of the read models are wrong. {REBUILD_HINT}")
        return AsOf(later - 1)

    def _first_recorded_after(self, moment: int, mark: int) -> int | None:
        """Return the position of the first event recorded after a moment, among those up to the next mark; or None."""
        for position, _, state in self._ledger.read_page(mark, MARK_INTERVAL):
            if to_microseconds(decode_recorded_at(state)) > moment:
                return position
        return None

    def _payloads(self, positions: Iterable[int]) -> Mapping[int, Mapping[str, str]]:
        return {position: data.payload for position, (_, data) in self._ledger.meter_events_at(positions).items()}
