"""The scheduler: starts each job when it is due, unless it is paused or another process runs it.

Any number of processes may have a scheduler with the same jobs. Before a run, a process takes the lock of the job: an
advisory lock on PostgreSQL, a lock file on SQLite. It is released if the process dies, and another one takes over.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime

from ...domain.errors import InvalidParameter, TallybookError
from ...domain.timestamps import to_microseconds
from .job import Job
from .running_job import RunningJob, is_due
from .store import JobState, JobStore

POLL_SECONDS = 1.0
"""How often a scheduler reads the states of the jobs."""
HEARTBEAT_SECONDS = 15.0
"""How often the state of a running job is stored."""
_log = logging.getLogger("tallybook.jobs")


class Scheduler:
    """Runs jobs until it is stopped."""

    def __init__(
        self,
        store: JobStore,
        jobs: Sequence[Job],
        clock: Callable[[], datetime],
        *,
        poll_seconds: float = POLL_SECONDS,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        names = [job.name for job in jobs]
        if len(set(names)) < len(names):
            raise InvalidParameter(f"Two jobs have the same name: {', '.join(sorted(names))}.", field="jobs")
        self._store = store
        self._jobs = tuple(jobs)
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._running: dict[str, RunningJob] = {}
        self._is_reachable = True

    def run(self, stop: threading.Event) -> None:
        """Run the jobs until `stop` is set, then stop those in progress. Raise the error of an essential job."""
        now = to_microseconds(self._clock())
        for job in self._jobs:
            interval_seconds = None if job.interval is None else job.interval.total_seconds()
            self._store.add(job.name, JobState(interval_seconds=interval_seconds, next_run_at=now))
        try:
            while not stop.is_set():
                self._start_due_jobs()
                for running in self._running.values():
                    if running.essential_error is not None:
                        raise running.essential_error
                stop.wait(self._poll_seconds)
        finally:
            for running in self._running.values():
                running.request_stop()
            for running in self._running.values():
                running.join()

    def _start_due_jobs(self) -> None:
        """Start the jobs that are due, and stop those that were paused. If the ledger is unavailable, say so once."""
        try:
            states, pauses = self._store.all(), self._store.pauses()
            for job in self._jobs:
                self._advance(job, states.get(job.name), is_paused=job.name in pauses)
        except TallybookError as error:
            if self._is_reachable:
                _log.warning("No jobs are started until the ledger is available: %s", error)
            self._is_reachable = False
        else:
            self._is_reachable = True

    def _advance(self, job: Job, state: JobState | None, *, is_paused: bool) -> None:
        running = self._running.get(job.name)
        if running is not None and running.is_alive:
            if is_paused:
                running.request_stop()
            running.renew_heartbeat(self._heartbeat_seconds)
        elif running is None or (running.essential_error is None and time.monotonic() >= running.next_attempt):
            if state is None:  # it was deleted
                state = JobState(interval_seconds=None, next_run_at=0)
                self._store.add(job.name, state)
            is_lock_held = any(other.is_alive and other.job.lock == job.lock for other in self._running.values())
            if not is_paused and not is_lock_held and is_due(job, state, to_microseconds(self._clock())):
                self._running[job.name] = RunningJob(job, self._store, self._clock)
