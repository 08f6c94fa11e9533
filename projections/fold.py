"""The fold: from the stored events of a page to a MeterDelta of each meter.

It is pure. The live projection, rebuilds and verification share it.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from ..domain.errors import DatabasePermissionDenied, LedgerUnavailable, ProjectionStopped, TallybookError
from ..domain.meter_event import MeterEventData
from ..domain.rules import Rules
from ..domain.schedule import ALWAYS, RulesPart
from ..domain.timestamps import EPOCH, MICROSECOND, to_microseconds
from .blocks import BucketKey, UsageRow
from .buckets import bucket_end, bucket_sizes, bucket_start
from .dimensions import encode_dimensions
from .high_water_marks import BEFORE_ALL_TIMES, PageMarks
from .models import CancellationMark, FoldedRules, PinnedRules, ProjectedMeter, RulesRevision
from .stored_events import (
    CancelRevokedData,
    ConfiguredData,
    DecodedEvent,
    EventCancelledData,
    PositionedEvent,
    RulesChangedData,
    projection_stopped,
    topic_for,
)


class PartUsage:
    """The usage in one page of the ledger that is folded under one part of a meter's rules over time.

    It has the new records by bucket, in ledger order, as they are encoded, and the cancellations and revocations of new
    or earlier records.
    """

    def __init__(self, folded: FoldedRules) -> None:
        self.folded = folded
        self.parse = folded.rules.parser()
        self.bucket_seconds = bucket_sizes(folded.rules.event_time_window)[-1]
        self.bucket_microseconds = bucket_end(0, self.bucket_seconds)
        self.rows_by_bucket: defaultdict[BucketKey, list[UsageRow]] = defaultdict(list)
        self.cancellations: list[CancellationMark] = []


class MeterPageUsage:
    """The usage of one meter in one page of the ledger, and whether the meter was configured or its rules changed."""

    def __init__(self, meter: ProjectedMeter, *, has_meter_changes: bool = False) -> None:
        self.meter = meter
        self.has_meter_changes = has_meter_changes
        self.parts = [PartUsage(folded) for folded in meter.folded]
        self.only_part = self.parts[0] if len(self.parts) == 1 else None
        self._starts = [folded.start for folded in meter.folded]

    def part_at(self, occurred_at: int) -> PartUsage:
        """Return the part for usage that occurred at a time in microseconds."""
        return self.only_part or self.parts[bisect_right(self._starts, occurred_at) - 1]

    @property
    def has_changes(self) -> bool:
        """Whether the page changes the read model of the meter."""
        return self.has_meter_changes or any(part.rows_by_bucket or part.cancellations for part in self.parts)


class PageUsage:
    """One page: the usage of each meter, the meters that count the events of each event name, and high-water marks."""

    def __init__(self, meters: Mapping[str, ProjectedMeter]) -> None:
        self.marks = PageMarks()
        self.by_meter: dict[str, MeterPageUsage] = {}
        self.only_parts: dict[str, tuple[PartUsage, ...] | None] = {}
        """By event name, the part of each meter that counts its events; None if one of them has several parts."""
        self._by_event_name: dict[str, tuple[MeterPageUsage, ...]] = {}
        for meter in meters.values():
            self.add(meter)

    def add(self, meter: ProjectedMeter, *, has_meter_changes: bool = False) -> None:
        """Add a meter, which counts the events of its name or of its source; none if it isn't folded."""
        meter_usage = self.by_meter[meter.event_name] = MeterPageUsage(meter, has_meter_changes=has_meter_changes)
        if meter.folded:
            event_name = meter.recorded_name
            counting = self._by_event_name[event_name] = (*self._by_event_name.get(event_name, ()), meter_usage)
            only_parts = tuple(usage.only_part for usage in counting if usage.only_part is not None)
            self.only_parts[event_name] = only_parts if len(only_parts) == len(counting) else None

    def parts_at(self, event_name: str, occurred_at: int) -> tuple[PartUsage, ...]:
        """Return the part of each meter that counts an event that occurred then. Raises KeyError."""
        return tuple(meter_usage.part_at(occurred_at) for meter_usage in self._by_event_name[event_name])

    @property
    def changed(self) -> list[MeterPageUsage]:
        """The usage of each meter whose read model the page changes."""
        return [meter_usage for meter_usage in self.by_meter.values() if meter_usage.has_changes]

    def last_meter_id(self) -> int:
        """Return the highest number of rows of a meter; 0 if there is none."""
        return max((part.folded.meter_id for usage in self.by_meter.values() for part in usage.parts), default=0)


def fold_page(
    events: Iterable[PositionedEvent],
    meters: Mapping[str, ProjectedMeter],
    customer_ids: Mapping[str, int],
    pinned: PinnedRules,
) -> PageUsage:
    """Return the usage of each meter in `events`, and their high-water marks.

    `meters` are the meters known before the page. `customer_ids` maps each customer to an id, and allocates ids for new
    customers. New meters are folded under their `pinned` rules or, without any, under their configured rules. A pinned
    derived meter counts its source's events from the first on, before it is configured. Without pinned rules, earlier
    events would be missing, so it isn't folded.
    Raises ProjectionStopped at the first event that can't be folded.
    """
    page_usage = PageUsage(meters)
    only_parts = page_usage.only_parts
    position, event = 0, None
    batch_recorded_at, recorded_at, latest, next_mark = None, 0, BEFORE_ALL_TIMES, 0
    try:
        for position, event in events:
            if event.recorded_at != batch_recorded_at:  # the events of a batch share their time of recording
                batch_recorded_at, recorded_at = event.recorded_at, to_microseconds(event.recorded_at)
                if recorded_at > latest:
                    if position > next_mark:
                        next_mark = page_usage.marks.add_before(position, latest)
                    latest = recorded_at
            if type(event) is MeterEventData:
                # Inlined to_microseconds and bucket_start, because this runs for every meter event.
                occurred_at = (event.occurred_at - EPOCH) // MICROSECOND
                for part in only_parts[event.event_name] or page_usage.parts_at(event.event_name, occurred_at):
                    customer, value, dimension_values, unique_value, is_filtered = part.parse(event.payload)
                    customer_id = customer_ids[customer]
                    dimensions = encode_dimensions(dimension_values) if dimension_values else ""
                    part.rows_by_bucket[
                        customer_id, occurred_at - occurred_at % part.bucket_microseconds, dimensions
                    ].append(
                        (occurred_at, position, value, recorded_at)
                        if unique_value is None and not is_filtered
                        else (occurred_at, position, value, recorded_at, None, unique_value, is_filtered)
                    )
            elif isinstance(event, EventCancelledData):
                _fold_cancellation(position, event, page_usage, customer_ids)
            else:
                _fold_meter_change(position, event, page_usage, pinned)
    except (LedgerUnavailable, DatabasePermissionDenied, ProjectionStopped):
        raise  # these name the cause already, and a database failure isn't an error of the event
    except (ArithmeticError, KeyError, TallybookError, TypeError, ValueError) as error:
        raise projection_stopped(position, topic_for(event), error) from error
    page_usage.marks.add_before(position + 1, latest)
    return page_usage


def _fold_cancellation(
    position: int, cancelled: EventCancelledData, page_usage: PageUsage, customer_ids: Mapping[str, int]
) -> None:
    occurred_at = to_microseconds(cancelled.occurred_at)
    is_revocation = isinstance(cancelled, CancelRevokedData)
    for part in page_usage.parts_at(cancelled.event_name, occurred_at):
        customer, _, dimension_values, *_ = part.parse(cancelled.payload)
        start, dimensions = bucket_start(occurred_at, part.bucket_seconds), encode_dimensions(dimension_values)
        key = (customer_ids[customer], start, dimensions)
        mark = CancellationMark(key, cancelled.recorded_position, position, is_revocation=is_revocation)
        part.cancellations.append(mark)


def _fold_meter_change(position: int, event: DecodedEvent, page_usage: PageUsage, pinned: PinnedRules) -> None:
    if isinstance(event, ConfiguredData):
        _fold_meter(position, event, page_usage, pinned)
    elif isinstance(event, RulesChangedData):
        _fold_rules(position, event, page_usage)


def _fold_meter(position: int, configured: ConfiguredData, page_usage: PageUsage, pinned: PinnedRules) -> None:
    event_name, source = configured.event_name, configured.source
    known = page_usage.by_meter.get(event_name)
    if known is not None and (known.meter.history or known.meter.source != source):
        raise ValueError(f"the meter {event_name!r} is configured already")
    rules = Rules.model_validate_json(bytes(configured.rules))
    history = (RulesRevision(1, rules, position, to_microseconds(configured.recorded_at)),)
    if known is not None:  # a pinned derived meter
        known.meter, known.has_meter_changes = replace(known.meter, history=history), True
    elif source is not None:
        page_usage.add(ProjectedMeter(event_name, (), history, source), has_meter_changes=True)
    else:
        parts = pinned[event_name].parts if event_name in pinned else (RulesPart(ALWAYS, rules),)
        folded = _number_parts(parts, page_usage)
        page_usage.add(ProjectedMeter(event_name, folded, history), has_meter_changes=True)
        for derived_name, derived in sorted(pinned.items()):
            if derived.source == event_name:
                folded = _number_parts(derived.parts, page_usage)
                page_usage.add(ProjectedMeter(derived_name, folded, (), event_name), has_meter_changes=True)


def _number_parts(parts: Iterable[RulesPart], page_usage: PageUsage) -> tuple[FoldedRules, ...]:
    first_id = page_usage.last_meter_id() + 1
    return tuple(FoldedRules(meter_id, *part) for meter_id, part in enumerate(parts, first_id))


def _fold_rules(position: int, changed: RulesChangedData, page_usage: PageUsage) -> None:
    """Add the new revision to the meter's history; its usage stays folded under the same rules."""
    meter_usage = page_usage.by_meter[changed.event_name]
    rules = Rules.model_validate_json(bytes(changed.rules))
    start = ALWAYS if changed.effective_from is None else to_microseconds(changed.effective_from)
    revision = RulesRevision(changed.revision, rules, position, to_microseconds(changed.recorded_at), start)
    meter_usage.meter = replace(meter_usage.meter, history=(*meter_usage.meter.history, revision))
    meter_usage.has_meter_changes = True
