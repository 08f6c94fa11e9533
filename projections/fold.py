"""The fold: from the stored events of a page to a MeterDelta of each meter.

It is pure. The live projection, rebuilds and verification share it.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ..domain.errors import (
    ArchiveMismatch,
    ArchiveUnavailable,
    DatabasePermissionDenied,
    LedgerUnavailable,
    ProjectionStopped,
    TallybookError,
)
from ..domain.meter_event import MeterEventData
from ..domain.rules import Rules
from ..domain.rules_schedule import ALWAYS, RulesPart
from ..domain.timestamps import EPOCH, MICROSECONDS_PER_SECOND, to_microseconds
from .blocks import CombinationKey, UsageRow, UsageRowWithOptions
from .buckets import DAY_MICROSECONDS, bucket_end, bucket_sizes, bucket_start
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

    It has the new records by bucket, as they are encoded, and the cancellations and revocations of new
    or earlier records.
    """

    def __init__(self, folded: FoldedRules) -> None:
        self.folded = folded
        self.parse = folded.rules.parser()
        self.bucket_seconds = bucket_sizes(folded.rules.event_time_window)[-1]
        self.bucket_microseconds = bucket_end(0, self.bucket_seconds)
        self.has_days = self.bucket_microseconds == DAY_MICROSECONDS
        self.rows_by_bucket: defaultdict[CombinationKey, defaultdict[int, list[UsageRow]]] = defaultdict(_new_rows)
        self.cancellations: list[CancellationMark] = []

    def replace_customers(self, customer_ids: Sequence[int]) -> None:
        """Replace each customer, which was folded under an index of `customer_ids`, with its id there."""
        rows_by_bucket = self.rows_by_bucket
        self.rows_by_bucket = defaultdict(_new_rows)
        for (customer, dimensions), rows in rows_by_bucket.items():
            self.rows_by_bucket[customer_ids[customer], dimensions] = rows
        self.cancellations = [
            mark._replace(key=(customer_ids[mark.key[0]], *mark.key[1:])) for mark in self.cancellations
        ]


def _new_rows() -> defaultdict[int, list[UsageRow]]:
    return defaultdict(list)


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
    """One page: the usage of each of its meters, and its high-water marks.

    Parsers are made for the meters of the page alone: a ledger may have thousands, and most pages few events.
    """

    def __init__(self, meters: Mapping[str, ProjectedMeter]) -> None:
        self.marks = PageMarks()
        self.only_parts = _OnlyParts(self)
        self._known_meters = meters
        self._usage: dict[str, MeterPageUsage] = {}
        self._counting_names: dict[str, list[str]] = {}
        """By event name, the meters that count its events."""
        self._counting: dict[str, tuple[MeterPageUsage, ...]] = {}
        """By event name, the usage of these meters."""
        for meter in meters.values():
            if meter.folded:
                self._counting_names.setdefault(meter.recorded_name, []).append(meter.event_name)

    def add(self, meter: ProjectedMeter, *, has_meter_changes: bool = False) -> None:
        """Add a meter, which counts the events of its name or of its source; none if it isn't folded."""
        self._usage[meter.event_name] = MeterPageUsage(meter, has_meter_changes=has_meter_changes)
        if meter.folded:
            self._counting_names.setdefault(meter.recorded_name, []).append(meter.event_name)
            self._counting.pop(meter.recorded_name, None)
            self.only_parts.pop(meter.recorded_name, None)

    def find(self, event_name: str) -> MeterPageUsage | None:
        """Return the usage of a meter; None if there is no such meter."""
        usage = self._usage.get(event_name)
        if usage is None and event_name in self._known_meters:
            usage = self._usage[event_name] = MeterPageUsage(self._known_meters[event_name])
        return usage

    def counting(self, event_name: str) -> tuple[MeterPageUsage, ...]:
        """Return the usage of the meters that count the events of an event name. Raises KeyError."""
        counting = self._counting.get(event_name)
        if counting is None:
            usages = map(self.find, self._counting_names[event_name])
            counting = self._counting[event_name] = tuple(usage for usage in usages if usage is not None)
        return counting

    def parts_at(self, event_name: str, occurred_at: int) -> tuple[PartUsage, ...]:
        """Return the part of each meter that counts an event that occurred then. Raises KeyError."""
        return tuple(meter_usage.part_at(occurred_at) for meter_usage in self.counting(event_name))

    @property
    def changed(self) -> list[MeterPageUsage]:
        """The usage of each meter whose read model the page changes."""
        return [meter_usage for meter_usage in self._usage.values() if meter_usage.has_changes]

    def last_meter_id(self) -> int:
        """Return the highest number of rows of a meter; 0 if there is none."""
        meters = [*self._known_meters.values(), *(usage.meter for usage in self._usage.values())]
        return max((folded.meter_id for meter in meters for folded in meter.folded), default=0)


class _OnlyParts(dict[str, tuple[PartUsage, ...] | None]):
    """By event name, the part of each meter that counts its events; None if one of them has several parts."""

    def __init__(self, page_usage: PageUsage) -> None:
        super().__init__()
        self._page_usage = page_usage

    def __missing__(self, event_name: str) -> tuple[PartUsage, ...] | None:
        counting = self._page_usage.counting(event_name)
        only_parts = tuple(usage.only_part for usage in counting if usage.only_part is not None)
        value = self[event_name] = only_parts if len(only_parts) == len(counting) else None
        return value


def fold_page(
    events: Iterable[PositionedEvent],
    meters: Mapping[str, ProjectedMeter],
    customer_ids: Mapping[str, int],
    pinned: PinnedRules,
) -> PageUsage:
    """Return the usage of each meter in `events`, and their high-water marks.

    `meters` are the meters known before the page. `customer_ids` maps each customer to a number, also new ones. New
    meters are folded under their `pinned` rules or, without any, under their configured rules. A pinned derived meter
    counts its source's events from the first on, before it is configured. Without pinned rules, earlier events would be
    missing, so it isn't folded.
    Raises ProjectionStopped at the first event that can't be folded.
    """
    page_usage = PageUsage(meters)
    only_parts = page_usage.only_parts
    position, event = 0, None
    # What consecutive events mostly share is looked up once: the time of recording of a batch, the meter and the day.
    batch_recorded_at, recorded_at, latest, next_mark = None, 0, BEFORE_ALL_TIMES, 0
    event_name, parts, day, day_start = "", None, 0, 0
    try:
        for position, event in events:
            if event.recorded_at != batch_recorded_at:
                batch_recorded_at, recorded_at = event.recorded_at, to_microseconds(event.recorded_at)
                if recorded_at > latest and position > next_mark:
                    next_mark = page_usage.marks.add_before(position, latest)
                latest = recorded_at if recorded_at > latest else latest  # noqa: FURB136 - faster than `max`
            if type(event) is MeterEventData:
                # Inlined to_microseconds and bucket_start, because this runs for every meter event.
                since_epoch = event.occurred_at - EPOCH
                if since_epoch.days != day:
                    day = since_epoch.days
                    day_start = day * DAY_MICROSECONDS
                occurred_at = day_start + since_epoch.seconds * MICROSECONDS_PER_SECOND + since_epoch.microseconds
                if event.event_name != event_name:
                    event_name = event.event_name
                    parts = only_parts[event_name]
                for part in parts or page_usage.parts_at(event_name, occurred_at):
                    customer, value, dimension_values, unique_value, is_filtered = part.parse(event.payload)
                    customer_id = customer_ids[customer]
                    dimensions = encode_dimensions(dimension_values) if dimension_values else ""
                    start = day_start if part.has_days else occurred_at - occurred_at % part.bucket_microseconds
                    part.rows_by_bucket[customer_id, dimensions][start].append(
                        UsageRow(occurred_at, position, value, recorded_at)
                        if unique_value is None and not is_filtered
                        else UsageRowWithOptions(
                            occurred_at, position, value, recorded_at, None, unique_value, is_filtered
                        )
                    )
            else:
                _fold_other_event(position, event, page_usage, customer_ids, pinned)
                event_name = ""  # a meter may have been added that counts the same events
    except (ArchiveMismatch, ArchiveUnavailable, DatabasePermissionDenied, LedgerUnavailable, ProjectionStopped):
        raise  # these name the cause already, and a failure to read events isn't an error of the last one
    except (ArithmeticError, KeyError, TallybookError, TypeError, ValueError) as error:
        raise projection_stopped(position, topic_for(event), error) from error
    page_usage.marks.add_before(position + 1, latest)
    return page_usage


def _fold_other_event(
    position: int,
    event: DecodedEvent,
    page_usage: PageUsage,
    customer_ids: Mapping[str, int],
    pinned: PinnedRules,
) -> None:
    if isinstance(event, EventCancelledData):
        _fold_cancellation(position, event, page_usage, customer_ids)
    elif isinstance(event, ConfiguredData):
        _fold_meter(position, event, page_usage, pinned)
    elif isinstance(event, RulesChangedData):
        _fold_rules(position, event, page_usage)


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


def _fold_meter(position: int, configured: ConfiguredData, page_usage: PageUsage, pinned: PinnedRules) -> None:
    event_name, source = configured.event_name, configured.source
    known = page_usage.find(event_name)
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
    meter_usage = page_usage.find(changed.event_name)
    if meter_usage is None:
        raise KeyError(changed.event_name)
    rules = Rules.model_validate_json(bytes(changed.rules))
    start = ALWAYS if changed.effective_from is None else to_microseconds(changed.effective_from)
    revision = RulesRevision(changed.revision, rules, position, to_microseconds(changed.recorded_at), start)
    meter_usage.meter = replace(meter_usage.meter, history=(*meter_usage.meter.history, revision))
    meter_usage.has_meter_changes = True
