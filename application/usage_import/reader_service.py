"""What a process that reads a usage file does: it answers the requests of `ReaderProcess`, within limits."""

import gc
import io
import os
import pickle
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, BinaryIO, cast

from ...domain.errors import InvalidImportFile, InvalidParameter, NotFound
from .file_reader import FileReader
from .formats import OBJECTS_PER_COLLECTION, FileLimits, FileOptions, RowBatch
from .row_messages import End, Failed, HeaderLine, Message, MeterNeeded, Opened, Progress, encode, encode_batch
from .sources import OwnPosition, invalid_file, open_source

if TYPE_CHECKING:
    from .row_mapper import MeterKeys, RowFormat

try:
    import resource
except ImportError:  # Windows
    resource = None

SIZE_BYTES = 4
"""Before each message is its length, in so many bytes."""
OUT_OF_MEMORY = 71
"""The exit status of a process that has no more memory."""
_MAX_CACHED_METERS = 1_000


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """The first request: the file, which is open as a descriptor, and how to read it."""

    path: Path
    descriptor: int
    options: FileOptions
    limits: FileLimits
    cpu_seconds: int | None


@dataclass(frozen=True, slots=True)
class BatchesRequest:
    """Read all rows."""


@dataclass(frozen=True, slots=True)
class UnclearBatchesRequest:
    """Read all rows, and send those in which a cell may be unclear."""

    row_format: "RowFormat"


@dataclass(frozen=True, slots=True)
class MeterAnswer:
    """The keys of the meter that was needed; None if it does not exist."""

    keys: "MeterKeys | None"


@dataclass(frozen=True, slots=True)
class HeaderRequest:
    """Find the line that has these columns."""

    columns: Sequence[str]


Request = OpenRequest | BatchesRequest | UnclearBatchesRequest | MeterAnswer | HeaderRequest


class _Messages:
    """The pipe to the process that reads the messages."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def send(self, message: Message | bytes) -> None:
        content = message if isinstance(message, bytes) else encode(message)
        self._file.write(len(content).to_bytes(SIZE_BYTES, "big"))
        self._file.write(content)
        self._file.flush()


def serve(requests: BinaryIO, messages: BinaryIO) -> None:
    """Answer requests until one fails, or until the parent process has ended."""
    received: SimpleQueue[Request] = SimpleQueue()
    threading.Thread(target=_receive, args=(requests, received), daemon=True).start()
    pipe = _Messages(messages)
    errors = os.fdopen(os.dup(2), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries write to it why they end the process
    gc.set_threshold(OBJECTS_PER_COLLECTION)
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # takes 25 MB less than the pool of pyarrow
    request = received.get()
    assert isinstance(request, OpenRequest)
    _limit_resources(request.limits.max_memory_bytes, request.cpu_seconds)
    status = 1
    try:
        _answer_all(request, received, pipe)
    except MemoryError:
        status = OUT_OF_MEMORY
    except BrokenPipeError:  # the parent process was killed
        pass
    except (InvalidImportFile, InvalidParameter) as error:
        pipe.send(Failed.of(error))
    except Exception as error:  # whatever it is, this file can't be read
        traceback.print_exc(file=errors)
        pipe.send(Failed.of(invalid_file(request.path, f"it can't be read: {type(error).__name__}: {error}")))
    finally:
        os._exit(status)  # the other thread waits for standard input


def _receive(requests: BinaryIO, received: SimpleQueue[Request]) -> None:
    """Put all requests into a queue. End the process at their end, also while it reads a file."""
    status = 0
    try:
        while True:
            received.put(pickle.load(requests))  # noqa: S301 - the pipe of the parent process
    except MemoryError:
        status = OUT_OF_MEMORY
    finally:
        os._exit(status)


def _answer_all(request: OpenRequest, received: SimpleQueue[Request], pipe: _Messages) -> None:
    @lru_cache(_MAX_CACHED_METERS)
    def keys_of(event_name: str) -> "MeterKeys":
        pipe.send(MeterNeeded(event_name))
        answer = received.get()
        if not isinstance(answer, MeterAnswer) or answer.keys is None:
            raise NotFound("There is no such meter.")
        return answer.keys

    def send_progress(read: int) -> None:
        pipe.send(Progress(read))

    def send_batches(batches: Iterator[RowBatch]) -> None:
        for batch in batches:
            pipe.send(encode_batch(batch))
        pipe.send(End())

    contents = cast(BinaryIO, io.BufferedReader(OwnPosition(request.descriptor)))
    with open_source(request.path, contents) as source:
        reader = FileReader(source, request.options, request.limits)
        pipe.send(Opened(reader.dialect, None if reader.columns is None else list(reader.columns)))
        while True:
            match received.get():
                case HeaderRequest(columns):
                    pipe.send(HeaderLine(reader.find_header_line(columns)))
                case BatchesRequest():
                    send_batches(reader.batches(send_progress))
                case UnclearBatchesRequest(row_format):
                    send_batches(reader.unclear_batches(row_format, keys_of, send_progress))
                case unexpected:
                    raise TypeError(f"{type(unexpected).__name__} is not expected")


def _limit_resources(memory_bytes: int, cpu_seconds: int | None) -> None:
    """Limit this process as far as the system can. A limit that is lower already stays."""
    if resource is None:
        return
    limits = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_DATA, memory_bytes)]
    if cpu_seconds is not None:
        limits.append((resource.RLIMIT_CPU, cpu_seconds))
    for kind, limit in limits:
        soft, hard = resource.getrlimit(kind)
        lowest = min(value for value in (limit, soft, hard) if value != resource.RLIM_INFINITY)
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (lowest, hard))
