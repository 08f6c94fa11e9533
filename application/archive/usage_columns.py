"""The columns of recorded usage, made by Arrow's JSON reader without a Python object for each event.

It decodes what ledgers write, and gives up on anything else, so that `columns.py` decodes the page event by event.
"""

from collections.abc import Sequence
from functools import lru_cache, reduce
from typing import Any

from ...projections.ports import USAGE_RECORDED
from ..storage.ports import PositionedEventRow
from .arrow import compute, json, pa
from .columns import DECODED_COLUMNS, decode_columns, lines_of_objects
from .ledger_rows import RowPage

MAX_PAYLOAD_KEYS = 32
"""Each key takes a column while it is read. Payloads with more different keys are decoded event by event."""
MIN_USAGE = 1_000
"""Fewer events are decoded faster event by event."""
_FIELDS = ("recorded_at", "event_name", "payload", "occurred_at")
_OTHER_FIELDS = ("by", "via", "on_behalf_of")
"""Fields that only some events have, and that have no columns. Arrow has to know them, so that it finds no others."""


class ColumnDecoder:
    """Decodes the columns of pages. It remembers the keys of payloads, which Arrow has to know in advance."""

    def __init__(self, min_usage: int = MIN_USAGE) -> None:
        self._min_usage = min_usage
        self.payload_keys: list[str] = []

    def decode(self, page: RowPage) -> list[Any]:
        """Return the arrays of DECODED_COLUMNS. Raise UnreadableState."""
        rows, (_, _, _, topics, states) = page
        usage_count = topics.count(USAGE_RECORDED)
        if usage_count < max(self._min_usage, len(rows) // 2):
            return decode_columns(rows)
        if usage_count < len(rows):
            states = [row[4] for row in rows if row[3] == USAGE_RECORDED]
        usage = self.decode_usage(states)
        if usage is None:
            return decode_columns(rows)
        if usage_count == len(rows):
            return usage
        others = decode_columns([row for row in rows if row[3] != USAGE_RECORDED])
        order = _merged_order(rows, usage_count)
        return [
            pa.concat_arrays([usage_column, other_column]).take(order)
            for usage_column, other_column in zip(usage, others, strict=True)
        ]

    def decode_usage(self, states: Sequence[bytes]) -> list[Any] | None:
        """Return the columns of these states of recorded usage, or None if Arrow can't read each of them."""
        lines, count = lines_of_objects(states), len(states)
        if lines is None:
            return None
        table = self._read(lines)
        if table is None or table.num_rows != count or any(table.column(name).null_count for name in _FIELDS):
            return None
        columns = {name: _one_array(table.column(name)) for name in _FIELDS}
        values = [columns["payload"].field(key) for key in self.payload_keys]
        has_null = any(array.null_count for array in values)
        if not values or (has_null and b":null" in lines):  # null means that a key is missing
            return None
        payload = (_maps_with_missing_keys if has_null else _maps)(tuple(self.payload_keys), values)
        null_positions = pa.nulls(count, pa.int64())
        return [columns["recorded_at"], columns["event_name"], columns["occurred_at"], null_positions, payload]

    def _read(self, lines: bytes) -> Any | None:
        """Return the table of the lines, with a column for each key of the payloads. Read again if there are more."""
        for _ in range(2):
            payload_type = pa.struct([pa.field(key, pa.string()) for key in self.payload_keys])
            schema = pa.schema(
                [(name, payload_type if name == "payload" else DECODED_COLUMNS.field(name).type) for name in _FIELDS]
                + [(name, pa.string()) for name in _OTHER_FIELDS]
            )
            try:
                lines.decode()  # Arrow doesn't check the encoding
                table = json.read_json(
                    pa.BufferReader(lines),
                    json.ReadOptions(use_threads=False, block_size=len(lines) + 1),
                    json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="infer"),
                )
            except (pa.ArrowInvalid, UnicodeDecodeError):
                return None
            keys = [field.name for field in table.schema.field("payload").type]
            if table.num_columns != len(_FIELDS) + len(_OTHER_FIELDS) or len(keys) > MAX_PAYLOAD_KEYS:
                return None
            if len(keys) == len(self.payload_keys):
                return table
            self.payload_keys = sorted(keys)  # Arrow has guessed the types of the new ones
        return None


def _maps(keys: tuple[str, ...], values_by_key: Sequence[Any]) -> Any:
    """Return an array of maps, all with the same keys, from an array of values for each key."""
    count = len(values_by_key[0])
    values = pa.concat_arrays(values_by_key).take(_interleaved(len(keys), count))
    return pa.MapArray.from_arrays(_even_offsets(len(keys), count), _repeated(keys, count), values)


def _maps_with_missing_keys(keys: tuple[str, ...], values_by_key: Sequence[Any]) -> Any:
    """Return an array of maps from an array of values for each key, in which null is a missing key."""
    count = len(values_by_key[0])
    values, order = pa.concat_arrays(values_by_key), _interleaved(len(keys), count)
    is_present = values.is_valid().take(order)
    sizes = reduce(compute.add, (array.is_valid().cast(pa.int32()) for array in values_by_key))
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), compute.cumulative_sum(sizes)])
    entries = order.filter(is_present)
    return pa.MapArray.from_arrays(offsets, _repeated(keys, count).filter(is_present), values.take(entries))


@lru_cache(maxsize=4)
def _interleaved(arrays: int, count: int) -> Any:
    """Return the indices that take the first element of each of the concatenated arrays, then the second ones."""
    indices = [0] * (arrays * count)
    for index in range(arrays):
        indices[index::arrays] = range(index * count, index * count + count)
    return pa.array(indices, pa.int32())


@lru_cache(maxsize=4)
def _repeated(keys: tuple[str, ...], count: int) -> Any:
    return pa.array(keys * count, pa.string())


@lru_cache(maxsize=4)
def _even_offsets(size: int, count: int) -> Any:
    return pa.array(range(0, size * count + 1, size), pa.int32())


def _merged_order(rows: Sequence[PositionedEventRow], usage_count: int) -> Any:
    """Return the indices that put the rows of usage, followed by the other rows, into the order of the page."""
    usage, others = iter(range(usage_count)), iter(range(usage_count, len(rows)))
    return pa.array([next(usage if row[3] == USAGE_RECORDED else others) for row in rows], pa.int32())


def _one_array(column: Any) -> Any:
    """Return a chunked array as one array."""
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
