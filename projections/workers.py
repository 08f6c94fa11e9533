"""Worker processes: what is costly and needs nothing but what it is given can be done on other cores.

A worker is a Python of its own that is told what to call over its standard input, and ends when that does: also where
the program that began it was killed. It is not forked, as a program with threads must not be, and doesn't run the
program's own main module, as the workers of `multiprocessing` do where they aren't forked.
"""

import logging
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import TypeVar

Result = TypeVar("Result")
MOST = 4
"""So many processes at most work together: who gathers what the others did can't keep up with more."""
PROCESSES = "TALLYBOOK_PROCESSES"
"""The name of the setting for how many they are, with the program itself; 1 if it is to do everything itself."""
_PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from tallybook.projections.workers import serve; serve()"

_PIPE_BYTES = 1 << 20
"""As much as Linux allows: each time a pipe is empty, who reads it has to wait for the interpreter's lock again."""

_log = logging.getLogger("tallybook")


class WorkerLost(Exception):
    """A worker ended before it had answered."""


def usable() -> int:
    """How many workers may be begun: one for each core but one; 0 where Python can't be started."""
    set_to = os.environ.get(PROCESSES, "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    number = int(set_to) if set_to.isdecimal() else min(cores, MOST)
    is_python = Path(sys.executable or "").stem.startswith("python") and not getattr(sys, "frozen", False)
    return max(number - 1, 0) if is_python else 0


class Worker:
    """One process. It does one piece of work at a time."""

    def __init__(self) -> None:
        # In a session of its own, so that an interrupt from the terminal reaches only who tells it what to do.
        self._process = subprocess.Popen(  # noqa: S603 - nothing of it comes from outside
            [sys.executable, "-c", _PROGRAM, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            pipesize=_PIPE_BYTES,
        )

    def call(self, function: Callable[..., Result], *arguments: object) -> Result:
        """What a function that can be imported gives for `arguments`. Raises WorkerLost."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            pickle.dump((function, arguments), self._process.stdin, pickle.HIGHEST_PROTOCOL)
            self._process.stdin.flush()
            return pickle.load(self._process.stdout)  # noqa: S301 - it is a pipe of our own
        except (EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
            raise WorkerLost(f"exit status {self._process.poll()}, {type(error).__name__}") from error

    def end(self) -> None:
        """Let it end at once, whatever it does."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()


class Workers:
    """Some workers, which begin while the program goes on, and end with this."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._threads = ThreadPoolExecutor(number)
        self._all: list[Worker] = []
        self._free: SimpleQueue[Worker | None] = SimpleQueue()
        self._changing = threading.Lock()
        self._is_over = False
        self.are_ready = False
        """Whether there is one that has begun, and none was lost."""

    def __enter__(self) -> "Workers":
        with suppress(RuntimeError):  # no thread is to be had: then there are no workers
            for _ in range(self.number):
                self._threads.submit(self._begin)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        self._threads.shutdown(cancel_futures=True)

    def submit(self, job: Callable[[], Result]) -> "Future[Result]":
        """Do a job on a thread, which may call workers."""
        return self._threads.submit(job)

    def call(self, function: Callable[..., Result], *arguments: object) -> Result:
        """What a function that can be imported gives for `arguments`, once a worker is free. Raises WorkerLost."""
        worker = self._free.get()
        if worker is None:
            self._free.put(None)  # for the next who asks
            raise WorkerLost("they were ended")
        try:
            return worker.call(function, *arguments)
        finally:
            self._free.put(worker)

    def lost(self, error: WorkerLost) -> None:
        """There are none from now on, as one was lost."""
        if not self._is_over:
            _log.warning("A worker process was lost (%s); this process goes on alone.", error)
        self._end()

    def _begin(self) -> None:
        """Begin one of the workers, and wait until it can be told something."""
        try:
            with self._changing:
                if self._is_over:
                    return
                worker = Worker()
                self._all.append(worker)
            worker.call(os.getpid)
        except OSError as error:
            self.lost(WorkerLost(str(error)))
        except WorkerLost as error:
            self.lost(error)
        else:
            self._free.put(worker)
            self.are_ready = not self._is_over

    def _end(self) -> None:
        with self._changing:
            self._is_over, self.are_ready = True, False
            for worker in self._all:
                worker.end()
            self._all.clear()
            self._free.put(None)


def serve() -> None:
    """Be a worker."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anything prints isn't an answer
    with suppress(EOFError, BrokenPipeError, pickle.UnpicklingError):  # who asks is gone
        while True:
            function, arguments = pickle.load(sys.stdin.buffer)  # noqa: S301 - it is a pipe of who began it
            pickle.dump(function(*arguments), answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()
