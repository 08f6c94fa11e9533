"""The layout of an archive: names of files, and where segments are cut. docs/storage.md describes it.

manifest.jsonl                                  a line for each segment, in order
events/000000000001-000001048576.parquet        a segment: the events at these positions
"""

import re

MANIFEST = "manifest.jsonl"
FOLDER = "events"
VERSION = 1
"""The version of the layout and of the columns, in each line of the manifest."""
BLOCK_SIZE = 1 << 20
"""A segment ends at a multiple of this number of positions, or where its export ended. A power of two: the hashes of a
whole block are one node of the Merkle tree."""

_NAME = re.compile(r"events/(\d{12,18})-(\d{12,18})\.parquet", re.ASCII)


def segment_name(first: int, last: int) -> str:
    """Return the name of the segment with the positions `first` to `last`, both included."""
    return f"{FOLDER}/{first:012d}-{last:012d}.parquet"


def parse_segment_name(name: str) -> tuple[int, int] | None:
    """Return the first and the last position of a segment, or None if this is not the name of one."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    first, last = int(match[1]), int(match[2])
    return (first, last) if 1 <= first <= last and segment_name(first, last) == name else None


def segment_end(first: int, head: int, block_size: int = BLOCK_SIZE) -> int:
    """Return the last position of the segment that starts at `first`, in a ledger that ends at `head`."""
    return min((first - 1) // block_size * block_size + block_size, head)
