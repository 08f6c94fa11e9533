"""Usage files: opened, recognized and read row by row, as often as necessary."""

import codecs
import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from ...domain.errors import InvalidParameter
from ..python_process import MAX_PROCESSES_SETTING
from ..read_models.worker_pool import available_workers
from .encodings import UTF_8, encoding_of, is_western, marked_encoding
from .file_reader import CHUNK_BYTES, FileReader, OnRead
from .formats import (
    MAX_ROW_BYTES,
    TABLE_FORMATS,
    TEXT_FORMATS,
    FileDialect,
    FileFormat,
    FileLimits,
    FileOptions,
    Row,
    RowBatch,
)
from .read_ahead import ReadAheadReader
from .reader_process import ReaderProcess, can_read_in_process
from .row_mapper import KeysOf, RowFormat
from .sources import STANDARD_INPUT, UNREADABLE, FileSource, invalid_file, open_source, unreadable_file

MIN_LIMITED_BYTES = 1 << 20
"""A smaller text with limits is read in this process: it can't take more than a second."""
MIN_TEXT_BYTES = 4 << 20
"""A smaller text without limits is imported faster in this process. A larger one is read on another core."""
_SUFFIXES = {
    ".csv": FileFormat.CSV,
    ".tsv": FileFormat.TSV,
    ".tab": FileFormat.TSV,
    ".json": FileFormat.JSON,
    ".jsonl": FileFormat.JSONL,
    ".ndjson": FileFormat.JSONL,
    ".xlsx": FileFormat.XLSX,
    ".xlsm": FileFormat.XLSX,
    ".parquet": FileFormat.PARQUET,
}
_SIGNATURES = {b"PK\x03\x04": FileFormat.XLSX, b"PAR1": FileFormat.PARQUET}
"""How files in these formats begin, whatever their name."""
AnyReader = FileReader | ReaderProcess | ReadAheadReader
ProgressCallback = Callable[[int, int], None]
"""Called with the number of bytes read and the size of the file."""


@dataclass(frozen=True, slots=True)
class UsageFile:
    """An open file whose format and dialect are known. Its rows are checked while they are read.

    `digest` is the SHA-256 of its contents, the same for a copy under another name or compressed. `columns` is None in
    JSON, whose rows name their own.
    """

    source: FileSource
    reader: AnyReader
    digest: bytes

    @property
    def dialect(self) -> FileDialect:
        """How the file is read."""
        return self.reader.dialect

    @property
    def columns(self) -> Sequence[str] | None:
        """The columns of all rows."""
        return self.reader.columns

    @property
    def path(self) -> Path:
        """The path of the file; `-` if it is standard input."""
        return self.source.path

    def rows(self, advance: ProgressCallback | None = None) -> Iterator[Row]:
        """Return the rows from the first. Raises the errors of `batches`."""
        return chain.from_iterable(batch.rows for batch in self.batches(advance))

    def batches(self, advance: ProgressCallback | None = None) -> Iterator[RowBatch]:
        """Yield all rows in batches. Raises InvalidImportFile if the file is malformed or changed meanwhile."""
        for batch in self.reader.batches(_on_read(self.source, advance)):
            self.source.check_unchanged()
            yield batch
        self.source.check_unchanged()

    def unclear_batches(
        self, row_format: RowFormat, keys_of: KeysOf, advance: ProgressCallback | None = None
    ) -> Iterator[RowBatch]:
        """Read all rows. Yield the batches in which a timestamp or a number may be unclear, given the keys of meters.

        Raises the errors of `batches`.
        """
        yield from self.reader.unclear_batches(row_format, keys_of, _on_read(self.source, advance))
        self.source.check_unchanged()

    def find_header_line(self, columns: Sequence[str]) -> int | None:
        """Return the first line that has these names in its cells; None if no line near the start has."""
        return self.reader.find_header_line(columns)


def _on_read(source: FileSource, advance: ProgressCallback | None) -> OnRead:
    """Return what is called with the number of bytes read."""
    return lambda read: None if advance is None else advance(read, source.size)


@contextmanager
def open_usage_file(
    path: Path,
    options: FileOptions = FileOptions(),  # noqa: B008 - frozen
    advance: ProgressCallback | None = None,
    *,
    contents: BinaryIO | None = None,
    limits: FileLimits = FileLimits(),  # noqa: B008 - frozen
) -> Generator[UsageFile]:
    """Open a usage file, compressed with gzip or not, and determine how to read it. `-` is standard input.

    With `contents`, an open file with the contents of `path`, that file is read, and closed at the end.

    What `options` don't say is determined from the suffix and the contents. Raises InvalidImportFile if the file can't
    be read, or if its format, encoding or delimiter is unclear.
    """
    with open_source(path, contents) as source:
        file_format = options.file_format or _find_format(source)
        _check_options(options, file_format)
        digest, encoding, size = _read_through(source, file_format, options.encoding, advance, limits.max_bytes)
        options = replace(options, file_format=file_format, encoding=encoding)
        reader = _open_reader(source, options, limits, size, advance)
        try:
            yield UsageFile(source, reader, digest)
        finally:
            reader.close()


def _open_reader(
    source: FileSource, options: FileOptions, limits: FileLimits, size: int, advance: ProgressCallback | None
) -> AnyReader:
    """Return the reader of a file, in a process of its own for files that may take much time or memory."""
    is_text = options.file_format in TEXT_FORMATS
    min_bytes = MIN_LIMITED_BYTES if limits.is_limited else MIN_TEXT_BYTES if available_workers() else None
    if is_text and (min_bytes is None or size < min_bytes):
        return FileReader(source, options, limits)
    if can_read_in_process():
        if options.file_format in (FileFormat.CSV, FileFormat.TSV) and not limits.is_limited:
            return ReadAheadReader(source, options, limits)
        reader = ReaderProcess(source, options, limits)
        reader.open(_on_read(source, advance))
        return reader
    if limits.is_limited and not is_text:
        problem = (
            f"{options.file_format} is read in a process of its own here, and none can be started: see "
            f"{MAX_PROCESSES_SETTING}. Save it as CSV"
        )
        raise invalid_file(source.path, problem)
    return FileReader(source, options, limits)


def _find_format(source: FileSource) -> FileFormat:
    first_bytes = source.first_bytes(64)
    for signature, file_format in _SIGNATURES.items():
        if first_bytes.startswith(signature):
            return file_format
    if source.path == STANDARD_INPUT:
        text = first_bytes.removeprefix(codecs.BOM_UTF8).lstrip()
        return {b"[": FileFormat.JSON, b"{": FileFormat.JSONL}.get(text[:1], FileFormat.CSV)
    try:
        return _SUFFIXES[source.suffix]
    except KeyError:
        formats = ", ".join(FileFormat)
        raise invalid_file(
            source.path, f"its suffix is not that of a known format; give one of {formats} as 'format'"
        ) from None


def _check_options(options: FileOptions, file_format: FileFormat) -> None:
    """Raise InvalidParameter if an option doesn't apply to the format."""
    applicable = {
        "encoding": TEXT_FORMATS,
        "delimiter": {FileFormat.CSV, FileFormat.TSV},
        "header_row": TABLE_FORMATS,
        "sheet": {FileFormat.XLSX},
    }
    for name, formats in applicable.items():
        value = getattr(options, name)
        if value is not None and file_format not in formats:
            raise InvalidParameter(f"{name!r} does not apply to the format {file_format}.", field=name, value=value)
    if options.delimiter is not None and (len(options.delimiter) != 1 or options.delimiter in '"\r\n'):
        raise InvalidParameter("'delimiter' must be one character.", field="delimiter", value=options.delimiter)
    if options.header_row is not None and options.header_row < 1:
        raise InvalidParameter("'header_row' must be 1 or more.", field="header_row", value=options.header_row)


def _read_through(
    source: FileSource,
    file_format: FileFormat,
    encoding: str | None,
    advance: ProgressCallback | None,
    max_bytes: int | None,
) -> tuple[bytes, str | None, int]:
    """Return the digest of a file, its encoding and size, after checking that it is text whose lines fit in memory.

    The encoding is None if the format isn't text.
    """
    first_bytes = source.first_bytes(4)
    check: _TextCheck | None = None
    if file_format in TEXT_FORMATS:
        used = encoding_of(encoding) if encoding is not None else marked_encoding(first_bytes) or UTF_8
        check = _TextCheck(source, used, is_given=encoding is not None, has_lines=file_format is not FileFormat.JSON)
    digest = hashlib.sha256()
    unpacked = 0
    try:
        while chunk := source.contents.read(CHUNK_BYTES):
            digest.update(chunk)
            unpacked += len(chunk)
            if max_bytes is not None and unpacked > max_bytes:
                problem = f"it takes over {max_bytes:,} bytes when it is unpacked. Divide it, or raise the limit"
                raise invalid_file(source.path, problem)
            if check is not None:
                check.add(chunk)
            if advance is not None:
                advance(source.stored.tell(), source.size)
    except UNREADABLE as error:
        raise unreadable_file(source.path, error) from error
    return digest.digest(), None if check is None else check.finish(), unpacked


class _TextCheck:
    """Checks that a file is text in an encoding, and determines another one if it is not UTF-8."""

    def __init__(self, source: FileSource, encoding: str, *, is_given: bool, has_lines: bool) -> None:
        self._source = source
        self._encoding = encoding
        self._is_given = is_given
        self._has_lines = has_lines
        self._decoder: codecs.IncrementalDecoder | None = codecs.getincrementaldecoder(encoding)()
        self._allows_zero = encoding.startswith(("utf-16", "utf-32"))
        self._line, self._pending = 1, 0
        self._invalid_line: int | None = None

    def add(self, chunk: bytes) -> None:
        """Check the next bytes. Raise InvalidImportFile."""
        if not self._allows_zero and b"\0" in chunk:
            line = self._line + chunk[: chunk.index(b"\0")].count(b"\n")
            problem = "it is not text: it contains a zero byte. If it is in UTF-16, name it with encoding='utf-16-le'"
            raise invalid_file(self._source.path, problem, line)
        self._decode(chunk, is_last=False)
        line_end = max(chunk.rfind(b"\n"), chunk.rfind(b"\r"))
        self._pending = self._pending + len(chunk) if line_end < 0 else len(chunk) - line_end
        if self._has_lines and self._pending > MAX_ROW_BYTES:
            problem = f"it has a line of over {MAX_ROW_BYTES:,} bytes. Remove what isn't usage"
            raise invalid_file(self._source.path, problem, self._line)
        self._line += chunk.count(b"\n")

    def finish(self) -> str:
        """Return the encoding of the text. Raise InvalidImportFile if it is unclear."""
        self._decode(b"", is_last=True)
        if self._invalid_line is None:
            return self._encoding
        if is_western(self._source.contents):
            return "windows-1252"
        raise invalid_file(
            self._source.path,
            "it is not text in UTF-8. Save it in UTF-8, or name its encoding, such as encoding='windows-1252'",
            self._invalid_line,
        )

    def _decode(self, chunk: bytes, *, is_last: bool) -> None:
        if self._decoder is None:
            return
        try:
            self._decoder.decode(chunk, is_last)
        except UnicodeError as error:
            start = error.start if isinstance(error, UnicodeDecodeError) else 0
            rest = error.object[:start] if isinstance(error, UnicodeDecodeError) else b""
            line = self._line + rest.count(b"\n")
            if self._is_given or self._encoding != UTF_8:
                raise invalid_file(self._source.path, f"it is not text in {self._encoding}", line) from error
            self._decoder, self._invalid_line = None, line
