"""The fold: from the stored events of a page to a MeterDelta of each meter.

It is pure. The live projection, rebuilds and verification share it.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

import msgspec

from ..domain.counting import UsageRecord
from ..domain.errors import DatabasePermissionDenied, LedgerUnavailable, ProjectionStopped, TallybookError
from ..domain.meter_event import MeterEventData
from ..domain.rules import Rules
from ..domain.schedule import ALWAYS, RulesPart
from ..domain.timestamps import EPOCH, MICROSECOND, to_microseconds
from .blocks import BucketKey
from .buckets import bucket_end, bucket_sizes, bucket_start
from .dimensions import encode_dimensions
from .models import CancellationMark, FoldedRules, PinnedRules, ProjectedMeter, RulesRevision
from .stored_events import (
    CancelRevokedData,
    ConfiguredData,
    EventCancelledData,
    PositionedEvent,
    RulesChangedData,
    projection_stopped,
    topic_for,
)


class PartUsage:
    """The usage in one page of the ledger that is folded under one part of a meter's rules over time.

    It has the new records by bucket, in ledger order, and the cancellations and revocations of new or earlier records.
    """

    def __init__(self, folded: FoldedRules) -> None:
        self.folded = folded
        self.parse = folded.rules.parser()
        self.bucket_seconds = bucket_sizes(folded.rules.event_time_window)[-1]
        self.bucket_microseconds = bucket_end(0, self.bucket_seconds)
        self.records_by_bucket: defaultdict[BucketKey, list[UsageRecord]] = defaultdict(list)
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
        return self.has_meter_changes or any(part.records_by_bucket or part.cancellations for part in self.parts)


def fold_page(
    events: Iterable[PositionedEvent],
    meters: Mapping[str, ProjectedMeter],
    customer_ids: Mapping[str, int],
    pinned: PinnedRules,
) -> list[MeterPageUsage]:
    """Return the usage of each meter in `events`.

    `meters` are the meters known before the page. `customer_ids` maps each customer to an id, and allocates ids for new
    customers. New meters are folded under their `pinned` rules or, without any, under their configured rules.
    Raises ProjectionStopped at the first event that can't be folded.
    """
    usage_by_meter = {event_name: MeterPageUsage(meter) for event_name, meter in meters.items()}
    only_parts = {event_name: usage.only_part for event_name, usage in usage_by_meter.items()}
    position, event = 0, None
    batch_recorded_at, recorded_at = EPOCH, 0
    try:
        for position, event in events:
            if type(event) is MeterEventData:
                if event.recorded_at != batch_recorded_at:  # the events of a batch share their time of recording
                    batch_recorded_at, recorded_at = event.recorded_at, to_microseconds(event.recorded_at)
                # Inlined to_microseconds and bucket_start, because this runs for every meter event.
                occurred_at = (event.occurred_at - EPOCH) // MICROSECOND
                part = only_parts[event.event_name]
                if part is None:
                    part = usage_by_meter[event.event_name].part_at(occurred_at)
                customer, value, dimension_values, unique_value, is_filtered = part.parse(event.payload)
                customer_id = customer_ids[customer]
                dimensions = encode_dimensions(dimension_values) if dimension_values else ""
                record = UsageRecord(customer_id, occurred_at, position, dimensions, value, recorded_at)
                if unique_value is not None or is_filtered:
                    record = msgspec.structs.replace(record, unique_value=unique_value, is_filtered=is_filtered)
                part.records_by_bucket[
                    customer_id, occurred_at - occurred_at % part.bucket_microseconds, dimensions
                ].append(record)
            elif isinstance(event, EventCancelledData):
                _fold_cancellation(position, event, usage_by_meter[event.event_name], customer_ids)
            elif isinstance(event, ConfiguredData | RulesChangedData):
                _fold_meter_change(position, event, usage_by_meter, pinned)
                only_parts[event.event_name] = usage_by_meter[event.event_name].only_part
    except (LedgerUnavailable, DatabasePermissionDenied, ProjectionStopped):
        raise  # these name the cause already, and a database failure isn't an error of the event
    except (ArithmeticError, KeyError, TallybookError, TypeError, ValueError) as error:
        raise projection_stopped(position, topic_for(event), error) from error
    return [meter_usage for meter_usage in usage_by_meter.values() if meter_usage.has_changes]


def _fold_cancellation(
    position: int, cancelled: EventCancelledData, meter_usage: MeterPageUsage, customer_ids: Mapping[str, int]
) -> None:
    occurred_at = to_microseconds(cancelled.occurred_at)
    part = meter_usage.part_at(occurred_at)
    customer, _, dimension_values, *_ = part.parse(cancelled.payload)
    key = (customer_ids[customer], bucket_start(occurred_at, part.bucket_seconds), encode_dimensions(dimension_values))
    part.cancellations.append(
        CancellationMark(
            key,
            cancelled.recorded_position,
            to_microseconds(cancelled.recorded_at),
            position,
            is_revocation=isinstance(cancelled, CancelRevokedData),
        )
    )


def _fold_meter_change(
    position: int,
    event: ConfiguredData | RulesChangedData,
    usage_by_meter: dict[str, MeterPageUsage],
    pinned: PinnedRules,
) -> None:
    if isinstance(event, ConfiguredData):
        _fold_meter(position, event, usage_by_meter, pinned)
    else:
        _fold_rules(position, event, usage_by_meter)


def _fold_meter(
    position: int,
    configured: ConfiguredData,
    usage_by_meter: dict[str, MeterPageUsage],
    pinned: PinnedRules,
) -> None:
    event_name = configured.event_name
    if event_name in usage_by_meter:
        raise ValueError(f"the meter {event_name!r} is configured already")
    rules = Rules.model_validate_json(bytes(configured.rules))
    first_revision = RulesRevision(1, rules, position, to_microseconds(configured.recorded_at))
    last_id = max((part.folded.meter_id for usage in usage_by_meter.values() for part in usage.parts), default=0)
    parts = pinned.get(event_name) or (RulesPart(ALWAYS, rules),)
    folded = tuple(FoldedRules(meter_id, *part) for meter_id, part in enumerate(parts, last_id + 1))
    usage_by_meter[event_name] = MeterPageUsage(
        ProjectedMeter(event_name, folded, (first_revision,)), has_meter_changes=True
    )


def _fold_rules(position: int, changed: RulesChangedData, usage_by_meter: dict[str, MeterPageUsage]) -> None:
    """Add the new revision to the meter's history; its usage stays folded under the same rules."""
    meter_usage = usage_by_meter[changed.event_name]
    rules = Rules.model_validate_json(bytes(changed.rules))
    start = ALWAYS if changed.effective_from is None else to_microseconds(changed.effective_from)
    revision = RulesRevision(changed.revision, rules, position, to_microseconds(changed.recorded_at), start)
    meter_usage.meter = replace(meter_usage.meter, history=(*meter_usage.meter.history, revision))
    meter_usage.has_meter_changes = True
