"""Reads the rows of a file whose format is known, in this process."""

import io
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, cast

from .csv_dialect import csv_lines, long_cells_allowed, read_csv_dialect
from .csv_rows import csv_batches
from .encodings import UTF_8
from .formats import (
    TEXT_FORMATS,
    FileDialect,
    FileFormat,
    FileLimits,
    FileOptions,
    MalformedFile,
    RowBatch,
    row_batches,
)  # fmt: skip
from .json_rows import json_rows, jsonl_rows
from .parquet_rows import parquet_batches, read_parquet_columns
from .sources import FileSource, ReportingReader, invalid_file, read_errors_as_malformed
from .table_rows import read_sheet_dialect, sheet_lines, sheet_rows

if TYPE_CHECKING:
    from .row_mapper import KeysOf, RowFormat

CHUNK_BYTES = 1 << 20
_MAX_HEADER_LINES = 200
OnRead = Callable[[int], object]
"""Called with the number of bytes read so far."""
ReadBatches = Callable[[BinaryIO], Iterator[RowBatch]]


class FileReader:
    """Reads a file row by row, as often as necessary. `columns` is None in JSON, whose rows name their own."""

    dialect: FileDialect
    columns: Sequence[str] | None

    def __init__(self, source: FileSource, options: FileOptions, limits: FileLimits) -> None:
        """Determine what the options don't say but the format, which they do. Raise InvalidImportFile."""
        self._source = source
        self._max_rows = limits.max_rows
        with self._reported_errors(), read_errors_as_malformed():
            self.dialect, self.columns, self._read = _open(source, options, limits)

    def batches(self, on_read: OnRead) -> Iterator[RowBatch]:
        """Yield all rows in batches. Raises InvalidImportFile if the file is malformed or has too many."""
        source = self._source
        contents = source.contents
        contents.seek(0)
        if self.dialect.file_format in TEXT_FORMATS:
            reader = ReportingReader(contents, lambda: on_read(source.stored.tell()))
            contents = cast(BinaryIO, io.BufferedReader(reader, CHUNK_BYTES))
        with self._reported_errors():
            count = 0
            for batch in self._read(contents):
                count += len(batch)
                if self._max_rows is not None and count > self._max_rows:
                    raise MalformedFile(f"it has over {self._max_rows:,} rows. Divide it, or raise the limit")
                on_read(source.stored.tell())
                yield batch

    def unclear_batches(self, row_format: "RowFormat", keys_of: "KeysOf", on_read: OnRead) -> Iterator[RowBatch]:
        """Yield the batches in which a timestamp or a number may be unclear: see `ColumnMapper.are_clear`."""
        from .column_mapper import ColumnMapper  # noqa: PLC0415 - not needed to read only

        mapper = ColumnMapper(row_format, keys_of, self.columns)
        return (batch for batch in self.batches(on_read) if not mapper.are_clear(batch))

    def find_header_line(self, columns: Sequence[str]) -> int | None:
        """Return the first line that has these names in its cells; None if no line near the start has."""
        contents = self._source.contents
        contents.seek(0)
        match self.dialect.file_format:
            case FileFormat.CSV | FileFormat.TSV:
                lines = csv_lines(contents, self.dialect.encoding or UTF_8)
            case FileFormat.XLSX:
                lines = sheet_lines(contents, self.dialect.sheet or "")
            case _:
                return None
        with suppress(MalformedFile), read_errors_as_malformed():  # the missing column is what is reported
            return next((line for line, names in islice(lines, _MAX_HEADER_LINES) if names.issuperset(columns)), None)
        return None

    def close(self) -> None:
        """Do nothing: the file belongs to the caller."""

    @contextmanager
    def _reported_errors(self) -> Generator[None]:
        """Allow long cells, and raise InvalidImportFile for the errors of the formats."""
        with long_cells_allowed():
            try:
                yield
            except (MalformedFile, UnicodeDecodeError) as error:
                self._source.check_unchanged()
                raise invalid_file(self._source.path, str(error), getattr(error, "line", None)) from error


def _open(
    source: FileSource, options: FileOptions, limits: FileLimits
) -> tuple[FileDialect, Sequence[str] | None, ReadBatches]:
    """Return the dialect of a file, its columns, and the function that reads its rows. Raises MalformedFile."""
    file, file_format, encoding = source.contents, options.file_format, options.encoding or UTF_8
    file.seek(0)
    compression = "gzip" if source.is_compressed else None
    match file_format:
        case FileFormat.CSV | FileFormat.TSV:
            delimiter = options.delimiter or ("\t" if file_format is FileFormat.TSV else None)
            csv = read_csv_dialect(file, encoding, delimiter, options.header_row)
            dialect = FileDialect(file_format, compression, csv.encoding, csv.delimiter, csv.header_line)
            return dialect, csv.columns, partial(csv_batches, dialect=csv)
        case FileFormat.XLSX:
            sheet = read_sheet_dialect(file, options.sheet, options.header_row, limits.max_bytes)
            dialect = FileDialect(file_format, compression, header_line=sheet.header_line, sheet=sheet.sheet)
            return dialect, sheet.columns, lambda opened: row_batches(sheet_rows(opened, sheet))
        case FileFormat.PARQUET:
            columns = read_parquet_columns(file, limits.max_bytes)
            return FileDialect(file_format, compression), columns, parquet_batches
        case FileFormat.JSON | FileFormat.JSONL:
            read = json_rows if file_format is FileFormat.JSON else jsonl_rows
            return FileDialect(file_format, compression, encoding), None, lambda file: row_batches(read(file, encoding))
        case None:
            raise TypeError("the options name no format")
