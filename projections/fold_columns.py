"""Folds consecutive usage of one batch and meter by columns, which is faster than a loop over its events."""

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from itertools import repeat

from ..domain.meter_event import MeterEventData
from ..domain.timestamps import EPOCH, MICROSECONDS_PER_SECOND, to_microseconds
from .blocks import UsageRow
from .buckets import DAY_MICROSECONDS
from .page_usage import PageUsage
from .stored_events import EventChunk


def fold_columns(chunk: EventChunk, page_usage: PageUsage, customer_ids: Mapping[str, int]) -> bool:
    """Fold events if they are usage of one batch and meter, whose rules only read a customer and a number.

    Return whether they are folded. If not, nothing has changed: they can be folded one by one, which also finds the one
    that is invalid.
    """
    first, last = chunk.events[0], chunk.events[-1]
    if type(first) is not MeterEventData or type(last) is not MeterEventData:
        return False
    event_name, batch = first.event_name, first.recorded_at
    if last.recorded_at != batch:
        return False
    events = [
        event
        for event in chunk.events
        if type(event) is MeterEventData and event.event_name == event_name and event.recorded_at == batch
    ]
    try:
        since_epoch, recorded_at = [event.occurred_at - EPOCH for event in events], to_microseconds(batch)
    except TypeError:  # a time has no offset
        return False
    if len(events) != len(chunk.events):
        return False
    payloads = [event.payload for event in events]
    parts = page_usage.only_parts[event_name] or () if page_usage.is_counted(event_name) else ()
    parsed = [
        (part, columns)
        for part in parts
        if part.parse_columns is not None and (columns := part.parse_columns(payloads)) is not None
    ]
    if not parsed or len(parsed) != len(parts):
        return False
    page_usage.marks.add_event(chunk.positions[0], recorded_at)
    days = {since.days for since in since_epoch}
    page_usage.days |= days
    times = _times(since_epoch, days)
    for part, (customers, values) in parsed:
        rows = map(UsageRow, times, chunk.positions, values, repeat(recorded_at))
        rows_of_customers = map(part.rows_of_customers(customer_ids).__getitem__, customers)
        deque(map(list[UsageRow].append, rows_of_customers, rows), maxlen=0)
    return True


def _times(since_epoch: Sequence[timedelta], days: Collection[int]) -> list[int]:
    """Return the times in microseconds; inlined to_microseconds, because this runs for every meter event."""
    if len(days) == 1:  # that of most chunks, and faster
        start = since_epoch[0].days * DAY_MICROSECONDS
        return [start + (since.seconds * MICROSECONDS_PER_SECOND + since.microseconds) for since in since_epoch]
    return [
        since.days * DAY_MICROSECONDS + since.seconds * MICROSECONDS_PER_SECOND + since.microseconds
        for since in since_epoch
    ]
