"""Where a usage file comes from: a path or standard input, perhaps compressed with gzip."""

import errno
import gzip
import io
import os
import shutil
import stat
import sys
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO, cast

from ...domain.errors import InvalidImportFile
from .formats import MalformedFile

STANDARD_INPUT = Path("-")
UNREADABLE = (EOFError, OSError, zlib.error)
"""The errors of reading and decompressing a file."""
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class FileSource:
    """An open file: its bytes as they are stored, and its contents, which can be read again from the start."""

    path: Path
    stored: BinaryIO
    contents: BinaryIO
    is_compressed: bool
    size: int
    modified_ns: int

    @property
    def suffix(self) -> str:
        """The suffix of the name, without that of the compression."""
        path = self.path.with_suffix("") if self.path.suffix.lower() == ".gz" else self.path
        return path.suffix.lower()

    def first_bytes(self, count: int) -> bytes:
        """Return the first bytes of the contents. Raise InvalidImportFile if they can't be read."""
        self.contents.seek(0)
        try:
            return self.contents.read(count)
        except UNREADABLE as error:
            raise unreadable_file(self.path, error) from error
        finally:
            self.contents.seek(0)

    def check_unchanged(self) -> None:
        """Raise InvalidImportFile if the file was changed since it was opened."""
        status = os.fstat(self.stored.fileno())
        if (status.st_size, status.st_mtime_ns) != (self.size, self.modified_ns):
            raise invalid_file(self.path, "it was changed while it was imported; import it when it is complete")


@contextmanager
def open_source(path: Path, contents: BinaryIO | None = None) -> Generator[FileSource]:
    """Open a file. `-` is standard input, which is copied to a temporary file. Raises InvalidImportFile.

    With `contents`, an open file with the contents of `path`, that file is read, and closed at the end.
    """
    with _open_stored(path) if contents is None else contents as stored:
        stored.seek(0)
        is_compressed = stored.read(len(_GZIP)) == _GZIP
        stored.seek(0)
        unpacked = cast(BinaryIO, io.BufferedReader(gzip.GzipFile(fileobj=stored))) if is_compressed else stored
        status = os.fstat(stored.fileno())
        yield FileSource(path, stored, unpacked, is_compressed, status.st_size, status.st_mtime_ns)


class ReportingReader(io.RawIOBase):
    """Reads the unpacked contents of a file, and calls `report` before each part.

    So it is called also while no rows come: a small compressed file may have gigabytes of blank lines.
    """

    def __init__(self, contents: BinaryIO, report: Callable[[], object]) -> None:
        self._contents = contents
        self._report = report

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read the next part into a buffer, and return its length. Raise MalformedFile."""
        self._report()
        with read_errors_as_malformed():
            part = self._contents.read(len(buffer))
        buffer[: len(part)] = part
        return len(part)


class OwnPosition(io.RawIOBase):
    """Reads an open file from a position of its own, which no other process with the same descriptor moves."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._position = 0

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Change the position, and return it. Raise OSError if it would be before the start."""
        starts = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: os.fstat(self._descriptor).st_size}
        position = starts[whence] + offset
        if position < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._position = position
        return position

    def readinto(self, buffer: Any, /) -> int:
        """Read the next part into a buffer, and return its length."""
        part = os.pread(self._descriptor, len(buffer), self._position)
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)


def invalid_file(path: Path, problem: str, line: int | None = None) -> InvalidImportFile:
    """Return the error that rejects a file as a whole."""
    name = "standard input" if path == STANDARD_INPUT else str(path)
    location = f"{name}, line {line}" if line else name
    return InvalidImportFile(f"{location}: {problem}.", field="file", value=str(path))


def unreadable_file(path: Path, error: Exception) -> InvalidImportFile:
    """Return the error of a file that can't be read or decompressed, given that of the library or the system."""
    return invalid_file(path, _describe_read_error(error))


@contextmanager
def read_errors_as_malformed() -> Generator[None]:
    """Raise MalformedFile if a file can't be read or decompressed in the block."""
    try:
        yield
    except UNREADABLE as error:
        raise MalformedFile(_describe_read_error(error)) from error


def _describe_read_error(error: Exception) -> str:
    if isinstance(error, EOFError):
        return "it can't be decompressed: it ends in the middle. Store it again, completely"
    is_corrupted = isinstance(error, gzip.BadGzipFile | zlib.error)
    return f"it can't be {'decompressed' if is_corrupted else 'read'}: {error}"


def _open_stored(path: Path) -> BinaryIO:
    try:
        if path == STANDARD_INPUT:
            return _copy_of_standard_input()
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait, and it can't be read twice
            raise invalid_file(path, "it is not a file; to read a pipe, give '-' and redirect standard input")
        return path.open("rb")
    except FileNotFoundError:
        raise invalid_file(path, "it does not exist") from None
    except ValueError:  # raised for a NUL, and for what can't be encoded
        raise invalid_file(path, "its path contains a character that no path can contain") from None
    except OSError as error:
        raise invalid_file(path, error.strerror or str(error)) from error


def _copy_of_standard_input() -> BinaryIO:
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison] - it is None if the program has none
        raise invalid_file(STANDARD_INPUT, "it is closed")
    copy = cast(BinaryIO, TemporaryFile("w+b"))  # noqa: SIM115 - its caller closes it
    shutil.copyfileobj(sys.stdin.buffer, copy)
    copy.seek(0)
    return copy
