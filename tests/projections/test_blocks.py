"""Usage blocks: the records of one bucket, split at hour boundaries or by size."""

from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.domain.counting import UsageRecord
from tallybook.projections import blocks
from tallybook.projections.blocks import (
    MAX_BLOCK_SIZE,
    MIN_BLOCK_SIZE,
    MIN_RECORDS_PER_HOUR,
    SPLIT_THRESHOLD,
    UsageBlock,
    split_into_blocks,
)

HOUR = 3_600_000_000
HOURS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), max_size=9)
"""The hour and the number of consecutive records."""


def usage_records_in(hours: list[tuple[int, int]]) -> list[UsageRecord]:
    """Return records in ledger order; each pair is an hour and a number of records."""
    at = [hour * HOUR + number for hour, record_count in hours for number in range(record_count)]
    return [
        UsageRecord(1, occurred_at, position, "", Decimal(position), 0) for position, occurred_at in enumerate(at, 1)
    ]


@given(HOURS.filter(bool))
def test_blocks_contain_each_usage_record_once_and_in_order(hours: list[tuple[int, int]]) -> None:
    """No block is too long; only the last one is short; a block ends with an hour or has the maximum size."""
    records = usage_records_in(hours)
    with pytest.MonkeyPatch.context() as patch:
        for name, limit in (("MIN_BLOCK_SIZE", 3), ("SPLIT_THRESHOLD", 6), ("MAX_BLOCK_SIZE", 8)):
            patch.setattr(blocks, name, limit)
        parts = list(split_into_blocks(records))
    assert [record for part in parts for record in part] == records
    assert all(1 <= len(part) <= 8 for part in parts)
    assert len(parts) == 1 or len(records) > 6
    for part, following in pairwise(parts):
        ends_an_hour = part[-1].occurred_at // HOUR != following[0].occurred_at // HOUR
        assert len(part) == 8 or (ends_an_hour and len(part) >= 3)


@pytest.mark.parametrize(
    ("hours", "lengths"),
    [
        ([(0, SPLIT_THRESHOLD - 1), (1, 1)], [SPLIT_THRESHOLD]),
        ([(0, SPLIT_THRESHOLD), (1, 1)], [SPLIT_THRESHOLD, 1]),
        ([(0, MIN_BLOCK_SIZE - 1), (1, SPLIT_THRESHOLD)], [MIN_BLOCK_SIZE - 1 + SPLIT_THRESHOLD]),
        ([(0, MIN_BLOCK_SIZE), (1, SPLIT_THRESHOLD)], [MIN_BLOCK_SIZE, SPLIT_THRESHOLD]),
        ([(0, MAX_BLOCK_SIZE)], [MAX_BLOCK_SIZE]),
        ([(0, MAX_BLOCK_SIZE + 1)], [MAX_BLOCK_SIZE, 1]),
        ([(0, 2 * MAX_BLOCK_SIZE), (1, MIN_BLOCK_SIZE)], [MAX_BLOCK_SIZE, MAX_BLOCK_SIZE, MIN_BLOCK_SIZE]),
        ([(0, MIN_RECORDS_PER_HOUR), (1, MIN_RECORDS_PER_HOUR)] * MIN_BLOCK_SIZE, [MIN_BLOCK_SIZE] * 8),
        ([(0, MIN_RECORDS_PER_HOUR), (1, MIN_RECORDS_PER_HOUR - 1)] * MIN_BLOCK_SIZE, [7 * MIN_BLOCK_SIZE]),
    ],
)
def test_block_size_limits(hours: list[tuple[int, int]], lengths: list[int]) -> None:
    """Up to the maximum size, from one hour or several; records in no order of time aren't split at hours."""
    assert [len(part) for part in split_into_blocks(usage_records_in(hours))] == lengths


@given(HOURS.filter(bool), HOURS.filter(bool))
def test_merged_blocks_equal_the_block_of_both(hours: list[tuple[int, int]], later: list[tuple[int, int]]) -> None:
    """It has the time span and the totals of both."""
    records, first = usage_records_in([*hours, *later]), sum(record_count for _, record_count in hours)
    key = (1, 0, "")
    joined = UsageBlock.from_usage(key, records[:first]).merge(UsageBlock.from_usage(key, records[first:]))
    assert joined == UsageBlock.from_usage(key, records)
