"""Spans of changes: what they say about the records at a point in the ledger."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from tallybook.domain.counting import UsageRecord
from tallybook.projections.blocks import concatenate_blocks, decode_block, encode_block
from tallybook.projections.change_span import ChangeSpan
from tallybook.projections.models import AS_OF_HEAD, AsOf, CancellationMark

HISTORIES = st.lists(st.integers(0, 4), min_size=1, max_size=6)
"""For each record the number of its cancellations and revocations, which alternate."""
History = list[int]
POINTS = st.builds(AsOf, st.integers(0, 32))


def records_of(history: History) -> list[UsageRecord]:
    """Return the records at the first positions; the n-th changes of all of them follow at the next positions."""
    records: list[UsageRecord] = []
    for position, changes in enumerate(history, 1):
        record = UsageRecord(1, 0, position, "", Decimal(1), 0)
        for number in range(1, changes + 1):
            mark = CancellationMark(
                (1, 0, ""), position, position + number * len(history), is_revocation=number % 2 == 0
            )
            changed = mark.apply(record)
            assert changed is not None
            record = changed
        records.append(record)
    return records


def expected_state(record: UsageRecord, changes: list[int], as_of: AsOf) -> str:
    """Return whether a record was unknown, active or cancelled, from the positions of its changes."""
    if record.position > as_of.position:
        return "unknown"
    known = [position for position in changes if position <= as_of.position]
    return "cancelled" if len(known) % 2 else "active"


def span_of(records: list[UsageRecord]) -> ChangeSpan:
    """Return the span of records and their cancellations."""
    return ChangeSpan.from_usage(records)


@given(HISTORIES, POINTS)
def test_a_span_that_is_included_has_only_known_changes(history: History, as_of: AsOf) -> None:
    """All records are as they are now; if no change of the span was known, no record was."""
    records = records_of(history)
    if as_of.includes_all(span_of(records)):
        assert [as_of.visible(record) for record in records] == records
    if not as_of.includes_some(span_of(records)):
        assert [as_of.visible(record) for record in records] == [None] * len(records)


@given(HISTORIES, POINTS)
def test_counted_records_are_visible_and_not_cancelled(history: History, as_of: AsOf) -> None:
    """The same rule, applied to all records of a block at once."""
    visible = [(record, as_of.visible(record)) for record in records_of(history)]
    assert as_of.counted(records_of(history)) == [
        record for record, known in visible if known is not None and known.cancelled_position is None
    ]


@given(HISTORIES, POINTS)
def test_a_record_is_visible_in_its_state_then(history: History, as_of: AsOf) -> None:
    """Before its cancellation, between that and the revocation, and after it, any number of times."""
    for record, change_count in zip(records_of(history), history, strict=True):
        visible = as_of.visible(record)
        changes = [record.position + number * len(history) for number in range(1, change_count + 1)]
        state = "unknown" if visible is None else "active" if visible.is_active else "cancelled"
        assert state == expected_state(record, changes, as_of)


@given(HISTORIES, st.integers(0, 5))
def test_encoded_records_are_decoded_to_the_same(history: History, size: int) -> None:
    """Also those with several cancellations, and when blocks are concatenated."""
    records, key = records_of(history), (1, 0, "")
    assert decode_block(key, concatenate_blocks(encode_block(records[:size]), encode_block(records[size:]))) == records


@given(HISTORIES)
def test_all_changes_are_known_at_the_head(history: History) -> None:
    """So the totals of a whole part are current."""
    records = records_of(history)
    assert AS_OF_HEAD.includes_all(span_of(records))
    assert AS_OF_HEAD.counted(records) == [record for record in records if record.is_active]


@given(HISTORIES, st.integers(1, 5))
def test_the_span_of_parts_is_the_span_of_all_records(history: History, size: int) -> None:
    """However the records are divided."""
    records = records_of(history)
    parts = [records[first : first + size] for first in range(0, len(records), size)]
    assert ChangeSpan.merge_all([span_of(part) for part in parts]) == span_of(records)
