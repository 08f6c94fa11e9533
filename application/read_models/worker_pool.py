"""Pools of worker processes, which fold and count pages on other CPU cores.

A worker is a separate Python process. It receives calls on its standard input and ends when that ends, so it never
outlives a parent that was killed.
"""

import atexit
import logging
import os
import pickle
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from ...projections.ports import WorkerLost
from ..python_process import kill, max_processes, start_python
from .worker_main import READY_MESSAGE

Result = TypeVar("Result")
DEFAULT_MAX_PROCESSES = 4
"""The process that collects the results can't keep up with more workers."""
PARALLEL_THRESHOLD_EVENTS = 250_000
"""For fewer events, starting workers takes longer than they save."""
PIPELINE_DEPTH = 2
"""Calls that a worker has at most: one that it runs, and the next one, so that it never waits for it."""
IDLE_TIMEOUT_SECONDS = 30.0
"""How long an unused pool stays alive, because a rebuild is often followed by a comparison or a verification."""
_PROGRAM = Path(__file__).with_name("worker_main.py")

_log = logging.getLogger("tallybook")


def available_workers() -> int:
    """Return how many workers may be started: one for each core but one; 0 if Python can't be started."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    process_count = max_processes()
    if process_count is None:
        process_count = min(cores, DEFAULT_MAX_PROCESSES)
    return max(process_count - 1, 0)


class Worker:
    """One worker process. It runs one call at a time; the next call may be sent meanwhile."""

    def __init__(self) -> None:
        self._process = start_python(_PROGRAM)
        self._requests, self._responses = self._process.stdin, self._process.stdout
        self._request_lock, self._response_lock = threading.Lock(), threading.Lock()

    @property
    def is_running(self) -> bool:
        """Whether the process hasn't ended."""
        return self._process.poll() is None

    def wait_until_ready(self) -> None:
        """Wait until the worker accepts calls, and skip anything printed before. Raises WorkerLost."""
        assert self._responses is not None
        while (line := self._responses.readline()) != READY_MESSAGE:
            if not line:
                raise WorkerLost(f"exit status {self._process.wait()}")

    def call(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Return the result of an importable function. Raises WorkerLost."""
        assert self._requests is not None
        assert self._responses is not None
        with self._request_lock:
            with self._translate_errors():
                pickle.dump((function, arguments), self._requests, pickle.HIGHEST_PROTOCOL)
                self._requests.flush()
            self._response_lock.acquire()  # waits until the caller before has read its result
        try:
            with self._translate_errors():
                return pickle.load(self._responses)  # noqa: S301 - the pipe of our own process
        finally:
            self._response_lock.release()

    @contextmanager
    def _translate_errors(self) -> Generator[None]:
        """Kill the worker and raise WorkerLost on any error: the rest of its pipes belongs to no call."""
        try:
            if not self.is_running:
                raise EOFError
            yield
        except Exception as error:
            self._process.kill()
            raise WorkerLost(f"exit status {self._process.wait()}, {type(error).__name__}: {error}") from error

    def terminate(self) -> None:
        """Kill the process, even during a call."""
        kill(self._process)


class WorkerPool:
    """A fixed number of workers, which start in the background."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._executor = ThreadPoolExecutor(size * PIPELINE_DEPTH)
        self._workers: list[Worker] = []
        self._available: SimpleQueue[Worker | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._started = threading.Semaphore(0)
        self.is_closed = False
        """Whether the pool was terminated, or one of its workers was lost."""
        with suppress(RuntimeError):  # no thread can be started: then `submit` fails too
            for _ in range(size):
                self._executor.submit(self._start_worker)
            for _ in range(size * (PIPELINE_DEPTH - 1)):  # block the other threads until a worker is ready
                self._executor.submit(self._started.acquire)

    @property
    def is_healthy(self) -> bool:
        """Whether all workers run or are starting."""
        with self._lock:
            return not self.is_closed and all(worker.is_running for worker in self._workers)

    def submit(self, job: Callable[[], Result]) -> "Future[Result]":
        """Run a job on a thread of the pool, where it may use `call`. Raises WorkerLost."""
        try:
            return self._executor.submit(job)
        except RuntimeError as error:  # no thread can be started, for example after the main thread has ended
            raise WorkerLost(str(error)) from error

    def call(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Return the result of an importable function, run by the next free worker. Raises WorkerLost."""
        worker = self._available.get()
        if worker is None:
            self._available.put(None)  # for the next caller
            raise WorkerLost("the workers were terminated")
        try:
            return worker.call(function, *arguments)
        finally:
            self._available.put(worker)

    def mark_lost(self, error: WorkerLost) -> None:
        """Log that a worker was lost, and terminate the pool."""
        if not self.is_closed:
            _log.warning("A worker process was lost (%s); this process goes on without workers.", error)
        self.terminate()

    def terminate(self) -> None:
        """Kill all workers; calls in progress raise WorkerLost."""
        with self._lock:
            self.is_closed = True
            for worker in self._workers:
                worker.terminate()
            self._workers.clear()
            self._available.put(None)
            self._started.release(self.size * (PIPELINE_DEPTH - 1))
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _start_worker(self) -> None:
        """Start one worker and wait until it is ready."""
        try:
            with self._lock:
                if self.is_closed:
                    return
                worker = Worker()
                self._workers.append(worker)
            worker.wait_until_ready()
        except WorkerLost as error:
            self.mark_lost(error)
        except Exception as error:  # any error must end the pool, or callers would wait forever
            self.mark_lost(WorkerLost(f"{type(error).__name__}: {error}"))
        else:
            for _ in range(PIPELINE_DEPTH):
                self._available.put(worker)
            self._started.release(PIPELINE_DEPTH - 1)


class _IdlePool:
    """An unused pool, held for reuse: starting workers takes as long as folding tens of thousands of events."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: WorkerPool | None = None
        self._timer: threading.Timer | None = None
        self._inherited: list[WorkerPool | None] = []

    def acquire(self, size: int) -> WorkerPool:
        """Return the idle pool if it has this size and is healthy, or a new one."""
        pool = self._swap(None)
        if pool is not None and pool.size == size and pool.is_healthy:
            return pool
        if pool is not None:
            pool.terminate()
        return WorkerPool(size)

    def release(self, pool: WorkerPool) -> None:
        """Hold a pool until the idle timeout, and terminate the one held before."""
        previous = self._swap(None if pool.is_closed else pool)
        if previous is not None:
            previous.terminate()

    def terminate(self) -> None:
        """Terminate the idle pool."""
        pool = self._swap(None)
        if pool is not None:
            pool.terminate()

    def forget_after_fork(self) -> None:
        """Forget the pool in a forked process: its workers belong to the parent, and its threads don't exist here."""
        self._inherited.append(self._pool)  # a reference, or Popen would report processes that still run
        self._lock, self._pool, self._timer = threading.Lock(), None, None

    def _swap(self, pool: WorkerPool | None) -> WorkerPool | None:
        with self._lock:
            previous, self._pool = self._pool, pool
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if pool is not None:
                timer = threading.Timer(IDLE_TIMEOUT_SECONDS, self.terminate)
                timer.daemon = True
                try:
                    timer.start()
                    self._timer = timer
                except RuntimeError:  # no thread can be started, so nothing would end the pool
                    self._pool = None
                    pool.terminate()
            return previous


_idle_pool = _IdlePool()
atexit.register(_idle_pool.terminate)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle_pool.forget_after_fork)


@contextmanager
def worker_pool(size: int) -> Generator[WorkerPool]:
    """Provide a pool of `size` workers; it stays alive for the idle timeout afterwards."""
    pool = _idle_pool.acquire(size)
    try:
        yield pool
    finally:
        _idle_pool.release(pool)


def shutdown_idle_workers() -> None:
    """Terminate the idle pool now."""
    _idle_pool.terminate()


class WorkerProcesses:
    """Provides worker processes to projections, if there are enough events."""

    def __init__(self, min_events: int = PARALLEL_THRESHOLD_EVENTS) -> None:
        self.min_events = min_events

    def size_for(self, events: int) -> int:
        """Return how many workers to start for this many events; 0 for fewer than `min_events`."""
        return available_workers() if events >= self.min_events else 0

    def pool(self, size: int) -> AbstractContextManager[WorkerPool]:
        """Provide a pool of `size` workers."""
        return worker_pool(size)


WORKER_PROCESSES = WorkerProcesses()
