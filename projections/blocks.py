"""Usage blocks: records of one bucket stored as one row, with their totals, and the MessagePack encoding."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import groupby

import msgspec

from ..domain.counting import RevokedCancellation, UsageRecord, effective_usage
from ..domain.totals import Totals
from .buckets import DAY_SECONDS, HOUR_SECONDS, bucket_end, bucket_start
from .change_span import ChangeSpan

BucketKey = tuple[int, int, str]
"""Customer id, start and dimension values of a bucket."""
CombinationKey = tuple[int, str]
"""Customer id and dimension values."""
MIN_BLOCK_SIZE = 64
"""A new block with fewer records is concatenated with the block before it in the bucket, if that is short too."""
SHORT_BLOCK_BYTES = 1_000
"""A stored block with fewer bytes is short: new records of its bucket are appended to it, which writes it again."""
SPLIT_THRESHOLD = 256
"""More records are split at hour boundaries, if each part has at least MIN_BLOCK_SIZE records."""
MIN_RECORDS_PER_HOUR = 4
"""If the hour changes after fewer records on average, they are in no order of time and aren't split at hours."""
MAX_BLOCK_SIZE = 1_000
"""More records are always split."""
_HOUR = bucket_end(0, HOUR_SECONDS)


class UsageRow(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """A new record of a bucket as it is encoded: a plain one, which is neither cancelled nor filtered.

    A page has thousands of them, so they aren't garbage collected.
    """

    occurred_at: int
    position: int
    value: Decimal | None
    recorded_at: int


class UsageRowWithOptions(UsageRow, frozen=True):
    """A new record that has a unique value or is filtered."""

    cancelled_position: None = None
    unique_value: str | None = None
    is_filtered: bool = False


RowsByCombination = Mapping[CombinationKey, Sequence[UsageRow]]
"""New records by customer and dimension values; each list is in ledger order."""

RowsByBucket = Mapping[CombinationKey, Mapping[int, Sequence[UsageRow]]]
"""New records by customer and dimension values, and by the start of their bucket; each list is in ledger order."""


def larger_key(key: BucketKey, bucket_seconds: int) -> BucketKey:
    """Return the key of the bucket of a larger size that contains a bucket."""
    customer_id, start, dimensions = key
    return customer_id, bucket_start(start, bucket_seconds), dimensions


class UsageBlock(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The header of up to 1,000 consecutive records of one bucket, which occurred from `earliest` to `latest`.

    The bucket of an unsorted block is a month, of which it has some records.
    `totals` are those of the records that are neither cancelled nor filtered, without regard to windows. `changes` is
    the span of all records and their cancellations. `encoded` are the encoded records if the block is new, or if they
    were read with the header.
    """

    key: BucketKey
    earliest: int
    latest: int
    totals: Totals
    changes: ChangeSpan
    encoded: bytes | None = None

    @property
    def first_position(self) -> int:
        """The position of the first record, which identifies the block in its bucket."""
        return self.changes.first_position

    @classmethod
    def from_rows(cls, key: BucketKey, rows: Sequence[UsageRow], *, has_filter: bool) -> "UsageBlock":
        """Return the block of at least one new record, in ledger order; some may be filtered if `has_filter`."""
        # Columns are faster than loops over the rows, and this runs for every bucket of a page.
        times, positions, values = _columns(rows)
        totals = totals_of_rows(unfiltered(rows)) if has_filter else Totals.from_columns(times, positions, values)
        changes = ChangeSpan(positions[0], positions[-1])
        return cls(key, min(times), max(times), totals, changes, encode_rows(rows))

    @classmethod
    def from_usage(cls, key: BucketKey, records: Sequence[UsageRecord]) -> "UsageBlock":
        """Return the block of records, in ledger order, some of which may be cancelled or filtered."""
        times, totals = [record.occurred_at for record in records], Totals.from_usage(effective_usage(records, None))
        return cls(key, min(times), max(times), totals, ChangeSpan.from_usage(records))

    def append(self, later: "UsageBlock") -> "UsageBlock":
        """Return the concatenation of this block and one that is later in the ledger, both with encoded records.

        Raises ValueError if the records of either aren't an encoded block.
        """
        # Conditions instead of `min` and `max`, because this runs for every block that a page extends.
        earliest = self.earliest if self.earliest < later.earliest else later.earliest  # noqa: FURB136
        latest = self.latest if self.latest > later.latest else later.latest  # noqa: FURB136
        totals, changes = self.totals.merge(later.totals), self.changes.merge(later.changes)
        encoded = concatenate_blocks(self.encoded or b"", later.encoded or b"")
        return UsageBlock(self.key, earliest, latest, totals, changes, encoded)


def by_bucket(
    rows_by_combination: RowsByCombination, bucket_seconds: int, days: Collection[int] | None = None
) -> RowsByBucket:
    """Return new records by the bucket of a size that they occurred in: an hour or a day.

    `days` are the days on which all of them occurred, if they are known.
    """
    microseconds = bucket_end(0, bucket_seconds)
    if days is not None and len(days) == 1 and bucket_seconds == DAY_SECONDS:
        (day,) = days
        return {combination: {day * microseconds: rows} for combination, rows in rows_by_combination.items()}
    return {combination: _by_start(rows, microseconds) for combination, rows in rows_by_combination.items()}


def _by_start(rows: Sequence[UsageRow], bucket_microseconds: int) -> Mapping[int, Sequence[UsageRow]]:
    times = [row.occurred_at for row in rows]
    start = min(times) // bucket_microseconds * bucket_microseconds
    if max(times) < start + bucket_microseconds:
        return {start: rows}
    rows_by_start: defaultdict[int, list[UsageRow]] = defaultdict(list)
    for row, at in zip(rows, times, strict=True):
        rows_by_start[at - at % bucket_microseconds].append(row)
    return rows_by_start


def unfiltered(rows: Sequence[UsageRow]) -> Sequence[UsageRow]:
    """Return the new records that match the filter of the meter."""
    return [row for row in rows if not (isinstance(row, UsageRowWithOptions) and row.is_filtered)]


def totals_of_rows(rows: Sequence[UsageRow]) -> Totals:
    """Return the totals of new records, none of them filtered."""
    return Totals.from_columns(*_columns(rows))


def _columns(rows: Sequence[UsageRow]) -> tuple[list[int], list[int], list[Decimal | None]]:
    """Return the times, positions and values of records."""
    return [row.occurred_at for row in rows], [row.position for row in rows], [row.value for row in rows]


def split_into_blocks(rows: Sequence[UsageRow]) -> Iterator[Sequence[UsageRow]]:
    """Yield the new records of one bucket, in ledger order, split into the records of each block."""
    if len(rows) <= SPLIT_THRESHOLD:
        yield rows
        return
    boundaries, start = list(_hour_boundaries(rows)), 0
    if len(rows) < MIN_RECORDS_PER_HOUR * len(boundaries):
        boundaries = boundaries[-1:]
    for end in boundaries:
        while end - start > MAX_BLOCK_SIZE:
            yield rows[start : start + MAX_BLOCK_SIZE]
            start += MAX_BLOCK_SIZE
        if end - start >= MIN_BLOCK_SIZE or end == len(rows):
            yield rows[start:end]
            start = end


def _hour_boundaries(rows: Sequence[UsageRow]) -> Iterator[int]:
    """Yield each index before which the hour changes, in ledger order, and finally the number of records."""
    end = 0
    for _, hour in groupby(rows, lambda row: row.occurred_at // _HOUR):
        end += len(list(hour))
        yield end


class _EncodedUsage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A record in an encoded block."""

    occurred_at: int
    position: int
    value: Decimal | None
    recorded_at: int
    cancelled_position: int | None = None
    unique_value: str | None = None
    is_filtered: bool = False
    revoked: tuple[RevokedCancellation, ...] = ()


def encode_rows(rows: Sequence[UsageRow | tuple[object, ...]]) -> bytes:
    """Return records as a MessagePack array with a 4-byte length, so that blocks can be concatenated."""
    header_length = 1 if len(rows) < _FIXARRAY_LIMIT else 3
    return _array_header(len(rows)) + _encode(rows)[header_length:]


def encode_block(records: Sequence[UsageRecord]) -> bytes:
    """Return the records of a block encoded, as `encode_rows` does."""
    return encode_rows(
        [
            (record.occurred_at, record.position, record.value, record.recorded_at)
            if record.cancelled_position is None
            and record.unique_value is None
            and not record.is_filtered
            and not record.revoked
            else _with_options(record)
            for record in records
        ]
    )


def _with_options(record: UsageRecord) -> tuple[object, ...]:
    fields = (
        record.occurred_at, record.position, record.value, record.recorded_at, record.cancelled_position,
        record.unique_value, record.is_filtered,
    )  # fmt: skip
    return (*fields, record.revoked) if record.revoked else fields


def decode_block(key: BucketKey, encoded: bytes) -> list[UsageRecord]:
    """Return the records of a block in the bucket `key`.

    Raises MsgspecError, ArithmeticError or ValueError if `encoded` isn't an encoded block.
    """
    customer, _, dimensions = key
    return [
        UsageRecord(
            customer, usage.occurred_at, usage.position, dimensions, usage.value, usage.recorded_at,
            usage.cancelled_position, usage.unique_value, usage.is_filtered, usage.revoked,
        )
        for usage in _decode(encoded)
    ]  # fmt: skip


def decode_usage_rows(encoded: bytes) -> Sequence[UsageRow]:
    """Return the records of a block as new ones; none of them is cancelled. Raises as `decode_block`."""
    try:
        return _decode_usage_rows(encoded)
    except msgspec.ValidationError:
        return _decode_usage_rows_with_options(encoded)


def encoded_size(encoded: bytes) -> int:
    """Return the number of records of an encoded block. Raises ValueError if it isn't one."""
    if encoded[:1] != b"\xdd":
        raise ValueError("not a MessagePack array with a 4-byte length")
    return int.from_bytes(encoded[1:_HEADER_LENGTH], "big")


def concatenate_blocks(encoded: bytes, later: bytes) -> bytes:
    """Return the records of two blocks as one encoded block. Raises ValueError if either isn't an encoded block."""
    return (
        _array_header(encoded_size(encoded) + encoded_size(later)) + encoded[_HEADER_LENGTH:] + later[_HEADER_LENGTH:]
    )


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[_EncodedUsage]).decode
_decode_usage_rows = msgspec.msgpack.Decoder(list[UsageRow]).decode
_decode_usage_rows_with_options = msgspec.msgpack.Decoder(list[UsageRowWithOptions]).decode
_HEADER_LENGTH = 5
_FIXARRAY_LIMIT = 16


def _array_header(length: int) -> bytes:
    """Return the header of a MessagePack array: 0xdd and the length in four bytes."""
    return b"\xdd" + length.to_bytes(_HEADER_LENGTH - 1, "big")
