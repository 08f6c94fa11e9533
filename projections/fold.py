"""The fold: from the stored events of a page to a MeterDelta of each meter.

It is pure. The live projection, rebuilds and verification share it.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain

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
from .blocks import UsageRow, UsageRowWithOptions
from .buckets import DAY_MICROSECONDS, bucket_start
from .dimensions import encode_dimensions
from .fold_columns import fold_columns
from .models import CancellationMark, FoldedRules, PinnedRules, ProjectedMeter, RulesRevision
from .page_usage import PageUsage
from .stored_events import (
    CancelRevokedData,
    ConfiguredData,
    DecodedEvent,
    EventCancelledData,
    EventChunk,
    RulesChangedData,
    projection_stopped,
    topic_for,
)


def fold_page(
    chunks: Iterable[EventChunk],
    meters: Mapping[str, ProjectedMeter],
    customer_ids: Mapping[str, int],
    pinned: PinnedRules,
) -> PageUsage:
    """Return the usage of each meter in the events of a page, and their high-water marks.

    `meters` are the meters known before the page. `customer_ids` maps each customer to a number, also new ones. New
    meters are folded under their `pinned` rules or, without any, under their configured rules. A pinned derived meter
    counts its source's events from the first on, before it is configured. Without pinned rules, earlier events would be
    missing, so it isn't folded.
    Raises ProjectionStopped at the first event that can't be folded.
    """
    page_usage, last_position = PageUsage(meters), 0
    for chunk in chain.from_iterable(map(_divided_by_batch, chunks)):
        if not fold_columns(chunk, page_usage, customer_ids):
            _fold_one_by_one(chunk, page_usage, customer_ids, pinned)
        last_position = chunk.positions[-1]
    page_usage.marks.add_before(last_position + 1)
    return page_usage


def _divided_by_batch(chunk: EventChunk) -> Sequence[EventChunk]:
    """Return a chunk that has the end of one batch and the start of another as a chunk of each."""
    events = chunk.events
    first, last = events[0].recorded_at, events[-1].recorded_at
    end = bisect_left(events, True, key=lambda event: event.recorded_at != first)
    return chunk.divided_at(end) if end < len(events) and events[end].recorded_at == last else (chunk,)


def _fold_one_by_one(
    chunk: EventChunk, page_usage: PageUsage, customer_ids: Mapping[str, int], pinned: PinnedRules
) -> None:
    only_parts, marks = page_usage.only_parts, page_usage.marks
    position, event = 0, None
    # What consecutive events mostly share is looked up once: the time of recording of a batch, the meter and the day.
    batch_recorded_at, recorded_at = None, 0
    event_name, parts, day, day_start = "", None, None, 0
    try:
        for position, event in zip(*chunk, strict=True):
            if event.recorded_at != batch_recorded_at:
                batch_recorded_at, recorded_at = event.recorded_at, to_microseconds(event.recorded_at)
                marks.add_event(position, recorded_at)
            if type(event) is MeterEventData:
                # Inlined to_microseconds, because this runs for every meter event.
                since_epoch = event.occurred_at - EPOCH
                if since_epoch.days != day:
                    day = since_epoch.days
                    day_start = day * DAY_MICROSECONDS
                    page_usage.days.add(day)
                occurred_at = day_start + since_epoch.seconds * MICROSECONDS_PER_SECOND + since_epoch.microseconds
                if event.event_name != event_name:
                    event_name = event.event_name
                    parts = only_parts[event_name]
                for part in parts or page_usage.parts_at(event_name, occurred_at):
                    customer, value, dimension_values, unique_value, is_filtered = part.parse(event.payload)
                    customer_id = customer_ids[customer]
                    dimensions = encode_dimensions(dimension_values) if dimension_values else ""
                    part.rows[customer_id, dimensions].append(
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
        raise  # these name the cause already
    except (ArithmeticError, KeyError, TallybookError, TypeError, ValueError) as error:
        raise projection_stopped(position, topic_for(event), error) from error


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
