"""Usage blocks: the records of one bucket, split at hour boundaries or by size."""

from decimal import Decimal
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.projections import blocks
from tallybook.projections.blocks import (
    MAX_BLOCK_SIZE,
    MIN_BLOCK_SIZE,
    MIN_RECORDS_PER_HOUR,
    SPLIT_THRESHOLD,
    UsageBlock,
    UsageRow,
    UsageRowWithOptions,
    decode_block,
    decode_usage_rows,
    encode_block,
    encode_rows,
    split_into_blocks,
)

HOUR = 3_600_000_000
KEY = (1, 0, "")
HOURS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), max_size=9)
"""The hour and the number of consecutive records."""


def usage_rows_in(hours: list[tuple[int, int]]) -> list[UsageRow]:
    """Return new records in ledger order; each pair is an hour and a number of records."""
    at = [hour * HOUR + number for hour, record_count in hours for number in range(record_count)]
    return [UsageRow(occurred_at, position, Decimal(position), 0) for position, occurred_at in enumerate(at, 1)]


@given(HOURS.filter(bool))
def test_blocks_contain_each_usage_record_once_and_in_order(hours: list[tuple[int, int]]) -> None:
    """No block is too long; only the last one is short; a block ends with an hour or has the maximum size."""
    rows = usage_rows_in(hours)
    with pytest.MonkeyPatch.context() as patch:
        for name, limit in (("MIN_BLOCK_SIZE", 3), ("SPLIT_THRESHOLD", 6), ("MAX_BLOCK_SIZE", 8)):
            patch.setattr(blocks, name, limit)
        parts = list(split_into_blocks(rows))
    assert [row for part in parts for row in part] == rows
    assert all(1 <= len(part) <= 8 for part in parts)
    assert len(parts) == 1 or len(rows) > 6
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
    assert [len(part) for part in split_into_blocks(usage_rows_in(hours))] == lengths


@given(HOURS.filter(bool), HOURS.filter(bool))
def test_an_appended_block_equals_the_block_of_both(hours: list[tuple[int, int]], later: list[tuple[int, int]]) -> None:
    """It has the time span, the totals and the records of both."""
    rows, first = usage_rows_in([*hours, *later]), sum(record_count for _, record_count in hours)
    assert _block(rows[:first]).append(_block(rows[first:])) == _block(rows)


ROWS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.one_of(st.none(), st.sampled_from([Decimal(value) for value in ("1", "1.0", "-2.50", "7")])),
        st.integers(0, 2),
        st.one_of(st.none(), st.text(max_size=1)),
        st.booleans(),
    ),
    min_size=1,
    max_size=9,
).map(
    lambda usage: [
        UsageRow(at, position, value, recorded_at)
        if unique_value is None and not is_filtered
        else UsageRowWithOptions(at, position, value, recorded_at, None, unique_value, is_filtered)
        for position, (at, value, recorded_at, unique_value, is_filtered) in enumerate(usage, 5)
    ]
)


@given(ROWS)
def test_the_block_of_new_records_equals_that_of_the_decoded_records(rows: list[UsageRow]) -> None:
    """The fold computes a block from columns of new records, verification and cancellations from decoded records."""
    encoded = encode_rows(rows)
    records = decode_block(KEY, encoded)
    block = UsageBlock.from_rows(KEY, rows, has_filter=any(record.is_filtered for record in records))
    assert block.encoded == encoded == encode_block(records)
    assert msgspec.structs.replace(block, encoded=None) == UsageBlock.from_usage(KEY, records)


@given(ROWS)
def test_new_records_are_decoded_as_they_were_encoded(rows: list[UsageRow]) -> None:
    """If one has options, a plain one is decoded with the defaults of these."""
    with_options = [msgspec.convert(msgspec.to_builtins(row), UsageRowWithOptions) for row in rows]
    has_options = any(isinstance(row, UsageRowWithOptions) for row in rows)
    assert decode_usage_rows(encode_rows(rows)) == (with_options if has_options else rows)


def _block(rows: list[UsageRow]) -> UsageBlock:
    return UsageBlock.from_rows(KEY, rows, has_filter=False)
