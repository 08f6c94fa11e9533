"""Usage files in Parquet, row by row. The library is in the extra `files`."""

import io
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import date
from decimal import Decimal
from itertools import pairwise
from typing import Any, BinaryIO, cast

from .csv_rows import column_names
from .formats import MAX_ROW_BYTES, MalformedFile, Row
from .json_rows import NestedCell, UnusableCell
from .parquet_batches import Leaf, check_unpacked_size, plan_row_groups
from .table_rows import import_library, reported_as_malformed

_FOOTER_END_BYTES = 8
"""A Parquet file ends with the length of its metadata and the letters PAR1."""
_MAX_FOOTER_BYTES = 8 << 20
_BUFFER_BYTES = 1 << 16
"""Without a buffer, a whole column chunk is in memory."""


def read_parquet_columns(file: BinaryIO, max_bytes: int | None = None) -> list[str]:
    """Return the columns of a Parquet file. Raises MalformedFile, also if it takes more bytes unpacked."""
    with _open_parquet(file) as parquet:
        if max_bytes is not None:
            check_unpacked_size(file, parquet.metadata, max_bytes)
        return column_names(parquet.schema_arrow.names)


def parquet_rows(file: BinaryIO) -> Iterator[Row]:
    """Return the rows of a Parquet file. Raises MalformedFile. They are converted column by column, which is faster.

    Memory does not depend on the number of rows, except for lists and categories: see `plan_row_groups`.
    """
    number = 0
    with _open_parquet(file) as parquet:
        arrow: Any = import_library("pyarrow")
        names = column_names(parquet.schema_arrow.names)
        texts = [column.path for column in _leaf_schemas(parquet) if column.physical_type == "BYTE_ARRAY"]
        with_dictionaries = _reopen(parquet, file, texts)
        leaves = [
            Leaf(schema, arrow.types.is_dictionary(read), arrow.types.is_dictionary(given))
            for schema, read, given in zip(
                _leaf_schemas(parquet), _leaf_types(with_dictionaries), _leaf_types(parquet), strict=True
            )
        ]
        paths: frozenset[str] = frozenset()
        for group in plan_row_groups(file, leaves, with_dictionaries):
            if group.dictionary_paths != paths:
                paths = group.dictionary_paths
                parquet = _reopen(parquet, file, sorted(paths))  # noqa: PLW2901
            for batch in parquet.iter_batches(group.batch_rows, row_groups=[group.number], use_threads=False):
                columns = [_cells(arrow, column) for column in batch.columns]
                size = sum(map(_total_size, columns)) // batch.num_rows + 1 if batch.num_rows else 1
                for values in zip(*columns, strict=True):
                    number += 1
                    yield Row(number, dict(zip(names, values, strict=False)), size)


def _leaf_schemas(parquet: Any) -> list[Any]:
    schema = parquet.metadata.schema
    return [schema.column(index) for index in range(len(schema))]


def _leaf_types(parquet: Any) -> list[Any]:
    """Return the types of the columns without columns in them, in their order in the file."""
    pending: list[Any] = [field.type for field in reversed(parquet.schema_arrow)]
    leaf_types: list[Any] = []
    while pending:
        column_type = pending.pop()
        storage = getattr(column_type, "storage_type", column_type)
        fields = [storage.field(index).type for index in range(storage.num_fields)]
        pending += reversed(fields)
        leaf_types += [] if fields else [storage]
    return leaf_types


def _total_size(cells: Sequence[object]) -> int:
    """Return the size of the cells of a column. Raise MalformedFile if one is longer than a row may be."""
    sizes = [
        len(cell) if isinstance(cell, str) else _size(cell.values) if isinstance(cell, NestedCell) else 8
        for cell in cells
    ]
    if max(sizes) > MAX_ROW_BYTES:
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
        _check_footer(file)
        # Without pre_buffer: its threads abort a process that ends soon (pyarrow 26).
        opened = parquet.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        _check_metadata(opened, file)
        yield opened


def _check_footer(file: BinaryIO) -> None:
    """Raise MalformedFile for much metadata. It is in memory all the time: 5 kB for a row group of 300 bytes."""
    end = file.seek(0, io.SEEK_END)
    file.seek(max(end - _FOOTER_END_BYTES, 0))
    size = int.from_bytes(file.read(4), "little")
    if _MAX_FOOTER_BYTES < size < end:
        raise MalformedFile(
            f"its metadata takes {size:,} bytes; the limit is {_MAX_FOOTER_BYTES:,}. Write it with larger row groups"
        )
    file.seek(0)


def _check_metadata(parquet: Any, file: BinaryIO) -> None:
    """Raise an error if the metadata of a column chunk is invalid: `metadata.row_group(…).column(…)` ends the process.

    Before pyarrow reads the first page of a column, it checks the metadata of all columns of the row group.
    """
    unread = _reopen(parquet, cast(BinaryIO, _FileWithoutPages(file)))
    for index in range(parquet.metadata.num_row_groups):
        with suppress(_PageWasRead):
            for _ in unread.iter_batches(1, row_groups=[index], use_threads=False):
                break


class _PageWasRead(Exception):
    """A page of a file was read whose metadata only is checked."""


class _FileWithoutPages:
    """A file of the same size whose contents can't be read."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self.size = file.seek(0, io.SEEK_END)

    def seek(self, _offset: int, _whence: int = io.SEEK_SET) -> int:
        """Go to the end, or nowhere."""
        return self.size

    def tell(self) -> int:
        """Return the size."""
        return self.size

    def read(self, _size: int = -1) -> bytes:
        """Raise _PageWasRead."""
        raise _PageWasRead


def _reopen(parquet: Any, file: BinaryIO, dictionary_paths: Sequence[str] = ()) -> Any:
    """Return the same Parquet file, which reads the texts at these paths as dictionaries."""
    return type(parquet)(
        file, metadata=parquet.metadata, pre_buffer=False, buffer_size=_BUFFER_BYTES, read_dictionary=dictionary_paths
    )
