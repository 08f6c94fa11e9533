"""Usage files: read once to check that they are complete and valid, then row by row."""

import codecs
import hashlib
import os
import stat
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ...domain.errors import InvalidImportFile
from .csv_rows import csv_rows, long_cells_allowed, read_header
from .formats import MAX_ROW_BYTES, FileFormat, MalformedFile, Row
from .json_rows import json_rows, jsonl_rows

CHUNK_BYTES = 1 << 20
_READERS: Mapping[FileFormat, Callable[[BinaryIO], Iterator[Row]]] = {
    FileFormat.CSV: csv_rows,
    FileFormat.JSON: json_rows,
    FileFormat.JSONL: jsonl_rows,
}
_OTHER_FORMATS = {
    b"\x1f\x8b": "It is compressed with gzip; decompress it first",
    b"PK\x03\x04": "It is a zip archive or a spreadsheet; extract it, or save it as CSV in UTF-8",
    b"\xff\xfe": "It is in UTF-16; save it in UTF-8",
    b"\xfe\xff": "It is in UTF-16; save it in UTF-8",
}
"""What to do with files that begin with these bytes."""
ProgressCallback = Callable[[int, int], None]
"""Called with the number of bytes read and the size of the file."""


@dataclass(frozen=True, slots=True)
class UsageFile:
    """An open file that was checked to be valid in its format.

    `digest` is the SHA-256 of its bytes, the same for a copy under another name. `columns` is None unless it is CSV.
    """

    path: Path
    file_format: FileFormat
    file: BinaryIO
    size: int
    modified_ns: int
    digest: bytes
    columns: list[str] | None

    def rows(self, advance: ProgressCallback | None = None) -> Iterator[Row]:
        """Return the rows from the first. Raises InvalidImportFile if the file is malformed or changed meanwhile."""
        self.file.seek(0)
        try:
            for number, row in enumerate(_READERS[self.file_format](self.file)):
                if number % 1_000 == 0:
                    self.check_unchanged()
                    if advance is not None:
                        advance(self.file.tell(), self.size)
                yield row
        except (MalformedFile, UnicodeDecodeError) as error:
            raise _invalid_file(self.path, str(error), getattr(error, "line", None)) from error
        self.check_unchanged()

    def check_unchanged(self) -> None:
        """Raise InvalidImportFile if the file was changed since it was opened."""
        status = os.fstat(self.file.fileno())
        if (status.st_size, status.st_mtime_ns) != (self.size, self.modified_ns):
            raise _invalid_file(self.path, "it was changed while it was imported; import it when it is complete")


@contextmanager
def open_usage_file(
    path: Path, file_format: FileFormat | None = None, advance: ProgressCallback | None = None
) -> Generator[UsageFile]:
    """Open a usage file and read all of it to check it. Its suffix determines the format if `file_format` is None.

    Raises InvalidImportFile if it can't be read, isn't text in UTF-8, or isn't valid in its format.
    """
    with _open_file(path) as file, long_cells_allowed():
        checked_format = file_format or _format_of(path)
        status = os.fstat(file.fileno())
        digest = _read_through(
            file, path, checked_format, lambda read: advance(read, status.st_size) if advance else None
        )
        columns = _columns(file, path) if checked_format is FileFormat.CSV else None
        opened = UsageFile(path, checked_format, file, status.st_size, status.st_mtime_ns, digest, columns)
        for _ in opened.rows():
            pass
        yield opened


def _open_file(path: Path) -> BinaryIO:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait, and it can't be read twice
            raise _invalid_file(path, "it is not a file")
        return path.open("rb")
    except FileNotFoundError:
        raise _invalid_file(path, "it does not exist") from None
    except ValueError:  # raised for a NUL, and for what can't be encoded
        raise _invalid_file(path, "its path contains a character that no path can contain") from None
    except OSError as error:
        raise _invalid_file(path, error.strerror or str(error)) from error


def _format_of(path: Path) -> FileFormat:
    formats = {
        ".csv": FileFormat.CSV,
        ".json": FileFormat.JSON,
        ".jsonl": FileFormat.JSONL,
        ".ndjson": FileFormat.JSONL,
    }
    try:
        return formats[path.suffix.lower()]
    except KeyError:
        raise _invalid_file(path, "its suffix is not that of a known format; give csv, json or jsonl") from None


def _read_through(file: BinaryIO, path: Path, file_format: FileFormat, advance: Callable[[int], None]) -> bytes:
    """Return the digest of a file, after checking that it is UTF-8 and that its lines fit in memory."""
    digest, decoder, line, read, pending = hashlib.sha256(), codecs.getincrementaldecoder("utf-8")(), 1, 0, 0
    chunk = b"not read yet"
    while chunk:
        chunk = file.read(CHUNK_BYTES)
        if not read:
            _check_first_bytes(path, chunk)
        try:
            decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            line += error.object[: error.start].count(b"\n")
            raise _invalid_file(path, "it is not text in UTF-8. Save it in UTF-8", line) from error
        if b"\0" in chunk:
            line += chunk[: chunk.index(b"\0")].count(b"\n")
            raise _invalid_file(path, "it is not text: it contains a zero byte. Save it as text in UTF-8", line)
        line_end = max(chunk.rfind(b"\n"), chunk.rfind(b"\r"))
        pending = pending + len(chunk) if line_end < 0 else len(chunk) - line_end
        if pending > MAX_ROW_BYTES and file_format is not FileFormat.JSON:
            raise _invalid_file(path, f"it has a line of over {MAX_ROW_BYTES:,} bytes. Remove what isn't usage", line)
        digest.update(chunk)
        line += chunk.count(b"\n")
        read += len(chunk)
        advance(read)
    return digest.digest()


def _check_first_bytes(path: Path, chunk: bytes) -> None:
    """Raise InvalidImportFile if a file begins as those of another well-known format do."""
    for first_bytes, advice in _OTHER_FORMATS.items():
        if chunk.startswith(first_bytes):
            raise _invalid_file(path, f"it is not text in UTF-8. {advice}", 1)


def _columns(file: BinaryIO, path: Path) -> list[str]:
    file.seek(0)
    try:
        return read_header(file)
    except MalformedFile as error:
        raise _invalid_file(path, str(error), error.line) from error


def _invalid_file(path: Path, problem: str, line: int | None = None) -> InvalidImportFile:
    location = f"{path}, line {line}" if line else str(path)
    return InvalidImportFile(f"{location}: {problem}.", field="file", value=str(path))
