"""Which meter events a bulk cancellation cancels, and what that changes: its preview."""

import hashlib
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from ...domain.bulk_cancellation import CancellationSelection
from ...domain.calendar import CalendarWindow
from ...domain.counting import UsageRecord, window_start
from ...domain.decimals import EXACT_CONTEXT
from ...domain.errors import InvalidCancellation
from ...domain.rules_schedule import ALL_TIME, RulesSchedule
from ...domain.timestamps import from_microseconds, to_microseconds
from ...domain.totals import Totals
from ...projections.excluded_usage import ExcludedUsage
from ...projections.models import AsOf
from ...projections.usage_view import UsageView
from ..cancellation_views import CancellationPreview, CancellationPreviewRow
from ..interruption import check_between, check_interruption
from ..ledger.import_runs import ImportRuns
from ..ledger.ledger import Ledger
from ..ledger.position_ranges import PositionRanges
from .dimension_query import NO_DIMENSIONS, DimensionArguments
from .meter_query import Bounds, MeterQuery, MeterQueryFactory, OpenMeter
from .totals import split_at_changes, window_boundaries

MAX_SELECTED_EVENTS = 1_000_000
"""Positions of all selected events are in memory."""
EVENTS_PER_BATCH = 1_000
"""The number of meter events that are read, or cancelled in one transaction."""
_MAX_CUSTOMERS_READ_SINGLY = 50
"""The totals of more customers are read with those of all customers."""


class PendingEvent(NamedTuple):
    """A meter event to cancel: its position, and the version of its stream that the cancellation has."""

    position: int
    version: int


class SelectedEvent(NamedTuple):
    """What the preview needs of the usage record of a meter event. A record may have a long text."""

    customer_id: int
    occurred_at: int
    position: int


class _Candidate(NamedTuple):
    """A meter event that matches the selection; `pending` is None if it is cancelled by now."""

    event: SelectedEvent
    pending: PendingEvent | None
    is_cancelled: bool
    is_too_old: bool


@dataclass
class SelectedEvents:
    """The meter events of a selection as of a position, in the order of their recording.

    `pending` are those that are to be cancelled and aren't yet. `digest` is the SHA-256 of the identifiers of all that
    are to be cancelled, a line each.
    """

    position: int
    events: list[SelectedEvent] = field(default_factory=list[SelectedEvent])
    pending: list[PendingEvent] = field(default_factory=list[PendingEvent])
    already_cancelled: int = 0
    too_old: int = 0
    digest: str = ""


class CancellationQueries:
    """Selects the meter events of bulk cancellations."""

    def __init__(self, ledger: Ledger, meter_queries: MeterQueryFactory) -> None:
        self._ledger = ledger
        self._meter_queries = meter_queries
        self._import_runs = ImportRuns(ledger)

    def select(
        self,
        event_name: str,
        selection: CancellationSelection,
        *,
        cancellable_from: datetime | None,
        position: int | None = None,
    ) -> SelectedEvents:
        """Return the meter events of a selection as of a position, now if None. Raises as a query of the meter does."""
        with self._meter_queries.session() as read_models:
            known = AsOf(position=read_models.position() if position is None else position)
            meter = self._meter_queries.open_meter(read_models, event_name, known)
            return self._select(meter, selection, cancellable_from)

    def preview(
        self,
        event_name: str,
        selection: CancellationSelection,
        timezone: ZoneInfo,
        cancellable_from: datetime | None,
        position: int | None = None,
    ) -> CancellationPreview:
        """Return what would be cancelled, and the totals of each customer and month before and after that.

        The meter events are those of a selection as of a position, now if None. The totals are those of now.
        """
        with self._meter_queries.session() as read_models:
            meter = self._meter_queries.open_meter(read_models, event_name, AsOf(position=read_models.position()))
            if position is None:
                selected = self._select(meter, selection, cancellable_from)
            else:
                then = self._meter_queries.open_meter(read_models, event_name, AsOf(position=position))
                selected = self._select(then, selection, cancellable_from)
                _keep_pending(selected, None if then.schedule == meter.schedule else meter)
            rows = tuple(_preview_rows(meter, selected.events, timezone)) if selected.events else ()
        return CancellationPreview(
            event_name, selection, selected.position, len(selected.events), selected.digest,
            selected.already_cancelled, selected.too_old, rows,
        )  # fmt: skip

    def _select(
        self, meter: OpenMeter, selection: CancellationSelection, cancellable_from: datetime | None
    ) -> SelectedEvents:
        assert meter.as_of is not None
        bounds, positions = self._bounds(selection)
        query = meter.exact_query(bounds, _dimensions(selection))
        first = ALL_TIME[0] if cancellable_from is None else to_microseconds(cancellable_from)
        candidates: list[_Candidate] = []
        for record in _records(query, query.customer_id(selection.customer), bounds):
            then = meter.as_of.visible(record)
            if then is None or not _is_recorded_in(record, selection, positions):
                continue
            candidates.append(_candidate(record, is_cancelled=then.cancelled_position is not None, first=first))
            if len(candidates) % EVENTS_PER_BATCH == 0:
                check_interruption()
            if len(candidates) > MAX_SELECTED_EVENTS:
                raise InvalidCancellation(
                    f"More than {MAX_SELECTED_EVENTS:,} meter events are selected; cancel them in parts, by customer "
                    "or by time.",
                    field="event_name",
                    value=meter.event_name,
                )
        candidates.sort(key=lambda candidate: candidate.event.position)
        return self._classify(meter.as_of.position, candidates, selection.identifier_prefix or "")

    def _classify(self, position: int, candidates: Sequence[_Candidate], prefix: str) -> SelectedEvents:
        selected, digest = SelectedEvents(position), hashlib.sha256()
        for first in range(0, len(candidates), EVENTS_PER_BATCH):
            check_interruption()
            batch = candidates[first : first + EVENTS_PER_BATCH]
            stored = self._ledger.meter_events_at([candidate.event.position for candidate in batch])
            for event, pending, is_cancelled, is_too_old in batch:
                identifier = stored[event.position][0]
                if not identifier.startswith(prefix):
                    continue
                if is_cancelled or is_too_old:
                    selected.already_cancelled += is_cancelled
                    selected.too_old += not is_cancelled
                    continue
                digest.update(f"{identifier}\n".encode())
                selected.events.append(event)
                if pending is not None:
                    selected.pending.append(pending)
        selected.digest = digest.hexdigest()
        return selected

    def _bounds(self, selection: CancellationSelection) -> tuple[Bounds, PositionRanges | None]:
        """Return the range of the time of usage, and the positions of the import, if the selection has one."""
        start = ALL_TIME[0] if selection.start is None else to_microseconds(selection.start)
        end = ALL_TIME[1] if selection.end is None else to_microseconds(selection.end)
        if selection.import_run is None:
            return (start, end), None
        run = self._import_runs.get(selection.import_run)
        earliest, latest = run.time_span
        return (max(start, earliest), max(min(end, latest + 1), start, earliest)), run.positions


def _dimensions(selection: CancellationSelection) -> DimensionArguments:
    if not selection.where:
        return NO_DIMENSIONS
    return DimensionArguments({key: frozenset(values) for key, values in selection.where.items()}, ())


def _records(query: MeterQuery, customer_id: int | None, bounds: Bounds) -> Iterator[UsageRecord]:
    """Yield the records in a range, with all of their cancellations, also superseded and filtered ones."""
    time_span = query.view.time_span(customer_id)
    if time_span is None:
        return
    for part in query.view.parts:
        start, end = max(bounds[0], time_span[0], part.start), min(bounds[1], time_span[1], part.end)
        if start < end:
            yield from part.source.usage_between(customer_id, start, end, None)


def _candidate(record: UsageRecord, *, is_cancelled: bool, first: int) -> _Candidate:
    """Return a record as a candidate; those recorded before the time `first` are too old."""
    event = SelectedEvent(record.customer_id, record.occurred_at, record.position)
    pending = PendingEvent(record.position, 2 + 2 * len(record.revoked)) if record.cancelled_position is None else None
    return _Candidate(event, pending, is_cancelled, record.recorded_at < first)


def _is_recorded_in(record: UsageRecord, selection: CancellationSelection, positions: PositionRanges | None) -> bool:
    if selection.recorded_from is not None and record.recorded_at < to_microseconds(selection.recorded_from):
        return False
    if selection.recorded_until is not None and record.recorded_at >= to_microseconds(selection.recorded_until):
        return False
    return positions is None or record.position in positions


def _keep_pending(selected: SelectedEvents, changed: OpenMeter | None) -> None:
    """Leave out the events that were cancelled since the position of a selection.

    If the rules were changed since, `changed` is the meter with the new ones: its events may have other customers.
    """
    pending = {event.position for event in selected.pending}
    events = [event for event in selected.events if event.position in pending]
    selected.already_cancelled += len(selected.events) - len(events)
    if changed is not None and events:
        bounds = min(event.occurred_at for event in events), max(event.occurred_at for event in events) + 1
        records = _records(changed.exact_query(bounds), None, bounds)
        events = [
            SelectedEvent(record.customer_id, record.occurred_at, record.position)
            for record in check_between(records)
            if record.position in pending
        ]
    selected.events = events


def _preview_rows(
    meter: OpenMeter, events: Sequence[SelectedEvent], timezone: ZoneInfo
) -> Iterator[CancellationPreviewRow]:
    """Yield the totals of each customer and month with selected events, now and without them.

    An event is in the month in which its event time window starts.
    """
    times = [_counted_at(meter.schedule, event.occurred_at) for event in events]
    boundaries = window_boundaries(ALL_TIME, (min(times), max(times) + 1), CalendarWindow.MONTH, timezone)
    boundaries = split_at_changes(ALL_TIME, boundaries, meter.schedule)
    excluded = frozenset(event.position for event in events)
    view = meter.query((boundaries[0], boundaries[-1])).view
    parts = [part._replace(source=ExcludedUsage(part.source, excluded)) for part in view.parts]
    without = UsageView(parts, view.customer_names)
    counts = _counts(events, times, boundaries)
    customers = {customer_id for _, customer_id in counts}
    wanted = sorted(customers) if len(customers) <= _MAX_CUSTOMERS_READ_SINGLY else [None]
    before, after = (_totals(usage, wanted, boundaries, meter.as_of) for usage in (view, without))
    names = view.customer_names(customers)
    for index, customer_id in sorted(counts, key=lambda key: (names[key[1]], key[0])):
        rules = view.rules_from(boundaries[index])
        quantity, new_quantity = (
            rules.quantity(totals.get((index, customer_id), Totals())) for totals in (before, after)
        )
        yield CancellationPreviewRow(
            names[customer_id], from_microseconds(boundaries[index]), from_microseconds(boundaries[index + 1]),
            counts[index, customer_id], quantity, new_quantity, EXACT_CONTEXT.subtract(new_quantity, quantity),
        )  # fmt: skip


def _counted_at(schedule: RulesSchedule, occurred_at: int) -> int:
    """Return the time that decides to which range an event belongs: the start of its window, or when it occurred."""
    window = schedule.at(occurred_at).rules.event_time_window
    return occurred_at if window is None else window_start(occurred_at, window)


def _counts(
    events: Sequence[SelectedEvent], times: Sequence[int], boundaries: Sequence[int]
) -> dict[tuple[int, int], int]:
    counts: defaultdict[tuple[int, int], int] = defaultdict(int)
    for event, counted_at in zip(events, times, strict=True):
        counts[bisect_right(boundaries, counted_at) - 1, event.customer_id] += 1
    return counts


def _totals(
    view: UsageView, customers: Sequence[int | None], boundaries: Sequence[int], as_of: AsOf | None
) -> dict[tuple[int, int], Totals]:
    return {
        (index, customer_id): totals
        for wanted in customers
        for (index, customer_id, _), totals in view.totals(wanted, boundaries, as_of).items()
    }
