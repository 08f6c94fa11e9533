"""Worker processes: what is costly and needs nothing but what it is given can be done on other cores.

A worker is a Python of its own that is told what to call over its standard input, and ends when that does: also where
the program that began it was killed. It is not forked, as a program with threads must not be, and doesn't run the
program's own main module, as the workers of `multiprocessing` do where they aren't forked.
"""

import atexit
import fcntl
import logging
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

Result = TypeVar("Result")
MOST = 4
"""So many processes at most work together: who gathers what the others did can't keep up with more."""
PROCESSES = "TALLYBOOK_PROCESSES"
"""The name of the setting for how many they are, with the program itself; 1 if it is to do everything itself."""
_PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from tallybook.projections.workers import serve; serve()"

AT_ONCE = 2
"""So many pieces of work a worker has at most: the one that it does, and the next, so that it needn't wait for it."""
_READY = b"a worker of Tallybook is ready\n"
KEPT_SECONDS = 30.0
"""So long workers are kept after they were used, as one who rebuilds often verifies or compares then."""
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
    """One process. It does one piece of work at a time; another may be sent meanwhile."""

    def __init__(self) -> None:
        # In a session of its own, so that an interrupt from the terminal reaches only who tells it what to do.
        self._process = subprocess.Popen(  # noqa: S603 - nothing of it comes from outside
            [sys.executable, "-c", _PROGRAM, *(entry for entry in map(str, sys.path) if "\0" not in entry)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._asking, self._answers = self._process.stdin, self._process.stdout
        self._asks, self._is_answered = threading.Lock(), threading.Lock()
        for pipe in (self._asking, self._answers):
            assert pipe is not None
            with suppress(AttributeError, OSError):  # not every system can, or lets us
                fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    @property
    def is_running(self) -> bool:
        """Whether it hasn't ended."""
        return self._process.poll() is None

    def wait(self) -> None:
        """Wait until it can be told something; what was printed before isn't an answer. Raises WorkerLost."""
        assert self._answers is not None
        while (line := self._answers.readline()) != _READY:
            if not line:
                raise WorkerLost(f"exit status {self._process.wait()}")

    def call(self, function: Callable[..., Result], *arguments: object) -> Result:
        """What a function that can be imported gives for `arguments`. Raises WorkerLost."""
        assert self._asking is not None
        assert self._answers is not None
        with self._asks:
            with self._ended_by_errors():
                pickle.dump((function, arguments), self._asking, pickle.HIGHEST_PROTOCOL)
                self._asking.flush()
            self._is_answered.acquire()  # once who asked before has an answer
        try:
            with self._ended_by_errors():
                return pickle.load(self._answers)  # noqa: S301 - it is a pipe of our own
        finally:
            self._is_answered.release()

    @contextmanager
    def _ended_by_errors(self) -> Generator[None]:
        """Whatever goes wrong, there is no answer, and what is left in the pipes is nobody's. Raises WorkerLost."""
        try:
            if not self.is_running:
                raise EOFError
            yield
        except Exception as error:
            self._process.kill()
            raise WorkerLost(f"exit status {self._process.wait()}, {type(error).__name__}: {error}") from error

    def end(self) -> None:
        """Let it end at once, whatever it does."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._asking, self._answers):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()


class Workers:
    """Some workers, which begin while the program goes on."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._threads = ThreadPoolExecutor(number * AT_ONCE)
        self._all: list[Worker] = []
        self._taking: SimpleQueue[Worker | None] = SimpleQueue()
        self._changing = threading.Lock()
        self._begun = threading.Semaphore(0)
        self.are_over = False
        """Whether they were ended, or one of them was lost."""
        with suppress(RuntimeError):  # no thread is to be had: then nothing can be submitted either
            for _ in range(number):
                self._threads.submit(self._begin)
            for _ in range(number * (AT_ONCE - 1)):  # nor is anything submitted to the others that nobody can do yet
                self._threads.submit(self._begun.acquire)

    @property
    def are_sound(self) -> bool:
        """Whether all of them can be told something, or will be able to."""
        with self._changing:
            return not self.are_over and all(worker.is_running for worker in self._all)

    def submit(self, job: Callable[[], Result]) -> "Future[Result]":
        """Do a job on a thread, of which there is one for each call: it may make one. Raises WorkerLost."""
        try:
            return self._threads.submit(job)
        except RuntimeError as error:  # no thread is to be had, as after the program's main thread has ended
            raise WorkerLost(str(error)) from error

    def call(self, function: Callable[..., Result], *arguments: object) -> Result:
        """What a function that can be imported gives for `arguments`, once a worker takes it. Raises WorkerLost."""
        worker = self._taking.get()
        if worker is None:
            self._taking.put(None)  # for the next who asks
            raise WorkerLost("they were ended")
        try:
            return worker.call(function, *arguments)
        finally:
            self._taking.put(worker)

    def lost(self, error: WorkerLost) -> None:
        """There are none from now on, as one was lost."""
        if not self.are_over:
            _log.warning("Worker processes are done without (%s); this process goes on alone.", error)
        self.end()

    def end(self) -> None:
        """Let them end at once; who waits for one is told that it was lost."""
        with self._changing:
            self.are_over = True
            for worker in self._all:
                worker.end()
            self._all.clear()
            self._taking.put(None)
            self._begun.release(self.number * (AT_ONCE - 1))
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _begin(self) -> None:
        """Begin one of the workers, and wait until it can be told something."""
        try:
            with self._changing:
                if self.are_over:
                    return
                worker = Worker()
                self._all.append(worker)
            worker.wait()
        except WorkerLost as error:
            self.lost(error)
        except Exception as error:  # whatever it is, nobody may wait for a worker that doesn't come
            self.lost(WorkerLost(f"{type(error).__name__}: {error}"))
        else:
            for _ in range(AT_ONCE):
                self._taking.put(worker)
            self._begun.release(AT_ONCE - 1)


class _Kept:
    """Workers that nobody uses now: to begin others takes as long as folding tens of thousands of events."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._workers: Workers | None = None
        self._until: threading.Timer | None = None
        self._inherited: list[Workers | None] = []

    def take(self, number: int) -> Workers:
        """So many workers: those that are kept, or others."""
        kept = self._change(None)
        if kept is not None and kept.number == number and kept.are_sound:
            return kept
        if kept is not None:
            kept.end()
        return Workers(number)

    def keep(self, workers: Workers) -> None:
        """Keep workers for a while, in place of others."""
        before = self._change(None if workers.are_over else workers)
        if before is not None:
            before.end()

    def end(self) -> None:
        """Let those that are kept end."""
        kept = self._change(None)
        if kept is not None:
            kept.end()

    def forget(self) -> None:
        """In a process that was forked: they are another's, and their threads aren't here."""
        self._inherited.append(self._workers)  # or its processes would be taken for ours, left running
        self._changing, self._workers, self._until = threading.Lock(), None, None

    def _change(self, workers: Workers | None) -> Workers | None:
        with self._changing:
            before, self._workers = self._workers, workers
            if self._until is not None:
                self._until.cancel()
                self._until = None
            if workers is not None:
                until = threading.Timer(KEPT_SECONDS, self.end)
                until.daemon = True
                try:
                    until.start()
                    self._until = until
                except RuntimeError:  # no thread is to be had, so nothing would end them
                    self._workers = None
                    workers.end()
            return before


_kept = _Kept()
atexit.register(_kept.end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_kept.forget)


@contextmanager
def workers(number: int) -> Generator[Workers]:
    """So many workers, which are kept for half a minute afterwards."""
    some = _kept.take(number)
    try:
        yield some
    finally:
        _kept.keep(some)


def end_kept() -> None:
    """Let the workers that are kept end now."""
    _kept.end()


def serve() -> None:
    """Be a worker."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anything prints isn't an answer
    answers.write(_READY)
    answers.flush()
    with suppress(EOFError, BrokenPipeError, pickle.UnpicklingError):  # who asks is gone
        while True:
            function, arguments = pickle.load(sys.stdin.buffer)  # noqa: S301 - it is a pipe of who began it
            pickle.dump(function(*arguments), answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()
