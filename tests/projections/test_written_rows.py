"""The rows of the last pages that are held in memory."""

from collections.abc import Sequence
from typing import cast

import pytest
from tallybook.domain.totals import Totals
from tallybook.projections.blocks import BucketKey
from tallybook.projections.change_span import ChangeSpan
from tallybook.projections.models import Bucket
from tallybook.projections.ports import ReadModelWriter
from tallybook.projections.written_rows import WrittenRows

pytestmark = pytest.mark.fast
METER, DAY, MAX_ROWS = 1, 86_400, 4


class KeysRead:
    """A writer that has no rows, and notes the keys that are read."""

    def __init__(self) -> None:
        self.keys: list[BucketKey] = []

    def buckets_of(self, meter_id: int, bucket_seconds: int, keys: Sequence[BucketKey]) -> Sequence[Bucket]:
        """Note the keys."""
        self.keys += keys
        return ()

    def unsorted_sizes(self, meter_id: int, months: Sequence[BucketKey]) -> list[tuple[BucketKey, int]]:
        """Note the keys, and return ten times the customer as the size."""
        self.keys += months
        return [(month, 10 * month[0]) for month in months]


def write(rows: WrittenRows, customers: Sequence[int]) -> None:
    """Add a bucket and the size of the unsorted usage of each customer, as a page does."""
    keys = [(customer, 0, "") for customer in customers]
    rows.set_unsorted_sizes(METER, {key: 10 * key[0] for key in keys})
    rows.add_buckets(METER, DAY, {key: Bucket(key, Totals(count=key[0]), ChangeSpan(1, 1)) for key in keys})
    rows.end_page("a page")


def read(rows: WrittenRows, customers: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the customers whose buckets are known, and those whose buckets are read."""
    writer = KeysRead()
    keys = [(customer, 0, "") for customer in customers]
    known = list(rows.buckets_of(cast(ReadModelWriter, writer), METER, DAY, keys))
    return [bucket.totals.count for bucket in known], [key[0] for key in writer.keys]


def test_only_unknown_rows_are_read() -> None:
    """Those that earlier pages wrote are known."""
    rows = WrittenRows(MAX_ROWS)
    write(rows, (1, 2))
    write(rows, (2, 3))
    assert read(rows, (1, 3, 5)) == ([1, 3], [5])


def test_the_size_of_unsorted_usage_is_read_once() -> None:
    """It is known until all rows are discarded, also if it is 0. That of other months is 0 unless it is read."""
    rows, months = WrittenRows(MAX_ROWS), [(0, 0, ""), (1, 0, ""), (5, 0, "")]
    write(rows, (0, 1))
    writer = KeysRead()
    assert dict(rows.unsorted_sizes(cast(ReadModelWriter, writer), METER, months)) == {
        month: 10 * month[0] for month in months
    }
    assert writer.keys == [(5, 0, "")]
    write(rows, range(MAX_ROWS + 1))
    list(rows.unsorted_sizes(cast(ReadModelWriter, writer), METER, months[:1]))
    assert writer.keys == [(5, 0, ""), (0, 0, "")]


def test_too_many_rows_are_discarded() -> None:
    """All of them at once: a page whose rows fit begins again."""
    rows = WrittenRows(MAX_ROWS)
    write(rows, range(MAX_ROWS))
    assert read(rows, (0, 1)) == ([0, 1], [])
    write(rows, (MAX_ROWS,))
    assert read(rows, (0, MAX_ROWS)) == ([], [0, MAX_ROWS])
