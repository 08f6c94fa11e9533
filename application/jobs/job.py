"""A job: work that repeats at an interval, or that runs until it is stopped."""

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from ...domain.errors import InvalidParameter
from ...domain.text import abbreviated_repr
from ..interruption import Interruption

JobValue = str | int | float | bool | None
JobResult = Mapping[str, JobValue]
"""What a run of a job did, as a few named values."""

DEFAULT_RETRY = timedelta(minutes=1)
_NAME = re.compile(r"[a-z][a-z0-9-]{0,49}")


class JobStopped(Exception):
    """A run ends early, because its job was paused or its process ends. It continues with the next run."""


class JobRun:
    """One run of a job: how it is asked to stop, and how it reports."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        """Is set when the run has to end."""
        self.interruption = Interruption()
        self.reported: JobResult = {}
        self._callbacks: list[Callable[[], None]] = []

    def request_stop(self) -> None:
        """Let the run end as soon as it can."""
        if not self.stop.is_set():
            self.stop.set()
            self.interruption.interrupt()
            for callback in tuple(self._callbacks):
                callback()

    def call_on_stop(self, callback: Callable[[], None]) -> None:
        """Call a function when the run has to end, from another thread. It may be called twice."""
        self._callbacks.append(callback)
        if self.stop.is_set():
            callback()

    def report(self, result: JobResult) -> None:
        """Say what was done so far. It is shown while the job runs."""
        self.reported = result

    def progress(self, done: int, total: int) -> None:
        """Report how much is done, as the `progress` of a call of Metering. Raise JobStopped if the run has to end."""
        self.report({"done": done, "total": total})
        if self.stop.is_set():
            raise JobStopped


@dataclass(frozen=True, slots=True)
class Job:
    """Work that repeats by itself: `run` is called at each `interval`, in one process at a time.

    `run` takes a JobRun and returns what it did, or None. It must be safe to do twice, and to be killed at any moment.
    With the `interval` None the job is continuous: `run` does its work until `stop` of the JobRun is set, and is called
    again when it returns. After an error it is called again after `retry`, or after the interval if that is shorter. If
    an essential job fails, all jobs end, and the error is raised. Jobs with the same `lock`, by default the name, never
    run at the same time: one that is due waits until the other has ended.
    """

    name: str
    interval: timedelta | None
    run: Callable[[JobRun], JobResult | None]
    retry: timedelta = DEFAULT_RETRY
    is_essential: bool = False
    lock: str = ""

    def __post_init__(self) -> None:
        require_job_name(self.name)
        object.__setattr__(self, "lock", require_job_name(self.lock or self.name))
        if self.interval is not None and self.interval <= timedelta():
            raise InvalidParameter(f"The job {self.name!r} needs an interval above zero.", field="interval")


def require_job_name(name: object) -> str:
    """Return the name of a job. Raises InvalidParameter."""
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise InvalidParameter(
            f"The name of a job is up to 50 small letters, digits and '-', not {abbreviated_repr(name)}.",
            field="name",
            value=name,
        )
    return name
