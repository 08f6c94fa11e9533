"""Reads the rows of a large CSV file in another process, while this one checks the file."""

from collections.abc import Iterator, Sequence

from .file_reader import FileReader, OnRead
from .formats import FileDialect, FileLimits, FileOptions, RowBatch
from .reader_process import ReaderProcess
from .row_mapper import KeysOf, RowFormat
from .sources import FileSource


class ReadAheadReader:
    """Reads a file as `FileReader` does. It raises the same errors, and those of `ReaderProcess`.

    The other process starts at once, which takes as long as checking about 70,000 rows. When the check has ended, it
    has read the first rows.
    """

    def __init__(self, source: FileSource, options: FileOptions, limits: FileLimits) -> None:
        """Start the process. Raise InvalidImportFile and UsageSourceUnavailable."""
        self._reader = FileReader(source, options, limits)
        self._process = ReaderProcess(source, options, limits)
        self._process.read_ahead()

    @property
    def dialect(self) -> FileDialect:
        """How the file is read."""
        return self._reader.dialect

    @property
    def columns(self) -> Sequence[str] | None:
        """The columns of all rows."""
        return self._reader.columns

    def batches(self, on_read: OnRead) -> Iterator[RowBatch]:
        """Yield all rows in batches, which the other process reads."""
        return self._process.batches(on_read)

    def unclear_batches(self, row_format: RowFormat, keys_of: KeysOf, on_read: OnRead) -> Iterator[RowBatch]:
        """Yield the batches in which a timestamp or a number may be unclear, which this process reads."""
        return self._reader.unclear_batches(row_format, keys_of, on_read)

    def find_header_line(self, columns: Sequence[str]) -> int | None:
        """Return the first line that has these names in its cells; None if no line near the start has."""
        return self._reader.find_header_line(columns)

    def close(self) -> None:
        """Kill the process."""
        self._process.close()
