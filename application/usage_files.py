"""Usage files: read through once to know that they are whole, then row by row."""

import codecs
import hashlib
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..domain.errors import InvalidImportFile
from .usage_formats import FileFormat, Malformed, Row, header, rows

CHUNK_BYTES = 1 << 20
Advance = Callable[[int, int], None]
"""Called with how many bytes are read, and of how many."""


@dataclass(frozen=True, slots=True)
class UsageFile:
    """A file that is what it says, as it was when it was opened.

    `digest` is that of its bytes, so that the same file under another name has the same. `columns` are those of a CSV.
    """

    path: Path
    file_format: FileFormat
    file: BinaryIO
    size: int
    modified_ns: int
    digest: bytes
    columns: list[str] | None

    def rows(self, advance: Advance | None = None) -> Iterator[Row]:
        """The rows, from the first. Raises InvalidImportFile where the file is malformed or changes meanwhile."""
        self.file.seek(0)
        try:
            for number, row in enumerate(rows(self.file, self.file_format)):
                if number % 1_000 == 0:
                    self.check_unchanged()
                    if advance is not None:
                        advance(self.file.tell(), self.size)
                yield row
        except (Malformed, UnicodeDecodeError) as error:
            raise _refusal(self.path, str(error), getattr(error, "line", None)) from error
        self.check_unchanged()

    def check_unchanged(self) -> None:
        """Refuse a file that was written to since it was opened: what was read of it is no longer what it says."""
        status = os.fstat(self.file.fileno())
        if (status.st_size, status.st_mtime_ns) != (self.size, self.modified_ns):
            raise _refusal(self.path, "it was changed while it was imported; import it when it is complete")


@contextmanager
def open_usage_file(
    path: Path, file_format: FileFormat | None = None, advance: Advance | None = None
) -> Generator[UsageFile]:
    """Open a usage file and read it through, with nothing recorded yet; its suffix says its format if none is given.

    Raises InvalidImportFile where it can't be read, isn't text in UTF-8, or isn't what its format says.
    """
    if not path.is_file():
        raise _refusal(path, "it is not a file" if path.exists() else "it does not exist")
    chosen = file_format or _format_of(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise _refusal(path, error.strerror or str(error)) from error
    with file:
        status = os.fstat(file.fileno())
        digest = _read_through(file, path, chosen, lambda read: advance(read, status.st_size) if advance else None)
        columns = _columns(file, path) if chosen is FileFormat.CSV else None
        opened = UsageFile(path, chosen, file, status.st_size, status.st_mtime_ns, digest, columns)
        for _ in opened.rows():
            pass
        yield opened


def _format_of(path: Path) -> FileFormat:
    known = {".csv": FileFormat.CSV, ".json": FileFormat.JSON, ".jsonl": FileFormat.JSONL, ".ndjson": FileFormat.JSONL}
    try:
        return known[path.suffix.lower()]
    except KeyError:
        raise _refusal(path, "its name doesn't tell its format; give csv, json or jsonl") from None


def _read_through(file: BinaryIO, path: Path, file_format: FileFormat, advance: Callable[[int], None]) -> bytes:
    """The digest of a file that is text in UTF-8, its lines of a length that memory holds."""
    digest, decoder, line, read = hashlib.sha256(), codecs.getincrementaldecoder("utf-8")(), 1, 0
    chunk = b"not at its end yet"
    while chunk:
        chunk = file.read(CHUNK_BYTES)
        try:
            decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            line += error.object[: error.start].count(b"\n")
            raise _refusal(path, "it is not text in UTF-8", line) from error
        if b"\0" in chunk:
            line += chunk[: chunk.index(b"\0")].count(b"\n")
            raise _refusal(path, "it is not text: it holds a zero byte", line)
        if len(chunk) == CHUNK_BYTES and file_format is not FileFormat.JSON and b"\n" not in chunk:
            raise _refusal(path, "it has a line of over a million bytes", line)
        digest.update(chunk)
        line += chunk.count(b"\n")
        read += len(chunk)
        advance(read)
    return digest.digest()


def _columns(file: BinaryIO, path: Path) -> list[str]:
    file.seek(0)
    try:
        return header(file)
    except Malformed as error:
        raise _refusal(path, str(error), error.line) from error


def _refusal(path: Path, said: str, line: int | None = None) -> InvalidImportFile:
    where = f"{path}, line {line}" if line else str(path)
    return InvalidImportFile(f"{where}: {said}.", field="file", value=str(path))
