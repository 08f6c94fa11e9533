"""Usage records of overlapping blocks in the order of time, with little memory."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from operator import attrgetter

from ...domain.counting import UsageRecord
from ...projections.blocks import UsageBlock, decode_block, encode_block

MAX_SORTED_RECORDS = 100_000
"""About the number of records that are decoded at a time. A decoded record takes about 300 bytes, an encoded one 30."""
_BY_TIME = attrgetter("occurred_at", "position")


def in_time_order(
    blocks: Sequence[UsageBlock],
    usage: Iterator[list[UsageRecord]],
    *,
    max_sorted_records: int = MAX_SORTED_RECORDS,
) -> Iterator[UsageRecord]:
    """Yield the records of overlapping blocks, by (occurred_at, position). `usage` are the records of each block.

    If there are many, they are divided by time and encoded again, and then decoded and sorted part by part.
    """
    earliest = min(block.earliest for block in blocks)
    duration = max(block.latest for block in blocks) - earliest + 1
    parts = sum(block.totals.count for block in blocks) // max_sorted_records + 1
    if parts == 1:
        yield from sorted((record for records in usage for record in records), key=_BY_TIME)
        return
    encoded: list[list[tuple[UsageBlock, bytes]]] = [[] for _ in range(parts)]
    for block, records in zip(blocks, usage, strict=True):
        by_part: defaultdict[int, list[UsageRecord]] = defaultdict(list)
        for record in records:
            by_part[(record.occurred_at - earliest) * parts // duration].append(record)
        for part, part_records in by_part.items():
            encoded[part].append((block, encode_block(part_records)))
    while encoded:
        part_of_blocks = encoded.pop(0)
        yield from sorted(
            (record for block, stored in part_of_blocks for record in decode_block(block.key, stored)), key=_BY_TIME
        )


def overlap_groups(blocks: Sequence[UsageBlock]) -> Iterator[int]:
    """Return the sizes of the groups of overlapping blocks; the blocks are in the order of their earliest usage."""
    count, latest = 0, 0
    for block in blocks:
        if count and block.earliest > latest:
            yield count
            count = 0
        latest = max(block.latest, latest) if count else block.latest
        count += 1
    if count:
        yield count
