"""Standard output whose errors have a type of their own.

A command that records writes its result after the work is done. If its output can't be written, because the disk is
full or the reader has gone, that must not look like an error of recording.
"""

import errno
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class OutputError(Exception):
    """Standard output can't be written. The message is the reason; `is_closed_pipe` is whether the reader has gone."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror or str(error))
        self.is_closed_pipe = error.errno == errno.EPIPE


class _OutputFile(io.RawIOBase):
    """Writes to a file descriptor. Raises OutputError once; what comes later, also at exit, is discarded."""

    name = "<stdout>"

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._is_discarded = False

    def discard(self) -> None:
        """Discard what is written from now on, also what is buffered."""
        self._is_discarded = True

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: "ReadableBuffer", /) -> int:
        if self._is_discarded:
            return memoryview(data).nbytes
        try:
            return os.write(self._descriptor, data)
        except OSError as error:
            self.discard()
            raise OutputError(error) from error


def check_output() -> TextIO:
    """Return a text stream to stdout that raises OutputError, and escapes what its encoding can't represent."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: a file of the ledger must not get its number, and writing to it must fail
            os.open(os.devnull, os.O_RDONLY)
    output = _OutputFile(1)
    encoding = sys.stdout.encoding if sys.stdout else "utf-8"  # pyright: ignore[reportUnnecessaryComparison]
    return io.TextIOWrapper(
        io.BufferedWriter(output), encoding=encoding, errors="backslashreplace", line_buffering=output.isatty()
    )


def discard_output() -> None:
    """Discard what is not written yet: a command that Ctrl-C ends must not wait for a reader that doesn't read."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, _OutputFile):
        raw.discard()
