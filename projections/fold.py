"""The fold: from the stored events of a page to a MeterDelta of each meter.

It is pure. The live projection, rebuilds and verification share it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ..domain.counting import UsageRecord, effective_usage
from ..domain.errors import DatabasePermissionDenied, LedgerUnavailable, ProjectionStopped, TallybookError
from ..domain.meter_event import MeterEventData
from ..domain.rules import Rules
from ..domain.timestamps import EPOCH, MICROSECOND, to_microseconds
from ..domain.totals import Totals
from .blocks import BucketKey, NewBlock, UsageBlock, encode_block, split_into_blocks
from .buckets import bucket_end, bucket_sizes, bucket_start
from .dimensions import encode_dimensions
from .models import Bucket, CancellationMark, ProjectedMeter, RulesRevision
from .stored_events import (
    ConfiguredData,
    EventCancelledData,
    PositionedEvent,
    RulesChangedData,
    projection_stopped,
    topic_for,
)


class MeterPageUsage:
    """The usage of one meter in one page of the ledger.

    It has the new records by bucket, in ledger order; the cancellations of new or earlier records; and whether the
    meter was configured or its rules changed.
    """

    def __init__(self, meter: ProjectedMeter, *, has_meter_changes: bool = False) -> None:
        self.meter = meter
        self.has_meter_changes = has_meter_changes
        self.parse = meter.rules.parser()
        self.bucket_seconds = bucket_sizes(meter.rules.event_time_window)[-1]
        self.bucket_microseconds = bucket_end(0, self.bucket_seconds)
        self.records_by_bucket: defaultdict[BucketKey, list[UsageRecord]] = defaultdict(list)
        self.cancellations: list[CancellationMark] = []


def fold_page(
    events: Iterable[PositionedEvent],
    meters: Mapping[str, ProjectedMeter],
    customer_ids: Mapping[str, int],
    pinned_rules: Mapping[str, Rules],
) -> list[MeterPageUsage]:
    """Return the usage of each meter in `events`.

    `meters` are the meters known before the page. `customer_ids` maps each customer to an id, and allocates ids for new
    customers. New meters are folded under their `pinned_rules` or, without any, under their configured rules.
    Raises ProjectionStopped at the first event that can't be folded.
    """
    usage_by_meter = {event_name: MeterPageUsage(meter) for event_name, meter in meters.items()}
    position, event = 0, None
    batch_recorded_at, recorded_at = EPOCH, 0
    try:
        for position, event in events:
            if type(event) is MeterEventData:
                if event.recorded_at != batch_recorded_at:  # the events of a batch share their time of recording
                    batch_recorded_at, recorded_at = event.recorded_at, to_microseconds(event.recorded_at)
                meter_usage = usage_by_meter[event.event_name]
                customer, value, dimension_values, unique_value, is_filtered = meter_usage.parse(event.payload)
                customer_id = customer_ids[customer]
                dimensions = encode_dimensions(dimension_values) if dimension_values else ""
                # Inlined to_microseconds and bucket_start, because this runs for every meter event.
                occurred_at = (event.occurred_at - EPOCH) // MICROSECOND
                meter_usage.records_by_bucket[
                    customer_id, occurred_at - occurred_at % meter_usage.bucket_microseconds, dimensions
                ].append(
                    UsageRecord(
                        customer_id, occurred_at, position, dimensions, value, recorded_at, None, None, unique_value,
                        is_filtered,
                    )
                )  # fmt: skip
            elif isinstance(event, EventCancelledData):
                _fold_cancellation(position, event, usage_by_meter[event.event_name], customer_ids)
            elif isinstance(event, ConfiguredData):
                _fold_meter(position, event, usage_by_meter, pinned_rules)
            elif isinstance(event, RulesChangedData):
                _fold_rules(position, event, usage_by_meter)
    except (LedgerUnavailable, DatabasePermissionDenied, ProjectionStopped):
        raise  # these name the cause already, and a database failure isn't an error of the event
    except (ArithmeticError, KeyError, TallybookError, TypeError, ValueError) as error:
        raise projection_stopped(position, topic_for(event), error) from error
    return [
        meter_usage
        for meter_usage in usage_by_meter.values()
        if meter_usage.has_meter_changes or meter_usage.records_by_bucket or meter_usage.cancellations
    ]


def _fold_cancellation(
    position: int, cancelled: EventCancelledData, meter_usage: MeterPageUsage, customer_ids: Mapping[str, int]
) -> None:
    customer, _, dimension_values, *_ = meter_usage.parse(cancelled.payload)
    start = bucket_start(to_microseconds(cancelled.occurred_at), meter_usage.bucket_seconds)
    key = (customer_ids[customer], start, encode_dimensions(dimension_values))
    meter_usage.cancellations.append(
        CancellationMark(key, cancelled.recorded_position, to_microseconds(cancelled.recorded_at), position)
    )


def _fold_meter(
    position: int,
    configured: ConfiguredData,
    usage_by_meter: dict[str, MeterPageUsage],
    pinned_rules: Mapping[str, Rules],
) -> None:
    event_name = configured.event_name
    if event_name in usage_by_meter:
        raise ValueError(f"the meter {event_name!r} is configured already")
    rules = Rules.model_validate_json(bytes(configured.rules))
    first_revision = RulesRevision(1, rules, position, to_microseconds(configured.recorded_at))
    usage_by_meter[event_name] = MeterPageUsage(
        ProjectedMeter(len(usage_by_meter) + 1, event_name, pinned_rules.get(event_name, rules), (first_revision,)),
        has_meter_changes=True,
    )


def _fold_rules(position: int, changed: RulesChangedData, usage_by_meter: dict[str, MeterPageUsage]) -> None:
    """Add the new revision to the meter's history; its usage stays folded under the same rules."""
    meter_usage = usage_by_meter[changed.event_name]
    rules = Rules.model_validate_json(bytes(changed.rules))
    revision = RulesRevision(changed.revision, rules, position, to_microseconds(changed.recorded_at))
    meter_usage.meter = meter_usage.meter._replace(history=(*meter_usage.meter.history, revision))
    meter_usage.has_meter_changes = True


class MeterDelta(NamedTuple):
    """The changes that one page makes to a meter's read model.

    `blocks` contain the new records, and `buckets` are computed from them alone. `cancellations` are those of new or
    earlier records. `has_meter_changes` is set if the meter was configured or its rules changed.
    """

    meter: ProjectedMeter
    has_meter_changes: bool
    blocks: Sequence[NewBlock]
    buckets: Sequence[Bucket]
    cancellations: Sequence[CancellationMark]

    @property
    def bucket_seconds(self) -> int:
        """The size of the buckets of the blocks."""
        return bucket_sizes(self.meter.rules.event_time_window)[-1]


def compute_delta(meter_usage: MeterPageUsage) -> MeterDelta:
    """Return the changes that a page makes to a meter's read model."""
    rules = meter_usage.meter.rules
    window, has_filter = rules.event_time_window, rules.filter is not None
    to_block = UsageBlock.from_usage_with_exclusions if has_filter else UsageBlock.from_usage
    blocks = [
        NewBlock(to_block(key, part), len(part), encode_block(part))
        for key, records in meter_usage.records_by_bucket.items()
        for part in split_into_blocks(records)
    ]
    buckets = _sum_buckets(blocks)
    if window is not None:  # the bucket is the window: the last record that isn't filtered counts
        for index, bucket in enumerate(buckets):
            records: Sequence[UsageRecord] = meter_usage.records_by_bucket[bucket.key]
            if has_filter:
                records = effective_usage(records, None)
            buckets[index] = bucket._replace(totals=Totals.from_usage(records[-1:]))
    return MeterDelta(meter_usage.meter, meter_usage.has_meter_changes, blocks, buckets, meter_usage.cancellations)


def _sum_buckets(blocks: Sequence[NewBlock]) -> list[Bucket]:
    """Return the buckets of the blocks, as they are without an event time window."""
    buckets: dict[BucketKey, Bucket] = {}
    for block, _, _ in blocks:
        bucket = buckets.get(block.key)
        buckets[block.key] = Bucket(block.key, block.totals, block.changes) if bucket is None else bucket.merge(block)
    return list(buckets.values())
