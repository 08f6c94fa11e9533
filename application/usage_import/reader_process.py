"""Reads a usage file in a process of its own, which has limits of memory and of processor time.

Libraries for spreadsheets and Parquet may take gigabytes and minutes for a small file. That ends this process only: the
file is rejected, and the program goes on.
"""

import os
import pickle
import select
import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen, TimeoutExpired

from ...domain.errors import InvalidRequest, NotFound, UsageSourceUnavailable
from ..python_process import kill, max_processes, start_python
from .file_reader import OnRead
from .formats import FileDialect, FileFormat, FileLimits, FileOptions, RowBatch
from .reader_service import (
    OUT_OF_MEMORY,
    SIZE_BYTES,
    BatchesRequest,
    HeaderRequest,
    MeterAnswer,
    OpenRequest,
    Request,
    UnclearBatchesRequest,
)
from .row_mapper import KeysOf, MeterKeys, RowFormat
from .row_messages import (
    Columns,
    End,
    Failed,
    HeaderLine,
    Message,
    MeterNeeded,
    Opened,
    Progress,
    Rows,
    decode,
    to_batch,
)
from .sources import FileSource, invalid_file

_PROGRAM = Path(__file__).with_name("reader_main.py")
_WAIT_MILLISECONDS = 200
"""How often the caller hears of progress while no message comes, so that it can cancel."""
_MAX_MESSAGE_BYTES = 256 << 20
_PART_BYTES = 1 << 20
_EXIT_SECONDS = 5
_SIGNALS = {number.value: number.name for number in signal.Signals}
_SIGNALS_OF_OTHERS = {"SIGKILL", "SIGTERM", "SIGINT", "SIGHUP"}
"""What others end a process by, such as the system if it has no more memory: the file isn't known to be the cause."""
_HINTS = {FileFormat.XLSX: "Save its sheet as CSV", FileFormat.PARQUET: "Write it with smaller row groups, or as CSV"}


def can_read_in_process() -> bool:
    """Return whether a process can be started that inherits an open file."""
    return os.name == "posix" and max_processes() != 1


class ReaderProcess:
    """Reads a file as `FileReader` does, in another process. It raises the same errors.

    It also raises InvalidImportFile if the limits are exceeded, or if the process fails or crashes, and
    UsageSourceUnavailable if others have ended it.
    """

    dialect: FileDialect
    columns: Sequence[str] | None

    def __init__(self, source: FileSource, options: FileOptions, limits: FileLimits) -> None:
        """Describe the file. Call `open` or `read_ahead` next."""
        self._source = source
        self._options = options
        self._limits = limits
        self._cpu_seconds = limits.cpu_seconds(source.size)
        self._process: Popen[bytes] | None = None
        self._progress = 0
        self._is_answering = False
        self._requested_ahead: Request | None = None

    def open(self, on_read: OnRead) -> None:
        """Start the process, and get the dialect and the columns. Raise InvalidImportFile or UsageSourceUnavailable."""
        self._start()
        with self._closed_on_error():
            opened = self._receive_opened(on_read)
        self.dialect, self.columns = opened.dialect, opened.columns

    def read_ahead(self) -> None:
        """Start the process, and let it read rows before `batches` is called, as far as the pipe has room.

        Raise UsageSourceUnavailable. Other errors are raised by `batches`.
        """
        self._start()
        with self._closed_on_error():
            self._requested_ahead, self._is_answering = BatchesRequest(), True
            self._write(self._requested_ahead)

    def batches(self, on_read: OnRead) -> Iterator[RowBatch]:
        """Yield all rows in batches. The process reads ahead as far as the pipe has room."""
        return self._batches(BatchesRequest(), None, on_read)

    def unclear_batches(self, row_format: RowFormat, keys_of: KeysOf, on_read: OnRead) -> Iterator[RowBatch]:
        """Yield the batches in which a timestamp or a number may be unclear. The others aren't sent."""
        return self._batches(UnclearBatchesRequest(row_format), keys_of, on_read)

    def _batches(self, request: Request, keys_of: KeysOf | None, on_read: OnRead) -> Iterator[RowBatch]:
        with self._answer(request, on_read):
            while not isinstance(message := self._receive(on_read), End):
                if isinstance(message, Columns | Rows):
                    yield to_batch(message)
                elif isinstance(message, MeterNeeded) and keys_of is not None:
                    self._write(MeterAnswer(_keys_or_none(keys_of, message.event_name)))
                else:
                    raise self._invalid_message()

    def find_header_line(self, columns: Sequence[str]) -> int | None:
        """Return the first line that has these names in its cells; None if no line near the start has."""
        with self._answer(HeaderRequest(columns), _ignore):
            message = self._receive(_ignore)
            if not isinstance(message, HeaderLine):
                raise self._invalid_message()
        return message.line

    def close(self) -> None:
        """Kill the process."""
        process, self._process = self._process, None
        self._requested_ahead, self._is_answering = None, False
        if process is not None:
            kill(process)

    def _start(self) -> None:
        source = self._source
        descriptor, self._progress = source.stored.fileno(), 0
        try:
            self._process = start_python(_PROGRAM, (descriptor,))
        except OSError as error:
            raise UsageSourceUnavailable(
                f"{source.path} can't be read at the moment: no process can be started ({error.strerror or error}).",
                field="file",
                value=str(source.path),
            ) from error
        with self._closed_on_error():
            self._write(OpenRequest(source.path, descriptor, self._options, self._limits, self._cpu_seconds))

    def _receive_opened(self, on_read: OnRead) -> Opened:
        message = self._receive(on_read)
        if not isinstance(message, Opened):
            raise self._invalid_message()
        return message

    @contextmanager
    def _answer(self, request: Request, on_read: OnRead) -> Generator[None]:
        """Send a request, and receive its answer in the block; to a new process if this one doesn't wait for one."""
        is_requested, self._requested_ahead = request == self._requested_ahead, None
        must_start = self._process is None or (self._is_answering and not is_requested)
        if must_start:
            self.close()
            self._start()
        with self._closed_on_error():
            self._is_answering, self._progress = True, 0
            if not is_requested:
                self._write(request)
            if must_start or is_requested:
                self._receive_opened(on_read)
            yield
            self._is_answering = False

    @contextmanager
    def _closed_on_error(self) -> Generator[None]:
        """Kill the process if the block raises, or if it is never completed."""
        process = self._process
        try:
            yield
        except BaseException:
            if self._process is process:
                self.close()
            raise

    def _write(self, request: Request) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            pickle.dump(request, self._process.stdin, pickle.HIGHEST_PROTOCOL)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._lost() from None

    def _receive(self, on_read: OnRead) -> Message:
        """Return the next message that is no progress. Raise InvalidImportFile and InvalidParameter."""
        while isinstance(message := self._next_message(on_read), Progress):
            self._progress = message.read
            on_read(message.read)
        if isinstance(message, Failed):
            raise message.error()
        return message

    def _next_message(self, on_read: OnRead) -> Message:
        try:
            size = int.from_bytes(self._read(SIZE_BYTES, on_read), "big")
            content = self._read(size, on_read) if size <= _MAX_MESSAGE_BYTES else b""
        except EOFError:
            raise self._lost() from None
        try:
            return decode(content)
        except Exception as error:  # a process that a file controls can send anything
            raise self._invalid_message() from error

    def _read(self, size: int, on_read: OnRead) -> bytearray:
        """Return so many bytes. Raise EOFError if the process has ended before."""
        assert self._process is not None
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        content = bytearray()
        while len(content) < size:
            while not poll.poll(_WAIT_MILLISECONDS):
                on_read(self._progress)
            part = os.read(descriptor, min(size - len(content), _PART_BYTES))
            if not part:
                raise EOFError
            content += part
        return content

    def _lost(self) -> InvalidRequest | UsageSourceUnavailable:
        """Return the error of a process that has ended without an answer."""
        process = self._process
        assert process is not None
        try:
            status = process.wait(_EXIT_SECONDS)
        except TimeoutExpired:  # it has closed its standard output, and goes on
            status = 0
        kill(process)
        path, end = self._source.path, _SIGNALS.get(-status, f"exit status {status}")
        if end in _SIGNALS_OF_OTHERS:
            message = f"{path}: the process that reads it was ended from outside ({end}). Try it again."
            return UsageSourceUnavailable(message, field="file", value=str(path))
        hint = _HINTS.get(self._options.file_format or FileFormat.CSV, "Divide it")
        if status == OUT_OF_MEMORY:
            problem = f"it takes over {self._limits.max_memory_bytes >> 20} MB of memory to read. {hint}"
        elif status == -signal.SIGXCPU:
            problem = f"it takes over {self._cpu_seconds} seconds of processor time to read. {hint}"
        else:
            problem = f"the process that reads it has ended ({end}): the file is corrupted, or too large. {hint}"
        return invalid_file(path, problem)

    def _invalid_message(self) -> InvalidRequest:
        return invalid_file(self._source.path, "the process that reads it sent an invalid message")


def _keys_or_none(keys_of: KeysOf, event_name: str) -> MeterKeys | None:
    """Return the keys of a meter; None if there is no such meter. Raises that the ledger is unavailable."""
    try:
        return keys_of(event_name)
    except (InvalidRequest, NotFound):
        return None


def _ignore(_read: int) -> None:
    """Ignore progress."""
