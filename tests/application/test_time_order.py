"""Usage of overlapping blocks in the order of time: divided into parts, it is the same as sorted at once."""

import tracemalloc
from collections.abc import Iterator
from decimal import Decimal
from itertools import chain

from hypothesis import given
from hypothesis import strategies as st
from tallybook.application.storage.time_order import in_time_order
from tallybook.domain.counting import UsageRecord
from tallybook.projections.blocks import UsageBlock

TIMES = st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=8), min_size=1, max_size=8)


def usage_blocks(times_of_blocks: list[list[int]]) -> tuple[list[UsageBlock], list[list[UsageRecord]]]:
    """Return blocks of one customer each, with the records at these times; every third record is cancelled."""
    usage: list[list[UsageRecord]] = []
    position = 0
    for customer_id, times in enumerate(times_of_blocks):
        records: list[UsageRecord] = []
        for at in times:
            position += 1
            cancelled = 1_000 if position % 3 == 0 else None
            records.append(UsageRecord(customer_id, at, position, '["a"]', Decimal(position) / 8, 55, cancelled))
        usage.append(records)
    keys = ((customer_id, 0, '["a"]') for customer_id in range(len(usage)))
    blocks = [UsageBlock.from_usage(*block) for block in zip(keys, usage, strict=True)]
    return blocks, usage


def sorted_by_time(usage: list[list[UsageRecord]]) -> list[UsageRecord]:
    """Return the records of all blocks, sorted at once."""
    return sorted(chain.from_iterable(usage), key=lambda record: (record.occurred_at, record.position))


@given(TIMES, st.integers(1, 20))
def test_the_order_is_that_of_time_and_position(times_of_blocks: list[list[int]], max_sorted_records: int) -> None:
    """No record is lost or changed, however many parts there are."""
    blocks, usage = usage_blocks(times_of_blocks)
    expected = sorted_by_time(usage)
    assert list(in_time_order(blocks, iter(usage), max_sorted_records=max_sorted_records)) == expected


@given(TIMES, st.integers(1, 20))
def test_records_outside_of_the_query_may_be_missing(times_of_blocks: list[list[int]], max_sorted_records: int) -> None:
    """The blocks may contain more records than the query selects."""
    blocks, usage = usage_blocks(times_of_blocks)
    selected = [[record for record in records if 10 <= record.occurred_at < 40] for records in usage]
    expected = sorted_by_time(selected)
    assert list(in_time_order(blocks, iter(selected), max_sorted_records=max_sorted_records)) == expected


def test_only_one_part_is_decoded_at_a_time() -> None:
    """Memory is a fraction of that of all records."""
    times = [[number * 37 % 10_000 for number in range(block, 50_000, 50)] for block in range(50)]
    peaks: list[int] = []
    for max_sorted_records in (100_000, 2_000):
        blocks, _ = usage_blocks(times)

        def usage() -> Iterator[list[UsageRecord]]:
            for block_times in times:
                yield usage_blocks([block_times])[1][0]

        tracemalloc.start()
        assert sum(1 for _ in in_time_order(blocks, usage(), max_sorted_records=max_sorted_records)) == 50_000
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] / 3
