"""Long work that a page starts. Its progress is in the key-value store: a reload and other workers see it.

The work goes on in a thread of the process that started it. If that ends, the task is found to be interrupted.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from ....domain.errors import TallybookError
from ....domain.timestamps import from_microseconds, to_microseconds
from ....projections.projector import Progress
from ...storage.key_value import KeyValueEntry
from ..http.errors import ApiError
from ..http.ledgers import ServedLedger, exclusive_job

TASK_KIND = "console task"
HEARTBEAT = timedelta(seconds=1)
INTERRUPTED_AFTER = timedelta(minutes=2)
"""A running task without progress for so long is interrupted: its process has ended."""
_log = logging.getLogger("tallybook.server")

State = Literal["running", "finished", "failed", "interrupted"]
Report = Callable[[Progress], None]
Work = Callable[[Report], dict[str, str]]
"""Does the work, reports its progress, and returns the result to show."""


class Task(msgspec.Struct, kw_only=True, frozen=True):
    """A task: who started it and when, how many of how many events are done, and its result or error."""

    name: str
    by: str
    started: datetime
    state: State = "running"
    done: int = 0
    total: int = 0
    result: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    error: str = ""

    @property
    def percent(self) -> int:
        """The part that is done."""
        return min(100 * self.done // self.total, 100) if self.total else 0


def find_task(ledger: ServedLedger, name: str) -> Task | None:
    """Return the task with a name, as it is now; None if there was none."""
    entry = ledger.key_values.get(TASK_KIND, [name]).get(name)
    if entry is None:
        return None
    task = msgspec.json.decode(entry.body, type=Task)
    is_silent = ledger.now() - from_microseconds(entry.at) > INTERRUPTED_AFTER
    return msgspec.structs.replace(task, state="interrupted") if task.state == "running" and is_silent else task


def start_task(ledger: ServedLedger, name: str, by: str, work: Work) -> None:
    """Start a task in a thread. Raises ApiError if it is running already."""
    running = find_task(ledger, name)
    if running is not None and running.state == "running":
        raise ApiError(409, f"It was started by {running.by} already and is still running.", code="task_running")
    task = Task(name=name, by=by, started=ledger.now())
    _store(ledger, task)
    threading.Thread(target=_run, args=(ledger, task, work), name=f"tallybook-{name}"[:15], daemon=True).start()


def _run(ledger: ServedLedger, task: Task, work: Work) -> None:
    last = ledger.now()

    def report(progress: Progress) -> None:
        nonlocal last, task
        if ledger.now() - last >= HEARTBEAT:
            last = ledger.now()
            task = msgspec.structs.replace(task, done=progress.position, total=progress.head)
            _store(ledger, task)

    try:
        with exclusive_job(ledger):
            result = work(report)
        task = msgspec.structs.replace(task, state="finished", result=result)
    except (TallybookError, ApiError) as error:
        message = error.message if isinstance(error, TallybookError) else error.error.message
        task = msgspec.structs.replace(task, state="failed", error=message)
    except Exception:
        _log.exception("The task %s failed.", task.name)
        task = msgspec.structs.replace(task, state="failed", error="Something went wrong: see the server's log.")
    with suppress(TallybookError):  # if the ledger is closed, because the server shuts down, the task is interrupted
        _store(ledger, task)


def _store(ledger: ServedLedger, task: Task) -> None:
    at = to_microseconds(ledger.now())
    ledger.key_values.apply(upsert=[KeyValueEntry(TASK_KIND, task.name, at, msgspec.json.encode(task))])
