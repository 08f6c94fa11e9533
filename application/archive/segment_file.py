"""Writes a segment as a Parquet file, and reads it."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from ..storage.ports import PositionedEventRow
from .arrow import pa, parquet
from .columns import SCHEMA, STORED_COLUMNS
from .ledger_rows import PAGE_SIZE

MAX_ROW_GROUP_BYTES = 24 << 20
"""A row group is written when its columns take this much memory: about 80,000 small events."""
_DICTIONARIES = ["topic", "recorded_at", "event_name", "payload.key_value.key", "payload.key_value.value"]


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
        file, SCHEMA, compression="zstd", compression_level=3, use_dictionary=_DICTIONARIES, write_page_checksum=True
    ) as writer:
        pages: list[Any] = []
        for table in tables:
            pages.append(table)
            if sum(page.nbytes for page in pages) >= MAX_ROW_GROUP_BYTES:
                writer.write_table(pa.concat_tables(pages))
                pages.clear()
        if pages:
            writer.write_table(pa.concat_tables(pages))


class SegmentReader:
    """Reads the rows of a segment. Any call may raise UNREADABLE_FILE_ERRORS."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        # Without pre_buffer: its threads abort a process that ends soon after (pyarrow 26).
        self._parquet = parquet.ParquetFile(file, page_checksum_verification=True, pre_buffer=False)
        if not self._parquet.schema_arrow.equals(SCHEMA):
            raise pa.ArrowInvalid("it has other columns than a segment")

    @property
    def row_groups(self) -> Sequence[int]:
        """Return the number of rows of each row group."""
        metadata = self._parquet.metadata
        return [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]

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
