"""Unsorted usage: records of a month that aren't in blocks of days yet, because they were recorded out of order.

Usage that is out of order by days changes nearly as many days as it has records, and writing a day costs several times
as much as folding a record. So the records of such a page are stored as one block of their month, and are added to the
totals of the month alone. When a month has MAX_UNSORTED_BYTES of them, or its usage is in order again, or one of its
records is cancelled, they are moved to the blocks and the totals of its days. Until then, whatever reads the days of a
month also reads its unsorted usage.

The unsorted records of a month were recorded after all records in the blocks of its days.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from operator import attrgetter

from .blocks import BucketKey, UsageBlock, UsageRow
from .buckets import DAY_MICROSECONDS, MONTH_SECONDS, bucket_start

MAX_UNSORTED_BYTES = 20_000
"""The size of the encoded unsorted usage of a month, of one customer and one combination of dimension values.

It is up to a quarter less for some customers, so that not all months of a page are full at once.
"""
MAX_UNSORTED_BYTES_OF_PAGE = 4_000_000
"""The size of the unsorted usage of all months of a page: a query of days of all customers reads it."""
MIN_UNSORTED_DAYS = 4
"""The new records of a month are unsorted if they belong to so many days, and a day has few of them."""
FEW_RECORDS_PER_DAY = 8
_POSITION = attrgetter("position")


def divide_by_order(
    rows_by_day: Mapping[BucketKey, list[UsageRow]], changed_months: Collection[BucketKey]
) -> tuple[Mapping[BucketKey, list[UsageRow]], Mapping[BucketKey, list[UsageRow]]]:
    """Return the new records in order, by day, and those out of order, by month. Each list is in ledger order.

    Those of `changed_months`, which have a cancellation, are returned by day in any case.
    """
    starts = {start for _, start, _ in rows_by_day}
    if len(starts) < MIN_UNSORTED_DAYS:
        return rows_by_day, {}
    months = {start: bucket_start(start, MONTH_SECONDS) for start in starts}
    days_by_month: defaultdict[BucketKey, list[BucketKey]] = defaultdict(list)
    for day in rows_by_day:
        customer_id, start, dimensions = day
        days_by_month[customer_id, months[start], dimensions].append(day)
    in_order: dict[BucketKey, list[UsageRow]] = {}
    unsorted: dict[BucketKey, list[UsageRow]] = {}
    for month, days in days_by_month.items():
        rows = [row for day in days for row in rows_by_day[day]]
        is_sparse = len(days) >= MIN_UNSORTED_DAYS and len(rows) < FEW_RECORDS_PER_DAY * len(days)
        if is_sparse and month not in changed_months:
            rows.sort(key=_POSITION)
            unsorted[month] = rows
        else:
            in_order.update((day, rows_by_day[day]) for day in days)
    return in_order, unsorted


def add_to_days(
    rows_by_day: defaultdict[BucketKey, list[UsageRow]], month: BucketKey, rows: Iterable[UsageRow]
) -> None:
    """Add unsorted records of a month to the records of its days."""
    customer_id, _, dimensions = month
    for row in rows:
        occurred_at = row.occurred_at
        rows_by_day[customer_id, occurred_at - occurred_at % DAY_MICROSECONDS, dimensions].append(row)


def months_to_sort(new_blocks: Iterable[UsageBlock], sizes: Mapping[BucketKey, int]) -> list[BucketKey]:
    """Return the months whose stored unsorted usage is moved to their days before the usage of a page is added.

    `sizes` are those of the stored unsorted usage of all months of the page. `new_blocks` are its unsorted usage: the
    other months have usage in order or a cancellation.
    """
    new_sizes = {block.key: len(block.encoded or b"") for block in new_blocks}
    max_bytes = min(MAX_UNSORTED_BYTES, MAX_UNSORTED_BYTES_OF_PAGE // max(len(new_sizes), 1))
    return [
        month
        for month, size in sizes.items()
        if size and (month not in new_sizes or size + new_sizes[month] > max_bytes * (48 + month[0] % 16) // 63)
    ]
