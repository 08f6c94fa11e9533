"""Writes a segment as a Parquet file, and reads it."""

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, BinaryIO

from ..storage.ports import PositionedEventRow
from .arrow import pa, parquet
from .columns import SCHEMA, STORED_COLUMNS
from .ledger_rows import PAGE_SIZE

ROW_GROUP_BYTES = 1 << 20
"""About how much memory the columns of a row group take: those of 4,000 small events. To read one, all are decoded."""
_DICTIONARIES = ["topic", "recorded_at", "event_name", "payload.key_value.key", "payload.key_value.value"]
_DIFFERENCES = dict.fromkeys(("position", "version", "occurred_at"), "DELTA_BINARY_PACKED")
"""Columns that are encoded as differences to the row before."""


class HashingFile:
    """A file that computes the length and the SHA-256 of what is written to it."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        """Write data."""
        self._file.write(data)
        self._sha256.update(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing: the file is flushed by the code that opened it."""

    def tell(self) -> int:
        """Return the number of bytes so far."""
        return self.size

    def sha256(self) -> str:
        """Return the hash, in hexadecimal digits."""
        return self._sha256.hexdigest()


def write_segment(file: HashingFile, tables: Iterator[Any]) -> None:
    """Write tables with the columns of SCHEMA, one for each page."""
    with parquet.ParquetWriter(
        file,
        SCHEMA,
        compression="zstd",
        compression_level=1,
        use_dictionary=_DICTIONARIES,
        column_encoding=_DIFFERENCES,
        write_page_checksum=True,
    ) as writer:
        for table in tables:
            row_groups = max(1, round(table.nbytes / ROW_GROUP_BYTES))
            writer.write_table(table, row_group_size=-(-table.num_rows // row_groups))


class SegmentReader:
    """Reads the rows of a segment. Any call may raise UNREADABLE_FILE_ERRORS."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        # Without pre_buffer: its threads abort a process that ends soon after (pyarrow 26).
        self._parquet = parquet.ParquetFile(file, page_checksum_verification=True, pre_buffer=False)
        if not self._parquet.schema_arrow.equals(SCHEMA):
            raise pa.ArrowInvalid("it has other columns than a segment")
        metadata = self._parquet.metadata
        self.row_groups: Sequence[int] = [
            metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)
        ]
        """The number of rows of each row group."""
        self._ends = list(accumulate(self.row_groups))

    def find_row_group(self, row: int) -> tuple[int, int, int]:
        """Return the row group of a row by its number, and the numbers that its rows start and end at."""
        group = bisect_right(self._ends, row)
        if group == len(self._ends):
            raise IndexError(f"it has no row {row}")
        return group, self._ends[group] - self.row_groups[group], self._ends[group]

    def tables(self, row_group: int) -> Iterator[Any]:
        """Yield the tables of a row group, a page at a time."""
        for batch in self._parquet.iter_batches(PAGE_SIZE, row_groups=[row_group], use_threads=False):
            yield pa.Table.from_batches([batch])

    def stored_rows(self, row_group: int) -> Any:
        """Return the columns that the ledger stores of a row group, as one table."""
        return self._parquet.read_row_group(row_group, columns=STORED_COLUMNS.names, use_threads=False)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def last_row(self) -> PositionedEventRow:
        """Return the last row."""
        last_group = self._parquet.metadata.num_row_groups - 1
        *_, table = self.tables(last_group)
        return table_rows(table.slice(table.num_rows - 1))[0]


UNREADABLE_FILE_ERRORS = (pa.ArrowException, OSError, ValueError, IndexError)
"""What reading a changed Parquet file may raise."""


def table_rows(table: Any) -> list[PositionedEventRow]:
    """Return the rows of a table with the columns of SCHEMA, as a ledger stores them."""
    columns = [table.column(name).to_pylist() for name in ("position", "stream", "version", "topic", "state")]
    return list(zip(*columns, strict=True))
