"""A job as every process on the ledger sees it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ...domain.timestamps import from_microseconds
from .job import JobValue
from .store import JobError, JobState, Pause

LOST_SECONDS = 60
"""A run whose heartbeat is older was interrupted: its process died, or can't reach the ledger."""
OVERDUE_SECONDS = 60
"""A job that starts this much later than planned is run by no process."""


class JobStatus(StrEnum):
    """What a job does now."""

    RUNNING = "running"
    WAITING = "waiting"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    OVERDUE = "overdue"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class JobFailure:
    """The error that ended the last run of a job."""

    code: str
    message: str
    field: str | None


@dataclass(frozen=True, slots=True)
class JobView:
    """A job: its last run, and when it runs next. Times are in UTC.

    `interval_seconds` is None if it runs continuously. A job has `failed` if its last run did, and it is tried again at
    `next_run_at`, which a continuous job has only then. It is `interrupted` if the process died that ran it, and
    `overdue` if no process runs it. `runner` is the process of the last run, `result` what that did, `runs` and
    `failures` are counted from the first on.
    """

    name: str
    status: JobStatus
    interval_seconds: float | None
    started_at: datetime | None
    ended_at: datetime | None
    succeeded_at: datetime | None
    next_run_at: datetime | None
    runner: str | None
    result: Mapping[str, JobValue] | None
    error: JobFailure | None
    runs: int
    failures: int
    paused_at: datetime | None
    paused_by: str | None

    @classmethod
    def from_state(cls, name: str, state: JobState, pause: Pause | None, now: int) -> "JobView":
        """Return the view of a job at a time."""
        status = _status(state, now, is_paused=pause is not None)
        is_at_interval = state.interval_seconds is not None and status in (JobStatus.WAITING, JobStatus.OVERDUE)
        has_next_run = is_at_interval or status is JobStatus.FAILED
        return cls(
            name=name,
            status=status,
            interval_seconds=state.interval_seconds,
            started_at=_optional_time(state.started_at),
            ended_at=_optional_time(state.ended_at),
            succeeded_at=_optional_time(state.succeeded_at),
            next_run_at=from_microseconds(state.next_run_at) if has_next_run else None,
            runner=state.runner,
            result=state.result,
            error=_failure(state.error),
            runs=state.runs,
            failures=state.failures,
            paused_at=None if pause is None else from_microseconds(pause.at),
            paused_by=None if pause is None else pause.by,
        )


def _status(state: JobState, now: int, *, is_paused: bool) -> JobStatus:
    if state.has_unfinished_run and now - state.heartbeat_at <= LOST_SECONDS * 1_000_000:
        return JobStatus.RUNNING
    if is_paused:
        return JobStatus.PAUSED
    if state.has_unfinished_run:
        return JobStatus.INTERRUPTED
    if now - state.next_run_at > OVERDUE_SECONDS * 1_000_000:
        return JobStatus.OVERDUE
    return JobStatus.WAITING if state.error is None else JobStatus.FAILED


def _optional_time(at: int | None) -> datetime | None:
    return None if at is None else from_microseconds(at)


def _failure(error: JobError | None) -> JobFailure | None:
    return None if error is None else JobFailure(error.code, error.message, error.field)
