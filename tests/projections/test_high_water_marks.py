"""High-water marks: the latest time of recording up to each multiple of an interval, however the ledger is paged."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate, count

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.domain.timestamps import MIN_DATETIME, to_microseconds
from tallybook.projections import high_water_marks
from tallybook.projections.fold import fold_page
from tallybook.projections.high_water_marks import BEFORE_ALL_TIMES, HighWaterMark, marks_after
from tallybook.projections.models import LedgerEvent, ProjectedMeter
from tallybook.projections.stored_events import EventChunk, decode_rows

START = datetime(2026, 10, 1, tzinfo=UTC)
MOMENTS = st.one_of(st.integers(-3, 3), st.just(None)).map(
    lambda second: MIN_DATETIME if second is None else START + timedelta(seconds=second)
)
"""Times of recording, in any order: clocks differ, and may be set back."""
TOPICS = st.sampled_from(["UsageRecorded", "Renamed", "EventCancelled", "PeriodClosed"])
METER: dict[str, object] = {"event_name": "calls", "rules": {}}
PAYLOAD = {"stripe_customer_id": "acme", "value": "1"}


def stored_events(history: list[tuple[str, datetime]]) -> Iterator[LedgerEvent]:
    """Yield a meter and events with these topics and times of recording, as they are stored."""
    for position, (topic, recorded_at) in enumerate([("Configured", history[0][1]), *history], 1):
        fields = {"event_name": "calls", "payload": PAYLOAD, "occurred_at": START, "recorded_position": 1}
        state = {"recorded_at": recorded_at, **(METER if topic == "Configured" else fields)}
        yield position, topic, msgspec.json.encode(state)


@given(
    st.lists(st.tuples(TOPICS, MOMENTS), min_size=1, max_size=20),
    st.lists(st.integers(1, 7), min_size=20, max_size=20),
    st.integers(1, 5),
)
def test_marks_equal_the_naive_running_maximum(
    history: list[tuple[str, datetime]], page_sizes: list[int], interval: int
) -> None:
    """Of all events, also those that don't affect usage, and whether or not a page ends at a mark."""
    rows = list(decode_rows(stored_events(history)))
    marks: list[HighWaterMark] = []
    meters: dict[str, ProjectedMeter] = {}
    latest, first = BEFORE_ALL_TIMES, 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(high_water_marks, "MARK_INTERVAL", interval)
        for size in page_sizes:
            page = rows[first : first + size]
            if not page:
                break
            page_usage = fold_page([EventChunk.of(page)], meters, {"acme": 1}, {})
            meters = meters or {"calls": page_usage.changed[0].meter}
            marks += marks_after(latest, page_usage.marks.marks)
            latest, first = max(latest, page_usage.marks.latest), first + size
    times = [to_microseconds(event.recorded_at) for _, event in rows]
    running = dict(zip(count(1), accumulate(times, max), strict=False))
    assert latest == max(times)
    assert marks == [
        HighWaterMark(position, running[position]) for position in range(interval, len(rows) + 1, interval)
    ]
