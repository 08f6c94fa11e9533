"""A job in a thread of its own: takes the lock, runs the job, and stores how the run went."""

import logging
import os
import platform
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from datetime import datetime, timedelta
from functools import partial

from msgspec.structs import replace

from ...domain.errors import TallybookError
from ...domain.timestamps import to_microseconds
from ..interruption import QueryInterrupted, interruptible
from .job import Job, JobRun, JobStopped, JobValue
from .store import JobError, JobState, JobStore

TAKEOVER = timedelta(seconds=5)
"""How often another process tries whether it can run a job that is running."""
_log = logging.getLogger("tallybook.jobs")


def describe_process() -> str:
    """Return which process this is."""
    return f"process {os.getpid()} on {platform.node()}"


def is_due(job: Job, state: JobState, now: int) -> bool:
    """Return whether a job has to run: at its time, at once if it is continuous, or if its last run was interrupted."""
    if state.has_unfinished_run or now >= state.next_run_at:
        return True
    if state.next_run_at > now + _microseconds(job.interval or job.retry):
        return True  # a clock was ahead when the last run began or ended
    return job.interval is not None and state.started_at is not None and state.error is None and (
        now >= state.started_at + _microseconds(job.interval)  # the interval was longer in the last run
    )  # fmt: skip


class RunningJob:
    """A thread that runs a job once, if no other process runs it and it is still due."""

    def __init__(self, job: Job, store: JobStore, clock: Callable[[], datetime]) -> None:
        self.job = job
        self.next_attempt = 0.0
        """When to try again, by the monotonic clock."""
        self.essential_error: Exception | None = None
        self._store = store
        self._clock = clock
        self._run = JobRun()
        self._state: JobState | None = None
        self._state_lock = threading.Lock()
        work = partial(copy_context().run, self._work)  # with the author of the thread that runs the jobs
        self._thread = threading.Thread(target=work, name=f"tallybook-job-{job.name}", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Return whether the thread has not ended."""
        return self._thread.is_alive()

    def request_stop(self) -> None:
        """Let the run end as soon as it can."""
        self._run.request_stop()

    def join(self) -> None:
        """Wait until the thread has ended."""
        self._thread.join()

    def renew_heartbeat(self, seconds: float) -> None:
        """Store that the job runs, and what it has reported, if that was stored before `seconds` or longer.

        A continuous job that has run for so long has recovered from the error of the run before.
        """
        with self._state_lock:
            state, now = self._state, self._now()
            if state is not None and now - state.heartbeat_at >= seconds * 1_000_000:
                error = None if self.job.interval is None else state.error
                result = dict(self._run.reported) or state.result
                self._write(replace(state, heartbeat_at=now, result=result, error=error))

    def _work(self) -> None:
        pause = timedelta()
        try:
            with self._store.try_lock(self.job.lock) as is_locked:
                state = self._store.get(self.job.name)
                if not is_locked:
                    pause = min(TAKEOVER, self.job.retry)
                elif state is not None and is_due(self.job, state, self._now()):
                    self._run_once(state)
        except TallybookError as error:  # of the ledger itself, so that nothing can be stored either
            _log.warning("The job %r can't be run now: %s", self.job.name, error)
            pause = self.job.retry
        self.next_attempt = time.monotonic() + pause.total_seconds()

    def _run_once(self, state: JobState) -> None:
        interval = self.job.interval
        started_at = self._now()
        with self._state_lock:
            self._write(
                replace(
                    state, interval_seconds=None if interval is None else interval.total_seconds(),
                    started_at=started_at, heartbeat_at=started_at, ended_at=None, runner=describe_process(),
                    runs=state.runs + 1, next_run_at=started_at + _microseconds(interval or timedelta()),
                )
            )  # fmt: skip
        result, error, is_stopped = self._result()
        with self._state_lock:
            assert self._state is not None
            ended_at = self._now()
            next_run_at = self._state.next_run_at
            if is_stopped:
                next_run_at = ended_at
            elif error is not None:
                next_run_at = ended_at + _microseconds(min(self.job.retry, interval or self.job.retry))
            self._write(
                replace(
                    self._state, ended_at=ended_at, error=error, next_run_at=max(next_run_at, started_at),
                    result=result or dict(self._run.reported) or self._state.result,
                    succeeded_at=self._state.succeeded_at if error is not None or is_stopped else ended_at,
                    failures=self._state.failures + (error is not None),
                )
            )  # fmt: skip
            self._state = None

    def _result(self) -> tuple[dict[str, JobValue] | None, JobError | None, bool]:
        """Run the job. Return its result, its error, and whether it was stopped before it was done."""
        try:
            with interruptible(self._run.interruption):
                return dict(self.job.run(self._run) or {}), None, False
        except (JobStopped, QueryInterrupted):
            return None, None, True
        except TallybookError as error:
            _log.warning("The job %r failed: %s: %s", self.job.name, error.code, error.message)
            failure: Exception = error
        except Exception as error:
            _log.exception("The job %r failed.", self.job.name)
            failure = error
        if self.job.is_essential:
            self.essential_error = failure
        return None, JobError.of(failure), False

    def _write(self, state: JobState) -> None:
        self._store.write(self.job.name, state)
        self._state = state

    def _now(self) -> int:
        return to_microseconds(self._clock())


def _microseconds(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1)
