"""The rows of the tables of read models, so that two generations can be compared whose pages had other sizes.

Usage is returned record by record, not in blocks, and unsorted usage as part of its days.
"""

import heapq
from collections.abc import Collection, Iterator, Sequence
from itertools import chain, groupby
from operator import itemgetter

import msgspec

from ...domain.counting import UsageRecord
from ...domain.rules_schedule import ALL_TIME
from ...projections.blocks import UsageBlock, UsageRow
from ...projections.buckets import DAY_MICROSECONDS, DAY_SECONDS, MONTH_SECONDS, bucket_end, bucket_start
from ...projections.deltas import blocks_of_rows, sum_buckets
from ...projections.ports import TableRow
from ...projections.unsorted_usage import by_day
from ..interruption import check_between
from . import row_codec
from .ports import CorruptedReadModel
from .sql_statements import Row, SqlReadModelStatements

TABLE_NAMES = ("meters", "customers", "usage", "totals", "high_water_marks")
_COLUMNS = {
    "meters": ("meter, event_name, rules, history, source", "meter", 1),
    "customers": ("customer, name", "customer", 1),
    "high_water_marks": ("position, recorded_at", "position", 1),
    "totals": (
        f"{SqlReadModelStatements.BUCKET_KEY}, {SqlReadModelStatements.BUCKET_VALUES}",
        SqlReadModelStatements.BUCKET_KEY,
        5,
    ),
}
_METER_CUSTOMER_AND_MONTH = itemgetter(0, 1, 2)
_DAYS_READ_TOGETHER = 2
"""The number of days whose unsorted records of all customers are in memory."""
_RANKS: dict[type, int] = {str: 1, bytes: 2}


def table_rows(reader: SqlReadModelStatements, table: str, meters_with_months: Collection[int]) -> Iterator[TableRow]:
    """Return all rows of a table, in the order of their keys. Other meters can't have unsorted usage."""
    if table == "usage":
        return _merge(_usage_rows(reader), _unsorted_usage_rows(reader, meters_with_months))
    columns, key, width = _COLUMNS[table]
    rows = reader.stream(f"SELECT {columns} FROM {reader.schema}{table}_{reader.generation} ORDER BY {key}")
    stored = (TableRow(tuple(row[:width]), tuple(row[width:])) for row in check_between(rows))
    if table != "totals":
        return stored
    merged = _merge(stored, _unsorted_days(reader, meters_with_months))
    return (_merged_bucket(list(same_key)) for _, same_key in groupby(merged, lambda row: row.key))


def _merge(rows: Iterator[TableRow], others: Iterator[TableRow]) -> Iterator[TableRow]:
    """Return all rows in the order of their keys. Most read models have no other ones."""
    first = next(others, None)
    return rows if first is None else heapq.merge(rows, chain((first,), others), key=_sort_key)


def _sort_key(row: TableRow) -> list[tuple[int, int | str]]:
    """Return the key in SQLite's order: NULL, numbers, text, then bytes. Only corrupted rows have NULL or bytes."""
    return [(-1, 0) if part is None else (_RANKS.get(type(part), 0), part) for part in row.key]


def _usage_rows(reader: SqlReadModelStatements) -> Iterator[TableRow]:
    rows = reader.stream(
        f"SELECT meter, {reader.BLOCK_COLUMNS}, usages FROM {reader.usage_table} ORDER BY {reader.BLOCK_KEY}"
    )
    for row in check_between(rows):
        meter_id, customer_id, start, dimensions, *_ = row
        for record in _records_of(row):
            if record is None:
                yield _unreadable(row)
            else:
                key = (meter_id, customer_id, start, dimensions, record.position)
                yield TableRow(key, msgspec.structs.astuple(record))


def _unsorted_usage_rows(reader: SqlReadModelStatements, meters_with_months: Collection[int]) -> Iterator[TableRow]:
    """Yield the unsorted records under the keys of their days."""
    rows = reader.stream(
        f"SELECT meter, {reader.BLOCK_COLUMNS}, usages FROM {reader.unsorted_table} ORDER BY {reader.BLOCK_KEY}"
    )
    for _, rows_of_month in groupby(check_between(rows), _METER_CUSTOMER_AND_MONTH):
        found: list[TableRow] = []
        for row in rows_of_month:
            meter_id, customer_id, month, dimensions, *_ = row
            for record in _records_of(row, month) if meter_id in meters_with_months else [None]:
                if record is None:
                    found.append(_unreadable(row))
                else:
                    day = bucket_start(record.occurred_at, DAY_SECONDS)
                    key = (meter_id, customer_id, day, dimensions, record.position)
                    found.append(TableRow(key, msgspec.structs.astuple(record)))
        yield from sorted(found, key=_sort_key)


def _unsorted_days(reader: SqlReadModelStatements, meters_with_months: Collection[int]) -> Iterator[TableRow]:
    """Yield a bucket for each day with unsorted records, computed from these alone. Unreadable blocks are left out.

    The blocks of a month are read again for every few of its days, because those of all customers have many records.
    """
    months = list(reader.stream(f"SELECT DISTINCT meter, start FROM {reader.unsorted_table} ORDER BY meter, start"))
    for meter_id, month in months:
        if meter_id not in meters_with_months or not _is_month(month):
            continue  # `_unsorted_usage_rows` returns these as unreadable
        end = bucket_end(month, MONTH_SECONDS)
        for first in range(month, end, _DAYS_READ_TOGETHER * DAY_MICROSECONDS):
            until = min(first + _DAYS_READ_TOGETHER * DAY_MICROSECONDS, end)
            yield from _unsorted_days_between(reader, meter_id, month, first, until)


def _unsorted_days_between(
    reader: SqlReadModelStatements, meter_id: int, month: int, first: int, until: int
) -> Iterator[TableRow]:
    rows = reader.stream(
        f"SELECT meter, {reader.BLOCK_COLUMNS}, usages FROM {reader.unsorted_table}"
        " WHERE meter = ? AND start = ? AND latest >= ? AND earliest < ? ORDER BY first_position",
        (meter_id, month, first, until),
    )
    rows_by_month = (
        ((customer_id, month, dimensions), _new_records(stored, first, until))
        for _, customer_id, _, dimensions, *_, stored in check_between(rows)
    )
    found = [
        TableRow((meter_id, DAY_SECONDS, start, customer_id, dimensions), row_codec.encode_bucket(bucket))
        for bucket in sum_buckets(blocks_of_rows(by_day(rows_by_month), has_filter=True))
        for customer_id, start, dimensions in (bucket.key,)
    ]
    yield from sorted(found, key=_sort_key)


def _new_records(stored: bytes, first: int, until: int) -> list[UsageRow]:
    """Return the records of an unsorted block in [first, until); none if it can't be read."""
    try:
        return [usage for usage in row_codec.decode_block_rows(stored) if first <= usage.occurred_at < until]
    except CorruptedReadModel:
        return []


def _merged_bucket(rows: Sequence[TableRow]) -> TableRow:
    """Return a stored bucket with its unsorted records, or the only one of both."""
    if len(rows) == 1:
        return rows[0]
    _, _, start, customer_id, dimensions = key = rows[0].key
    try:
        first, second = (row_codec.decode_bucket((customer_id, start, dimensions, *(row.cells or ()))) for row in rows)
    except CorruptedReadModel:
        return TableRow(key, None)
    return TableRow(key, row_codec.encode_bucket(first.merge(second)))


def _unreadable(row: Row) -> TableRow:
    return TableRow(row[:5], None)


def _records_of(row: Row, month: int | None = None) -> list[UsageRecord | None]:
    """Return the records of a block, after a None if it can't be read or contradicts its columns.

    `month` is that of an unsorted block, which has records of this month that were never cancelled.
    """
    _, *block_columns, stored = row
    customer_id, start, dimensions, *_ = block_columns
    key = (customer_id, start, dimensions)
    try:
        records = row_codec.decode_block_usage(key, stored)
        is_valid = bool(records) and row_codec.decode_block_columns(block_columns) == UsageBlock.from_usage(
            key, records
        )
    except CorruptedReadModel:
        return [None]
    if month is not None:
        is_valid = is_valid and _is_month(month) and all(_is_unsorted(record, month) for record in records)
    return [*records] if is_valid else [None, *records]


def _is_unsorted(record: UsageRecord, month: int) -> bool:
    is_unchanged = record.cancelled_position is None and not record.revoked
    return is_unchanged and month <= record.occurred_at < bucket_end(month, MONTH_SECONDS)


def _is_month(start: object) -> bool:
    return isinstance(start, int) and ALL_TIME[0] <= start < ALL_TIME[1] and bucket_start(start, MONTH_SECONDS) == start
