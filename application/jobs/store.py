"""The states of jobs, in the key-value store, so that each process on the ledger sees them.

The process that runs a job writes its state. Whether a job is paused is another entry, which anybody may write.
"""

from contextlib import AbstractContextManager, suppress

import msgspec

from ...domain.errors import TallybookError
from ..storage.key_value import EntryExists, KeyValueEntry, KeyValueStore
from .job import JobValue

STATE_KIND, PAUSE_KIND = "job", "job_pause"
_MAX_JOBS = 1_000


class JobError(msgspec.Struct, frozen=True):
    """The error that ended a run."""

    code: str
    message: str
    field: str | None = None

    @classmethod
    def of(cls, error: Exception) -> "JobError":
        """Return what is stored, and shown to every key that may read.

        The message of an unexpected error may have paths and secrets: it is in the log alone.
        """
        if isinstance(error, TallybookError):
            return cls(error.code, error.message, error.field)
        return cls("internal_error", f"{type(error).__name__}: the log of the process has the details.")


class JobState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The last run of a job, and when the next one starts. Times are microseconds since 1970.

    While a job runs, `ended_at` is None, and `heartbeat_at` is renewed by its process, which is the `runner`.
    """

    interval_seconds: float | None
    next_run_at: int
    started_at: int | None = None
    heartbeat_at: int = 0
    ended_at: int | None = None
    succeeded_at: int | None = None
    runner: str | None = None
    result: dict[str, JobValue] | None = None
    error: JobError | None = None
    runs: int = 0
    failures: int = 0

    @property
    def has_unfinished_run(self) -> bool:
        """Return whether a run was started and not ended: it goes on, or its process died."""
        return self.started_at is not None and self.ended_at is None


class Pause(msgspec.Struct, frozen=True):
    """When and by whom a job was paused."""

    at: int
    by: str | None = None


_decode_state = msgspec.json.Decoder(JobState).decode
_decode_pause = msgspec.json.Decoder(Pause).decode
_encode = msgspec.json.Encoder().encode


class JobStore:
    """The states of the jobs of a ledger."""

    def __init__(self, key_values: KeyValueStore) -> None:
        self._key_values = key_values

    def add(self, name: str, state: JobState) -> None:
        """Store the state of a job that never ran; do nothing if it has one."""
        with suppress(EntryExists):
            self._key_values.apply(insert=[KeyValueEntry(STATE_KIND, name, 0, _encode(state))])

    def get(self, name: str) -> JobState | None:
        """Return the state of a job."""
        entry = self._key_values.get(STATE_KIND, [name]).get(name)
        return None if entry is None else _decode_state(entry.body)

    def all(self) -> dict[str, JobState]:
        """Return the states of all jobs by name, in order."""
        return {entry.key: _decode_state(entry.body) for entry in self._key_values.scan(STATE_KIND, limit=_MAX_JOBS)}

    def write(self, name: str, state: JobState) -> None:
        """Replace the state of a job. Only the process that runs it does so."""
        self._key_values.apply(upsert=[KeyValueEntry(STATE_KIND, name, 0, _encode(state))])

    def pauses(self) -> dict[str, Pause]:
        """Return the jobs that are paused."""
        return {entry.key: _decode_pause(entry.body) for entry in self._key_values.scan(PAUSE_KIND, limit=_MAX_JOBS)}

    def pause(self, name: str, pause: Pause) -> None:
        """Pause a job; do nothing if it is paused already."""
        with suppress(EntryExists):
            self._key_values.apply(insert=[KeyValueEntry(PAUSE_KIND, name, pause.at, _encode(pause))])

    def resume(self, name: str) -> None:
        """Resume a job that may be paused."""
        self._key_values.apply(delete=[(PAUSE_KIND, name)])

    def delete(self, name: str) -> None:
        """Delete the state of a job."""
        self._key_values.apply(delete=[(STATE_KIND, name), (PAUSE_KIND, name)])

    def try_lock(self, lock: str) -> AbstractContextManager[bool]:
        """Try to take the lock under which a job runs. Yield whether this process holds it."""
        return self._key_values.try_lock(f"job {lock}")
