"""Parquet files of many programs and of attackers: every value is read, and what is in memory is bounded."""

import io
import json
import subprocess
import sys
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
from tallybook.application.usage_import.parquet_rows import parquet_rows, read_parquet_columns
from tallybook.domain.errors import InvalidImportFile

arrow: Any = import_module("pyarrow")
parquet: Any = import_module("pyarrow.parquet")
MEGABYTE = 1_000_000
FEW_ROWS, MANY_ROWS = 50_000, 300_000

READ_FILES = """
import json, sys
from pathlib import Path
from tallybook.application.usage_import.files import open_usage_file
from tallybook.domain.errors import InvalidImportFile

def peak():
    return next(int(line.split()[1]) // 1000 for line in open("/proc/self/status") if line.startswith("VmHWM"))

def read(path):
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins again
    rows = 0
    try:
        with open_usage_file(Path(path)) as file:
            for _ in file.rows():
                rows += 1
        return rows, peak() - start, None
    except InvalidImportFile as error:
        return rows, peak() - start, error.message

with open_usage_file(Path(sys.argv[1])) as file:
    next(iter(file.rows()))  # imports the libraries
start = peak()
print(json.dumps([read(path) for path in sys.argv[1:]]))
"""


def peaks_of(*paths: Path) -> list[tuple[int, int, str | None]]:
    """Read files in a process. Return the rows of each, the peak of memory in MB above the first one, and the error."""
    result = subprocess.run([sys.executable, "-c", READ_FILES, *paths], capture_output=True, text=True, check=True)
    return [tuple(entry) for entry in json.loads(result.stdout)]


def shared_by(rows: int, text: str | bytes) -> Any:
    """Return a column with the same text in each row. It is in the file once."""
    return arrow.DictionaryArray.from_arrays(arrow.array([0] * rows, arrow.int32()), arrow.array([text]))


def identifiers(count: int) -> Any:
    return arrow.array([f"evt_{number:09d}_{number * 7919 % 2**32:08x}" for number in range(count)])


LONG = "x" * MEGABYTE
LISTS_IN_TWO_ROWS = arrow.ListArray.from_arrays(arrow.array([0, 5_000, 10_000], arrow.int32()), shared_by(10_000, LONG))
MIXED = arrow.chunked_array([shared_by(400, LONG), arrow.array(["a", "b"]).dictionary_encode()])
PLAIN = {"use_dictionary": False, "compression": "zstd", "data_page_size": 1 << 30, "write_batch_size": 1 << 30}
HOSTILE: dict[str, tuple[Any, Mapping[str, object], int | str]] = {
    "a text that all rows share": (shared_by(50_000, LONG), {}, 50_000),
    "such a text before others that are stored in full": (MIXED, {}, 402),
    "such a text inside of an object": (arrow.StructArray.from_arrays([shared_by(2_000, LONG)], ["a"]), {}, 2_000),
    "such texts in the lists of a row": (LISTS_IN_TWO_ROWS, {}, 2),
    "lists in an object": (arrow.StructArray.from_arrays([LISTS_IN_TWO_ROWS], ["a"]), {}, "a row of over 33,554"),
    "texts with the same prefix": (
        arrow.array([LONG] * 100), {**PLAIN, "column_encoding": {"column": "DELTA_BYTE_ARRAY"}}, 100
    ),
    "many entries of a dictionary": (
        arrow.array([f"{number}{LONG}" for number in range(140)]), {"dictionary_pagesize_limit": 1 << 30}, "takes 560,0"
    ),
    "bytes that all rows share": (shared_by(2_000, LONG.encode()), {}, 2_000),
}  # fmt: skip


@pytest.mark.slow
def test_small_files_need_little_memory(tmp_path: Path) -> None:
    """Whatever they unpack to. A file of text that is stored in full needs the same for any number of rows."""
    paths = {str(rows): tmp_path / f"{rows}.parquet" for rows in (FEW_ROWS, MANY_ROWS)}
    for rows, path in paths.items():
        parquet.write_table(arrow.table({"column": identifiers(int(rows))}), path)
    for name, (column, options, _) in HOSTILE.items():
        paths[name] = tmp_path / f"{name}.parquet"
        chosen = {"compression": "zstd", "store_schema": False, "row_group_size": 1 << 30, **options}
        parquet.write_table(arrow.table({"column": column}), paths[name], **chosen)
        assert paths[name].stat().st_size < MEGABYTE
    peaks = dict(zip(paths, peaks_of(*paths.values()), strict=True))
    for name, (_, _, expected) in HOSTILE.items():
        rows, peak, error = peaks[name]
        if isinstance(expected, str):
            assert error is not None, name
            assert expected in error, name
        else:
            assert (rows, error) == (expected, None), name
        assert peak < 400, name
    (few_rows, few_peak, _), (many_rows, many_peak, _) = peaks[str(FEW_ROWS)], peaks[str(MANY_ROWS)]
    assert (few_rows, many_rows) == (FEW_ROWS, MANY_ROWS)
    assert many_peak < few_peak + 30  # 72 with a dictionary of the whole row group


def varint(number: int, length: int) -> bytes:
    """Return a number as in the metadata of a Parquet file, with so many bytes."""
    zigzag = number << 1
    return bytes([(zigzag >> 7 * index & 127) | 128 for index in range(length - 1)] + [zigzag >> 7 * (length - 1)])


def test_the_sizes_in_the_metadata_of_a_file_may_be_wrong(tmp_path: Path) -> None:
    """Those of its pages count."""
    path = tmp_path / "wrong.parquet"
    parquet.write_table(arrow.table({"column": arrow.repeat(0, MEGABYTE)}), path, **PLAIN)
    with path.open("rb") as file:
        size = parquet.ParquetFile(file).metadata.row_group(0).total_byte_size
    content = path.read_bytes()
    footer = content[-500:].replace(varint(size, 4), varint(1_000, 4))
    path.write_bytes(content[:-500] + footer)
    with path.open("rb") as file:
        assert parquet.ParquetFile(file).metadata.row_group(0).total_byte_size == 1_000
    with (
        pytest.raises(InvalidImportFile, match="takes over 1,000,000 bytes when it is unpacked"),
        open_usage_file(path, limits=FileLimits(max_bytes=MEGABYTE)),
    ):
        pass


def test_invalid_metadata_of_a_column_is_an_error() -> None:
    """It does not end the process, as pyarrow does if it is asked for that metadata."""
    output = io.BytesIO()
    parquet.write_table(arrow.table({"column": arrow.array([[["b"]], None, []])}), output)
    content = output.getvalue()
    levels = b"\x19\x66\x02\x02\x00\x00\x00\x02"  # how many values have each definition level, of which there are 6
    assert content.count(levels) == 1
    changed = content.replace(levels, b"\x19\x56\x02\x02\x00\x00\x80\x01")
    with pytest.raises(MalformedFile, match="or it is corrupted"):
        read_parquet_columns(io.BytesIO(changed))


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
    read = [row.cells for row in parquet_rows(output)]
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


def test_many_pages_take_as_long_as_many_bytes() -> None:
    """Each has a header, which may have 20 bytes. An empty one is in no file of a program."""
    file = io.BytesIO()
    parquet.write_table(
        arrow.table({"value": list(range(3_000))}), file, data_page_size=1, write_batch_size=1, use_dictionary=False
    )
    assert file.tell() < 1_000_000 // 2
    assert read_parquet_columns(file, 4_000_000) == ["value"]
    with pytest.raises(MalformedFile, match="takes over 1,000,000 bytes"):
        read_parquet_columns(file, 1_000_000)


def test_a_file_with_many_row_groups_is_rejected() -> None:
    """Its metadata is in memory until the end, in many times its size."""
    file = io.BytesIO()
    parquet.write_table(arrow.table({"value": [1]}), file)
    content = file.getvalue()
    large = bytes(9 << 20) + content[:-8] + ((8 << 20) + 1).to_bytes(4, "little") + b"PAR1"
    with pytest.raises(MalformedFile, match="its metadata takes 8,388,609 bytes"):
        read_parquet_columns(io.BytesIO(large))
