"""The states of tasks, in the key-value store, so that each process on the ledger sees them.

The process that runs a task writes its state. That somebody cancels it is another entry, which anybody may write.
"""

from contextlib import suppress

import msgspec

from ..storage.key_value import EntryExists, KeyValueEntry, KeyValueStore
from .job import JobValue
from .store import JobError

STATE_KIND, CANCEL_KIND = "task", "task_cancel"
_DELETED_PER_START = 1_000


class TaskState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A task and how far it is. Times are microseconds since 1970. `outcome` is None while it runs."""

    id: str
    kind: str
    started_at: int
    heartbeat_at: int
    runner: str
    by: str | None = None
    stage: str = ""
    unit: str = ""
    done: int = 0
    total: int | None = None
    outcome: str | None = None
    ended_at: int | None = None
    result: dict[str, JobValue] | None = None
    error: JobError | None = None


_decode = msgspec.json.Decoder(TaskState).decode
_encode = msgspec.json.Encoder().encode


class TaskStore:
    """The states of the tasks of a ledger, by their ids, which sort by time."""

    def __init__(self, key_values: KeyValueStore) -> None:
        self._key_values = key_values
        self.try_lock = key_values.try_lock

    def write(self, state: TaskState) -> None:
        """Store the state of a task. Only the process that runs it does so."""
        self._key_values.apply(upsert=[KeyValueEntry(STATE_KIND, state.id, state.started_at, _encode(state))])

    def get(self, task_id: str) -> TaskState | None:
        """Return the state of a task."""
        entry = self._key_values.get(STATE_KIND, [task_id]).get(task_id)
        return None if entry is None else _decode(entry.body)

    def newest(self, limit: int, before: str | None = None) -> list[TaskState]:
        """Return up to `limit` tasks, the last one first, or those before a task."""
        entries = self._key_values.scan(STATE_KIND, after=before, limit=limit, newest_first=True)
        return [_decode(entry.body) for entry in entries]

    def cancel(self, task_id: str, at: int) -> None:
        """Store that somebody cancels a task."""
        with suppress(EntryExists):
            self._key_values.apply(insert=[KeyValueEntry(CANCEL_KIND, task_id, at, b"")])

    def is_cancelled(self, task_id: str) -> bool:
        """Return whether somebody cancels a task."""
        return task_id in self._key_values.get(CANCEL_KIND, [task_id])

    def delete_before(self, at: int) -> None:
        """Delete the tasks that started before a time."""
        for kind in (STATE_KIND, CANCEL_KIND):
            self._key_values.delete_due_before(kind, at, _DELETED_PER_START)
