"""A task in a thread of its own, and a second thread that stores its progress and looks whether it is cancelled."""

import logging
import threading
from collections.abc import Callable
from contextvars import copy_context
from datetime import datetime

from msgspec.structs import replace

from ...domain.errors import TallybookError
from ...domain.timestamps import to_microseconds
from ..interruption import QueryInterrupted, interruptible
from .job import JobResult, JobRun, JobStopped
from .store import JobError
from .task_store import TaskState, TaskStore

POLL_SECONDS = 0.5
"""How often progress is stored, and a cancellation is looked for."""
HEARTBEAT_SECONDS = 5.0
"""How often the state is stored without progress."""
_log = logging.getLogger("tallybook.jobs")


class TaskRun(JobRun):
    """One task: how it is asked to stop, and how it reports its progress."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = self.unit = ""
        self.done = 0
        self.total: int | None = None

    def start_stage(self, stage: str, unit: str) -> None:
        """Say what is done now, and what is counted."""
        self.stage, self.unit, self.done, self.total = stage, unit, 0, None

    def progress(self, done: int, total: int) -> None:
        """Report how much is done. Raise JobStopped if the task has to end."""
        self.done, self.total = done, total
        if self.stop.is_set():
            raise JobStopped


TaskWork = Callable[[TaskRun], JobResult | None]


class RunningTask:
    """The threads of a task. They hold the lock of its kind while it runs."""

    def __init__(self, state: TaskState, work: TaskWork, store: TaskStore, clock: Callable[[], datetime]) -> None:
        self._state = state
        self._work = work
        self._store = store
        self._clock = clock
        self._run = TaskRun()
        self._is_cancelled = False
        self._ended = threading.Event()
        self._locked: bool | None = None
        self._has_started = threading.Event()
        self._start_error: TallybookError | None = None
        context = copy_context()  # that of the caller, such as who acts
        self._thread = threading.Thread(
            target=context.run, args=(self._hold_lock,), name=f"tallybook-task-{state.kind}", daemon=True
        )

    def start(self) -> bool:
        """Start the task. Return False if another process runs a task of this kind. Raises LedgerUnavailable."""
        self._thread.start()
        self._has_started.wait()
        if self._start_error is not None:
            raise self._start_error
        return bool(self._locked)

    @property
    def is_alive(self) -> bool:
        """Return whether the task has not ended."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Interrupt the task, because its process ends, and wait until it has ended."""
        self._run.request_stop()
        self._thread.join()

    def _hold_lock(self) -> None:
        try:
            with self._store.try_lock(f"task {self._state.kind}") as self._locked:
                if self._locked:
                    self._store.write(self._state)
                    self._has_started.set()
                    self._run_watched()
        except TallybookError as error:  # of the ledger itself
            self._start_error = error
            _log.warning("The state of the task %s can't be stored: %s", self._state.id, error)
        finally:
            self._has_started.set()

    def _run_watched(self) -> None:
        watcher = threading.Thread(target=self._watch, name=f"{self._thread.name}-progress", daemon=True)
        watcher.start()
        result: JobResult | None = None
        error: JobError | None = None
        try:
            with interruptible(self._run.interruption):
                result, outcome = self._work(self._run), "succeeded"
        except (JobStopped, QueryInterrupted):
            outcome = "cancelled" if self._is_cancelled else "interrupted"
        except TallybookError as raised:
            outcome, error = "failed", JobError.of(raised)
        except Exception as raised:
            _log.exception("The task %s failed.", self._state.id)
            outcome, error = "failed", JobError.of(raised)
        self._ended.set()
        watcher.join()
        now = self._now()
        self._store.write(
            replace(
                self._with_progress(now), outcome=outcome, ended_at=now, error=error,
                result=None if result is None else dict(result),
            )
        )  # fmt: skip

    def _watch(self) -> None:
        """Store progress, and stop the task if it is cancelled, until it has ended."""
        while not self._ended.wait(POLL_SECONDS):
            try:
                if not self._is_cancelled and self._store.is_cancelled(self._state.id):
                    self._is_cancelled = True
                    self._run.request_stop()
                now = self._now()
                state = self._with_progress(now)
                is_silent = now - self._state.heartbeat_at >= HEARTBEAT_SECONDS * 1_000_000
                if is_silent or replace(state, heartbeat_at=self._state.heartbeat_at) != self._state:
                    self._store.write(state)
                    self._state = state
            except TallybookError as error:
                _log.warning("The progress of the task %s can't be stored: %s", self._state.id, error)

    def _with_progress(self, now: int) -> TaskState:
        run = self._run
        return replace(self._state, heartbeat_at=now, stage=run.stage, unit=run.unit, done=run.done, total=run.total)

    def _now(self) -> int:
        return to_microseconds(self._clock())
