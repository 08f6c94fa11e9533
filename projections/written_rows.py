"""The rows that this process wrote with its last pages, so that the next page doesn't read them again."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain

from .blocks import SHORT_BLOCK_BYTES, BucketKey, UsageBlock
from .models import Bucket
from .ports import ReadModelWriter

MAX_WRITTEN_ROWS = 4_000
"""A bucket takes 1 kB of memory, and a block up to 1 kB more for its records: 6 MB, if half of the rows are blocks."""


class WrittenRows:
    """Buckets, and the last usage block of buckets, as they are stored after the page `page_id`.

    They are valid in a transaction that finds the same id with the generation: no other process has written since, and
    neither a rollback nor a crash of the server has removed the page. If there are more than `max_rows`, all are
    discarded.
    """

    def __init__(self, max_rows: int = MAX_WRITTEN_ROWS) -> None:
        self.page_id: str | None = None
        self._max_rows = max_rows
        self._buckets: defaultdict[tuple[int, int], dict[BucketKey, Bucket]] = defaultdict(dict)
        """By meter and size."""
        self._last_blocks: defaultdict[int, dict[BucketKey, UsageBlock | None]] = defaultdict(dict)
        """By meter. None for a long block: no records are appended to it."""
        self._unsorted_sizes: dict[tuple[int, BucketKey], int] = {}
        """0 for a month without unsorted usage."""
        self._unsorted_totals: dict[int, int] = {}
        """By meter, the size of all of its unsorted usage."""

    def buckets_of(
        self, writer: ReadModelWriter, meter_id: int, bucket_seconds: int, keys: Sequence[BucketKey]
    ) -> Iterable[Bucket]:
        """Return the stored buckets of a size among `keys`. Those that aren't known are read."""
        written = self._buckets[meter_id, bucket_seconds]
        unknown = [key for key in keys if key not in written]
        known = [written[key] for key in keys if key in written]
        return chain(known, writer.buckets_of(meter_id, bucket_seconds, unknown))

    def last_short_blocks(
        self, writer: ReadModelWriter, meter_id: int, keys: Sequence[BucketKey]
    ) -> Iterable[UsageBlock]:
        """Return the last stored block of each of these buckets, if it is short. Those that aren't known are read."""
        written = self._last_blocks[meter_id]
        unknown = [key for key in keys if key not in written]
        known = [block for block in map(written.get, keys) if block is not None]
        return chain(known, writer.last_short_blocks(meter_id, unknown))

    def unsorted_sizes(
        self, writer: ReadModelWriter, meter_id: int, months: Collection[BucketKey]
    ) -> Iterable[tuple[BucketKey, int]]:
        """Return the size of the stored unsorted usage of each of these months, 0 if there is none.

        A month whose size is read is returned twice: first with 0, then with its size.
        """
        unknown = [month for month in months if (meter_id, month) not in self._unsorted_sizes]
        known = [(month, self._unsorted_sizes.get((meter_id, month), 0)) for month in months]
        return chain(known, writer.unsorted_sizes(meter_id, unknown))

    def add_to_unsorted(self, writer: ReadModelWriter, meter_id: int, size: int) -> int:
        """Add the size of new unsorted usage; return the size of all unsorted usage of a meter with it."""
        if meter_id not in self._unsorted_totals:
            self._unsorted_totals[meter_id] = sum(stored for _, stored in writer.all_unsorted_sizes(meter_id))
        self._unsorted_totals[meter_id] += size
        return self._unsorted_totals[meter_id]

    def discard_unsorted(self, meter_id: int, months: Mapping[BucketKey, int]) -> None:
        """Discard the sizes of months that were sorted."""
        if meter_id in self._unsorted_totals:
            self._unsorted_totals[meter_id] -= sum(months.values())
        for month in months:
            self._unsorted_sizes.pop((meter_id, month), None)

    def set_unsorted_sizes(self, meter_id: int, sizes: Mapping[BucketKey, int]) -> None:
        """Set the sizes of the unsorted usage of months as they were written."""
        self._unsorted_sizes.update({(meter_id, month): size for month, size in sizes.items()})

    def add_buckets(self, meter_id: int, bucket_seconds: int, buckets: Mapping[BucketKey, Bucket]) -> None:
        """Add buckets that were written."""
        self._buckets[meter_id, bucket_seconds].update(buckets)

    def add_last_blocks(self, meter_id: int, blocks: Mapping[BucketKey, UsageBlock]) -> None:
        """Add blocks that were written, each the last one of its bucket."""
        self._last_blocks[meter_id].update({key: _if_short(block) for key, block in blocks.items()})

    def discard_last_blocks(self, meter_id: int, keys: Collection[BucketKey]) -> None:
        """Discard the last blocks of buckets whose blocks have changed."""
        for key in keys:
            self._last_blocks[meter_id].pop(key, None)

    def end_page(self, page_id: str) -> None:
        """Set the page after which the rows are stored."""
        self.page_id = page_id
        if sum(map(len, chain(self._buckets.values(), self._last_blocks.values()))) > self._max_rows:
            self._buckets.clear()
            self._last_blocks.clear()
            self._unsorted_sizes.clear()
            self._unsorted_totals.clear()


def _if_short(block: UsageBlock) -> UsageBlock | None:
    return block if block.encoded is not None and len(block.encoded) < SHORT_BLOCK_BYTES else None
