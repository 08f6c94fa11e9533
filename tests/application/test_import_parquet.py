"""Parquet files of many programs and of attackers: every value is read, and what is in memory is bounded."""

import io
import resource
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tallybook.application.usage_import.files import open_usage_file
from tallybook.application.usage_import.formats import FileLimits, MalformedFile
from tallybook.application.usage_import.json_rows import NestedCell, UnusableCell
from tallybook.application.usage_import.parquet_rows import parquet_batches, read_parquet_columns
from tallybook.domain.errors import InvalidImportFile

from ..sampling import sample

arrow: Any = import_module("pyarrow")
parquet: Any = import_module("pyarrow.parquet")
MEGABYTE = 1_000_000
MANY_ROWS = 300_000


def shared_by(rows: int, text: str | bytes) -> Any:
    """Return a column with the same text in each row. It is in the file once."""
    return arrow.DictionaryArray.from_arrays(arrow.array([0] * rows, arrow.int32()), arrow.array([text]))


def identifiers(count: int) -> Any:
    return arrow.array([f"evt_{number:09d}_{number * 7919 % 2**32:08x}" for number in range(count)])


LONG = "x" * MEGABYTE
LISTS_IN_TWO_ROWS = arrow.ListArray.from_arrays(arrow.array([0, 5_000, 10_000], arrow.int32()), shared_by(10_000, LONG))
MIXED = arrow.chunked_array([shared_by(400, LONG), arrow.array(["a", "b"]).dictionary_encode()])
PLAIN = {"use_dictionary": False, "compression": "zstd", "data_page_size": 1 << 30, "write_batch_size": 1 << 30}
TOO_LARGE = r"over 250 MB of memory to read\. Write it with smaller row groups, or as CSV|has ended \(SIG"
"""A library may also end the process when it gets no memory."""
HOSTILE: dict[str, tuple[Any, Mapping[str, object]]] = {
    "a text that all rows share": (shared_by(50_000, LONG), {}),
    "such a text before others that are stored in full": (MIXED, {}),
    "such a text inside of an object": (arrow.StructArray.from_arrays([shared_by(2_000, LONG)], ["a"]), {}),
    "such texts in the lists of a row": (LISTS_IN_TWO_ROWS, {}),
    "lists in an object": (arrow.StructArray.from_arrays([LISTS_IN_TWO_ROWS], ["a"]), {}),
    "texts with the same prefix": (
        arrow.array([LONG] * 400), {**PLAIN, "column_encoding": {"column": "DELTA_BYTE_ARRAY"}}
    ),
    "many entries of a dictionary": (
        arrow.array([f"{number}{LONG}" for number in range(140)]), {"dictionary_pagesize_limit": 1 << 30}
    ),
    "bytes that all rows share": (shared_by(2_000, LONG.encode()), {}),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", sample(list(HOSTILE), 3))
def test_small_files_take_no_memory_here(tmp_path: Path, name: str) -> None:
    """Whatever they unpack to: the process that reads them has a limit."""
    column, options = HOSTILE[name]
    path = tmp_path / "usage.parquet"
    chosen = {"compression": "zstd", "store_schema": False, "row_group_size": 1 << 30, **options}
    parquet.write_table(arrow.table({"column": column}), path, **chosen)
    assert path.stat().st_size < MEGABYTE
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    limits = FileLimits(max_rows=MEGABYTE, max_memory_bytes=250 << 20)
    with pytest.raises(InvalidImportFile, match=TOO_LARGE), open_usage_file(path, limits=limits) as file:
        assert not list(file.rows())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 20_000


def test_a_large_row_group_takes_little_memory(tmp_path: Path) -> None:
    """It is read page by page, and identifiers are not read as a dictionary."""
    path = tmp_path / "usage.parquet"
    parquet.write_table(arrow.table({"column": identifiers(MANY_ROWS)}), path, row_group_size=1 << 30)
    with open_usage_file(path, limits=FileLimits(max_rows=MANY_ROWS, max_memory_bytes=170 << 20)) as file:
        assert sum(map(len, file.batches())) == MANY_ROWS


def test_a_file_may_take_the_limit() -> None:
    """When it is unpacked, as its metadata says."""
    file = io.BytesIO()
    parquet.write_table(arrow.table({"value": arrow.repeat(0, MEGABYTE)}), file, **PLAIN)
    with pytest.raises(MalformedFile, match="takes over 1,000,000 bytes when it is unpacked"):
        read_parquet_columns(file, MEGABYTE)
    assert read_parquet_columns(file, 9 * MEGABYTE) == ["value"]


def test_invalid_metadata_of_a_column_is_an_error(tmp_path: Path) -> None:
    """It may end the process that reads it."""
    output = io.BytesIO()
    parquet.write_table(arrow.table({"column": arrow.array([[["b"]], None, []])}), output)
    content = output.getvalue()
    levels = b"\x19\x66\x02\x02\x00\x00\x00\x02"  # how many values have each definition level, of which there are 6
    assert content.count(levels) == 1
    changed = content.replace(levels, b"\x19\x56\x02\x02\x00\x00\x80\x01")
    (tmp_path / "usage.parquet").write_bytes(changed)
    with pytest.raises(InvalidImportFile, match="corrupted"), open_usage_file(tmp_path / "usage.parquet") as file:
        assert not list(file.rows())


WRITTEN: dict[str, Mapping[str, object]] = {
    "one row group": {},
    "without dictionaries": {"use_dictionary": False},
    "dictionaries that are full": {"dictionary_pagesize_limit": 2_000, "data_page_size": 500, "write_batch_size": 50},
    "several row groups": {"row_group_size": 700},
    "pages of the second version": {"data_page_version": "2.0", "compression": "gzip"},
    "without the types of Arrow": {"store_schema": False},
    "deltas": {
        "use_dictionary": False,
        "column_encoding": {"text": "DELTA_BYTE_ARRAY", "large": "DELTA_LENGTH_BYTE_ARRAY"},
    },
}  # fmt: skip
TEXTS = ["aé", "b" * 1_500, "", "c"]


@pytest.mark.parametrize("name", WRITTEN)
def test_every_value_is_read(name: str) -> None:
    """In each encoding, also inside of objects and their lists. Lists of rows and bytes are no cells."""
    rows = [None if number % 10 == 0 else number for number in range(1_500)]
    text = [None if row is None else TEXTS[row % 4] if row % 3 else f"id{row}" for row in rows]
    moment = datetime(2026, 1, 1, 12, tzinfo=UTC)
    nested = [
        None if row is None else {"a": cell, "b": [cell, None] if row % 2 else None, "c": {"d": row}}
        for row, cell in zip(rows, text, strict=True)
    ]
    maps = [None if row is None else [("key", f"{row}")] * (row % 3) for row in rows]
    columns = {
        "text": arrow.array(text),
        "large": arrow.array(text, arrow.large_string()),
        "view": arrow.array(text, arrow.string_view()),
        "category": arrow.array(text).dictionary_encode(),
        "number": arrow.array(rows),
        "decimal": arrow.array(rows, arrow.decimal128(20, 2)),
        "time": arrow.array([moment] * len(rows), arrow.timestamp("ns", "UTC")),
        "day": arrow.array([date(2026, 1, 1)] * len(rows)),
        "nested": arrow.array(nested),
        "maps": arrow.StructArray.from_arrays([arrow.array(maps, arrow.map_(arrow.string(), arrow.string()))], ["m"]),
        "list": arrow.array([None if row is None else [row] for row in rows]),
        "bytes": arrow.array([None if row is None else b"x" for row in rows]),
    }
    output = io.BytesIO()
    parquet.write_table(arrow.table(columns), output, **WRITTEN[name])
    read = [row.cells for batch in parquet_batches(output) for row in batch.rows]
    unusable = [None if row is None else UnusableCell("another type") for row in rows]
    for column in ("text", "large", "view", "category"):
        assert [cells[column] for cells in read] == text
    assert [cells["number"] for cells in read] == rows
    assert [cells["decimal"] for cells in read] == [None if row is None else Decimal(row) for row in rows]
    assert {(cells["time"], cells["day"]) for cells in read} == {(moment, date(2026, 1, 1))}
    assert [cell.values if isinstance(cell := cells["nested"], NestedCell) else cell for cells in read] == nested
    assert [cell.values if isinstance(cell := cells["maps"], NestedCell) else cell for cells in read] == [
        {"m": pairs} for pairs in maps
    ]
    assert [cells["list"] for cells in read] == [cells["bytes"] for cells in read] == unusable
