"""Spans of changes: what they say about the records at a point in the ledger."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from tallybook.domain.counting import UsageRecord
from tallybook.projections.changes import ChangeSpan
from tallybook.projections.models import AS_OF_HEAD, AsOf

TIMES = st.integers(1, 9)
"""Times of recording, in any order: the clock may go backwards."""
HISTORIES = st.lists(st.tuples(TIMES, st.none() | TIMES), min_size=1, max_size=6)
"""For each record the time of recording, and the time of its cancellation."""
POINTS = st.builds(AsOf, st.none() | st.integers(0, 14), st.none() | TIMES)


def records_of(history: list[tuple[int, int | None]]) -> list[UsageRecord]:
    """Return the records at the first positions, and their cancellations at the positions after them."""
    return [
        UsageRecord(1, 0, position, "", Decimal(1), recorded_at, cancelled_at, cancelled_at and position + len(history))
        for position, (recorded_at, cancelled_at) in enumerate(history, 1)
    ]


def span_of(records: list[UsageRecord]) -> ChangeSpan:
    """Return the span of records and their cancellations."""
    return ChangeSpan.from_usage_with_cancellations(records)


@given(HISTORIES, POINTS)
def test_a_span_that_is_included_has_only_known_changes(history: list[tuple[int, int | None]], as_of: AsOf) -> None:
    """All records are as they are now; if no change of the span was known, no record was."""
    records = records_of(history)
    if as_of.includes_all(span_of(records)):
        assert [as_of.visible(record) for record in records] == records
    if not as_of.includes_some(span_of(records)):
        assert [as_of.visible(record) for record in records] == [None] * len(records)


@given(HISTORIES, POINTS)
def test_counted_records_are_visible_and_not_cancelled(history: list[tuple[int, int | None]], as_of: AsOf) -> None:
    """As of a position, a time, or the later of both."""
    visible = [(record, as_of.visible(record)) for record in records_of(history)]
    assert as_of.counted(records_of(history)) == [
        record for record, known in visible if known is not None and known.cancelled_position is None
    ]


@given(HISTORIES)
def test_all_changes_are_known_at_the_head(history: list[tuple[int, int | None]]) -> None:
    """So the totals of a whole part are current."""
    records = records_of(history)
    assert AS_OF_HEAD.includes_all(span_of(records))
    assert AS_OF_HEAD.counted(records) == [record for record in records if record.cancelled_at is None]


@given(HISTORIES, st.integers(1, 5))
def test_the_span_of_parts_is_the_span_of_all_records(history: list[tuple[int, int | None]], size: int) -> None:
    """However the records are divided."""
    records = records_of(history)
    parts = [records[first : first + size] for first in range(0, len(records), size)]
    assert ChangeSpan.merge_all([span_of(part) for part in parts]) == span_of(records)
