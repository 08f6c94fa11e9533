"""Unsorted usage: records of a month that aren't in blocks of days yet, because they were recorded out of order.

While usage flows, usage that is out of order by days changes nearly as many days as it has records, and writing a day
costs several times as much as folding a record. So the records of such a page are stored as one block of their month,
and are added to the totals of the month alone. When a month has MAX_UNSORTED_BYTES of them, or its usage is in order
again, or one of its records is cancelled, they are moved to the blocks and the totals of its days. Until then, whatever
reads the days of a month also reads its unsorted usage.

The unsorted records of a month were recorded after all records in the blocks of its days.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from .blocks import BucketKey, CombinationKey, RowsByBucket, RowsByCombination, UsageBlock, UsageRow, by_bucket
from .buckets import DAY_MICROSECONDS, DAY_SECONDS, MONTH_SECONDS, bucket_start

MAX_UNSORTED_BYTES = 20_000
"""The size of the encoded unsorted usage of a month, of one customer and one combination of dimension values.

It is up to a quarter less for some customers, so that not all months of a page are full at once.
"""
MAX_UNSORTED_BYTES_OF_METER = 2_000_000
"""The size of the unsorted usage of all customers, which a query of days of all customers reads."""
MIN_UNSORTED_DAYS = 4
"""The new records of a month are unsorted if they belong to so many days, and a day has few of them."""
FEW_RECORDS_PER_DAY = 8
MAX_PAGE_RECORDS = 10_000
"""A page with more new records of a meter is that of a rebuild or of a large import. All of them are written by day:
its days have more records each, and nothing is left unsorted after it.
"""


def divide_by_order(
    rows_by_combination: RowsByCombination, changed_months: Collection[BucketKey], days_of_page: Collection[int]
) -> tuple[RowsByCombination, Mapping[BucketKey, Sequence[UsageRow]]]:
    """Return the new records in order, and those out of order by month.

    Those of `changed_months`, which have a cancellation, are returned as if they were in order. So is a page whose
    usage occurred within a few days.
    """
    if len(days_of_page) < MIN_UNSORTED_DAYS or sum(map(len, rows_by_combination.values())) > MAX_PAGE_RECORDS:
        return rows_by_combination, {}
    in_order: dict[CombinationKey, Sequence[UsageRow]] = {}
    unsorted: dict[BucketKey, Sequence[UsageRow]] = {}
    for combination, rows in rows_by_combination.items():
        days = [row.occurred_at // DAY_MICROSECONDS for row in rows]
        if max(days) - min(days) + 1 < MIN_UNSORTED_DAYS:
            in_order[combination] = rows
            continue
        customer_id, dimensions = combination
        rows_in_order: list[UsageRow] = []
        for month, (rows_of_month, day_count) in _by_month(rows, days).items():
            key = (customer_id, month, dimensions)
            is_sparse = day_count >= MIN_UNSORTED_DAYS and len(rows_of_month) < FEW_RECORDS_PER_DAY * day_count
            if is_sparse and key not in changed_months:
                unsorted[key] = rows_of_month
            else:
                rows_in_order += rows_of_month
        if rows_in_order:
            in_order[combination] = rows_in_order
    return in_order, unsorted


def _by_month(rows: Sequence[UsageRow], days: Sequence[int]) -> Mapping[int, tuple[Sequence[UsageRow], int]]:
    """Return the records of each month, and on how many days they occurred. `days` are the numbers of their days."""
    months = {day: bucket_start(day * DAY_MICROSECONDS, MONTH_SECONDS) for day in {*days}}
    day_counts = Counter(months.values())
    if len(day_counts) == 1:
        return {month: (rows, day_count) for month, day_count in day_counts.items()}
    rows_by_month: defaultdict[int, list[UsageRow]] = defaultdict(list)
    for row, day in zip(rows, days, strict=True):
        rows_by_month[months[day]].append(row)
    return {month: (rows_of_month, day_counts[month]) for month, rows_of_month in rows_by_month.items()}


def by_day(rows_by_month: Iterable[tuple[BucketKey, Sequence[UsageRow]]]) -> RowsByBucket:
    """Return unsorted records of months by day."""
    rows_by_combination: defaultdict[CombinationKey, list[UsageRow]] = defaultdict(list)
    for (customer_id, _, dimensions), rows in rows_by_month:
        if rows:
            rows_by_combination[customer_id, dimensions] += rows
    return by_bucket(rows_by_combination, DAY_SECONDS)


def months_to_sort(new_blocks: Iterable[UsageBlock], sizes: Mapping[BucketKey, int]) -> list[BucketKey]:
    """Return the months whose stored unsorted usage is moved to their days before the usage of a page is added.

    `sizes` are those of the stored unsorted usage of all months of the page. `new_blocks` are its unsorted usage: the
    other months have usage in order or a cancellation.
    """
    new_sizes = {block.key: len(block.encoded or b"") for block in new_blocks}
    max_bytes = min(MAX_UNSORTED_BYTES, MAX_UNSORTED_BYTES_OF_METER // max(len(new_sizes), 1))
    return [
        month
        for month, size in sizes.items()
        if size and (month not in new_sizes or size + new_sizes[month] > _limit_of_customer(max_bytes, month[0]))
    ]


def _limit_of_customer(max_bytes: int, customer_id: int) -> int:
    """Return a limit from three quarters to all of `max_bytes`, which depends on the customer."""
    return max_bytes * 3 // 4 + (max_bytes // 4) * (customer_id % 16) // 15


def is_too_much(size: int) -> bool:
    """Return whether a meter has too much unsorted usage: the oldest is moved to its days then."""
    return size > MAX_UNSORTED_BYTES_OF_METER


def oldest_months(sizes: Mapping[BucketKey, int], added: int) -> dict[BucketKey, int]:
    """Return the oldest months, with their sizes, without which a quarter of the limit of the meter is free.

    `sizes` are those of the stored unsorted usage of all months, the oldest first, and `added` is the size of new one.
    """
    remaining, oldest = sum(sizes.values()) + added, dict[BucketKey, int]()
    for month, size in sizes.items():
        if remaining <= MAX_UNSORTED_BYTES_OF_METER * 3 // 4:
            break
        oldest[month] = size
        remaining -= size
    return oldest
