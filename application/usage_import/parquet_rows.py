"""Usage files in Parquet, in batches of rows. The library is in the extra `files`."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from itertools import pairwise
from typing import Any, BinaryIO, cast

from .csv_dialect import column_names
from .formats import BATCH_ROWS, MAX_BATCH_SIZE, MAX_ROW_BYTES, ColumnBatch, MalformedFile
from .json_rows import NestedCell, UnusableCell
from .table_rows import import_library, reported_as_malformed

_BUFFER_BYTES = 1 << 16
"""Without a buffer, a whole column chunk is in memory."""
_MAX_DECODED_ROWS = 1_000
_MAX_DECODED_BYTES = 32 << 20
"""Few rows are decoded at once if they are large, as far as the metadata of the file says so."""


def read_parquet_columns(file: BinaryIO, max_bytes: int | None = None) -> list[str]:
    """Return the columns of a Parquet file. Raises MalformedFile, also if it takes more bytes unpacked."""
    with _open_parquet(file) as parquet:
        groups = map(parquet.metadata.row_group, range(parquet.metadata.num_row_groups))
        if max_bytes is not None and sum(group.total_byte_size for group in groups) > max_bytes:
            raise MalformedFile(f"it takes over {max_bytes:,} bytes when it is unpacked")
        return column_names(parquet.schema_arrow.names)


def parquet_batches(file: BinaryIO) -> Iterator[ColumnBatch]:
    """Yield the rows of a Parquet file in batches, as it has them: column by column. Raises MalformedFile."""
    first, size = 1, 0
    with _open_parquet(file) as parquet:
        arrow: Any = import_library("pyarrow")
        names = column_names(parquet.schema_arrow.names)
        columns: list[list[object]] = [[] for _ in names]
        for part in _decoded_parts(parquet):
            for values, column in zip(columns, part.columns, strict=True):
                cells = _cells(arrow, column)
                values.extend(cells)
                size += _total_size(cells)
            if columns and (size >= MAX_BATCH_SIZE or len(columns[0]) >= BATCH_ROWS):
                yield from _batches(names, columns, first, size)
                first, size = first + len(columns[0]), 0
                columns = [[] for _ in names]
        yield from _batches(names, columns, first, size)


def _batches(names: Sequence[str], columns: list[list[object]], first: int, size: int) -> Iterator[ColumnBatch]:
    """Yield rows from number `first` on in batches, given their size."""
    count = len(columns[0]) if columns else 0
    step = max(count * MAX_BATCH_SIZE // max(size, MAX_BATCH_SIZE), 1)
    for start in range(0, count, step):
        part = [column[start : start + step] for column in columns]
        yield ColumnBatch(names, list(range(first + start, first + start + len(part[0]))), part)


def _decoded_parts(parquet: Any) -> Iterator[Any]:
    """Yield the rows of all row groups in parts that fit in memory."""
    for index in range(parquet.metadata.num_row_groups):
        group = parquet.metadata.row_group(index)
        row_bytes = group.total_byte_size // max(group.num_rows, 1) + 1
        rows = min(max(_MAX_DECODED_BYTES // row_bytes, 1), _MAX_DECODED_ROWS)
        yield from parquet.iter_batches(rows, row_groups=[index], use_threads=False)


def _total_size(cells: Sequence[object]) -> int:
    """Return the size of the cells of a column. Raise MalformedFile if one is longer than a row may be."""
    sizes = [
        len(cell) if isinstance(cell, str) else _size(cell.values) if isinstance(cell, NestedCell) else 8
        for cell in cells
    ]
    if max(sizes, default=0) > MAX_ROW_BYTES:
        raise MalformedFile(f"it has a row of over {MAX_ROW_BYTES:,} bytes")
    return sum(sizes)


def _size(value: object) -> int:
    """Return the size of a value inside of an object."""
    if isinstance(value, Mapping):
        return 8 + sum(map(_size, cast(Mapping[str, object], value).values()))
    if isinstance(value, list | tuple):
        return 8 + sum(map(_size, cast(Sequence[object], value)))
    return len(value) if isinstance(value, str) else 8


def _cells(arrow: Any, column: Any) -> list[object]:
    """Return the cells of a column."""
    types, column_type = arrow.types, column.type
    if _is_unusable(types, column_type):
        unusable = UnusableCell("another type")
        return [unusable if is_valid else None for is_valid in column.is_valid().to_pylist()]
    values = _values(arrow, column)
    is_cell = types.is_string, types.is_large_string, types.is_integer, types.is_decimal, types.is_timestamp
    return values if any(check(column_type) for check in is_cell) else list(map(_cell, values))


def _is_unusable(types: Any, column_type: Any) -> bool:
    """Return whether no value of a type can be a cell: bytes and lists, which are not converted."""
    if types.is_dictionary(column_type):
        return _is_unusable(types, column_type.value_type)
    is_unusable = types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary
    is_list = types.is_nested(column_type) and not types.is_struct(column_type)
    return is_list or any(check(column_type) for check in is_unusable)


def _values(arrow: Any, column: Any) -> list[object]:
    """Return the values of a column; texts of a dictionary are in memory once. Times are truncated to microseconds."""
    types, column_type = arrow.types, column.type
    if types.is_dictionary(column_type):
        used = column.indices.unique()
        texts = dict(zip(used.to_pylist(), _values(arrow, column.dictionary.take(used)), strict=True))
        return list(map(texts.get, column.indices.to_pylist()))
    if types.is_struct(column_type):
        names = [field.name for field in column_type]
        if len(set(names)) < len(names):
            raise MalformedFile(f"a column has several columns of the same name in it: {', '.join(names)[:100]}")
        rows = zip(*(_values(arrow, child) for child in column.flatten()), strict=True)
        nested: list[dict[str, object]] = [dict(zip(names, row, strict=True)) for row in rows]
        nested = nested if names else [{} for _ in range(len(column))]
        return [row if is_valid else None for row, is_valid in zip(nested, column.is_valid().to_pylist(), strict=True)]
    if types.is_nested(column_type):
        return _lists(arrow, column)
    if types.is_timestamp(column_type) and column_type.unit == "ns":
        column = column.cast(arrow.timestamp("us", tz=column_type.tz), safe=False)
    return column.to_pylist()


def _lists(arrow: Any, column: Any) -> list[object]:
    """Return the values of a column of lists, or of maps as lists of pairs."""
    types, column_type = arrow.types, column.type
    if types.is_map(column_type):
        values: list[object] = list(zip(_values(arrow, column.keys), _values(arrow, column.items), strict=True))
    else:
        if not types.is_list(column_type) and not types.is_large_list(column_type):
            column = column.cast(arrow.large_list(column_type.value_type))
        values = _values(arrow, column.values)
    ends = zip(pairwise(column.offsets.to_pylist()), column.is_valid().to_pylist(), strict=True)
    return [values[start:end] if is_valid else None for (start, end), is_valid in ends]


def _cell(value: object) -> object:
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, dict):
        return NestedCell(cast(dict[str, object], value))
    return value if value is None or isinstance(value, str | int | Decimal | date) else UnusableCell("another type")


@contextmanager
def _open_parquet(file: BinaryIO) -> Generator[Any]:
    parquet = import_library("pyarrow.parquet")
    file.seek(0)
    with reported_as_malformed("it is no Parquet file, or it is corrupted"):
        # Without pre_buffer: its threads abort a process that ends soon (pyarrow 26).
        yield parquet.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES)
