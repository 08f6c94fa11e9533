"""Tasks: long calls in the background, with progress that every process sees: `metering.tasks`."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from ...domain.errors import TaskInProgress, TaskNotFound
from ...domain.timestamps import ensure_utc, from_microseconds, to_microseconds
from ...projections.projector import Progress
from ..clock import utc_now
from ..commands.generations import GenerationCommands
from ..commands.periods import PeriodCommands
from ..ledger.ledger import Ledger
from ..queries.verification import Verifier
from ..read_models.generations import rules_after_change
from ..uuid7 import uuid7
from ..validation import optional_note, require_event_name, require_int, require_text
from .job import JobResult, JobValue, require_job_name
from .running_job import describe_process
from .running_task import RunningTask, TaskRun, TaskWork
from .task_store import TaskState, TaskStore
from .views import JobFailure

RETENTION = timedelta(days=30)
"""How long tasks are stored. They are deleted when another one is started."""
LOST_SECONDS = 30
"""A task whose heartbeat is older was interrupted: its process died."""


class TaskStatus(StrEnum):
    """What a task does, or how it ended."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task: its progress, and its result or its error. Times are in UTC.

    In the current `stage`, `done` of `total` are done, counted in `unit`; `total` is None if it isn't known. A task is
    `interrupted` if its process ended or died; start it again, and a rebuild or a billing run continues.
    """

    id: str
    kind: str
    status: TaskStatus
    stage: str
    unit: str
    done: int
    total: int | None
    result: Mapping[str, JobValue] | None
    error: JobFailure | None
    by: str | None
    runner: str
    started_at: datetime
    ended_at: datetime | None

    @classmethod
    def from_state(cls, state: TaskState, now: int) -> "TaskView":
        """Return the view of a task at a time."""
        is_lost = now - state.heartbeat_at > LOST_SECONDS * 1_000_000
        status = TaskStatus(state.outcome or (TaskStatus.INTERRUPTED if is_lost else TaskStatus.RUNNING))
        error = state.error
        return cls(
            state.id, state.kind, status, state.stage, state.unit, state.done, state.total, state.result,
            None if error is None else JobFailure(error.code, error.message, error.field), state.by, state.runner,
            from_microseconds(state.started_at),
            None if state.ended_at is None else from_microseconds(state.ended_at),
        )  # fmt: skip


class TaskService:
    """Starts tasks, and shows those that any process runs on the ledger. One of a kind runs at a time."""

    def __init__(
        self,
        ledger: Ledger,
        verifier: Verifier,
        generations: GenerationCommands,
        periods: PeriodCommands,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._ledger = ledger
        self._verifier = verifier
        self._generations = generations
        self._periods = periods
        self._clock = clock
        self._running: list[RunningTask] = []
        self._lock = threading.Lock()

    def start(self, kind: str, work: TaskWork, *, by: str | None = None) -> TaskView:
        """Start `work` in a thread of this process, and return the task.

        `work` takes a TaskRun, to which it reports its progress, and returns its result as a few named values, or None.
        A long one calls `progress` of the TaskRun often, which raises an error if the task is cancelled. Raises
        TaskInProgress if a task of this kind runs in any process.
        """
        store, now = self._store(), to_microseconds(self._clock())
        store.delete_before(now - RETENTION // timedelta(microseconds=1))
        state = TaskState(
            id=uuid7().hex, kind=require_job_name(kind), started_at=now, heartbeat_at=now, runner=describe_process(),
            by=optional_note(by, "by"),
        )  # fmt: skip
        task = RunningTask(state, work, store, self._clock)
        if not task.start():
            raise TaskInProgress(f"A task of the kind {kind!r} is running. Wait until it has ended, or cancel it.")
        with self._lock:
            self._running = [*(running for running in self._running if running.is_alive), task]
        return self.get(state.id)

    def verify(self, *, by: str | None = None) -> TaskView:
        """Start the task `verification`, which does what `Metering.verify` does."""

        def work(run: TaskRun) -> JobResult:
            verification = self._verifier.verify(_projection_progress(run, "projecting"))
            differing = [table.table for table in verification.tables if not table.is_equal]
            return {
                "is_equal": verification.is_equal,
                "position": verification.position,
                "generation": verification.generation,
                "closed_periods": verification.closed_periods,
                "differing_periods": len(verification.differing_periods),
                "differing_runs": len({difference.run for difference in verification.differing_runs}),
                "differing_tables": ", ".join(differing),
                "missing_triggers": ", ".join(verification.missing_triggers),
            }

        return self.start("verification", work, by=by)

    def rebuild(self, *, rules: Mapping[str, Mapping[str, object]] | None = None, by: str | None = None) -> TaskView:
        """Start the task `rebuild`, which does what `generations.rebuild` does."""

        def work(run: TaskRun) -> JobResult:
            built = self._generations.rebuild(rules=rules, progress=_projection_progress(run, "projecting"))
            return {"generation": built.number, "state": str(built.state), "position": built.position}

        return self.start("rebuild", work, by=by)

    def build_candidate(
        self,
        event_name: str,
        rules: Mapping[str, object],
        *,
        effective_from: datetime | None = None,
        by: str | None = None,
    ) -> TaskView:
        """Start a task `rebuild`, which does what `generations.build_candidate` does.

        Raises InvalidParameter, InvalidEffectiveFrom or MeterNotFound if that would reject the arguments.
        """
        effective_from = None if effective_from is None else ensure_utc(effective_from, "effective_from")
        rules_after_change(self._ledger.meter(require_event_name(event_name)), rules, effective_from)

        def work(run: TaskRun) -> JobResult:
            built = self._generations.build_candidate(
                event_name, rules, effective_from=effective_from, progress=_projection_progress(run, "projecting")
            )
            return {"generation": built.number, "state": str(built.state), "position": built.position}

        return self.start("rebuild", work, by=by)

    def run_billing(
        self,
        start: datetime,
        end: datetime,
        *,
        meters: Sequence[str] | None = None,
        timezone: str = "UTC",
        group_by: Sequence[str] = (),
        by: str | None = None,
    ) -> TaskView:
        """Start the task `billing-run`, which does what `periods.run` does."""

        def work(run: TaskRun) -> JobResult:
            def report(done: int, total: int, event_name: str) -> None:
                run.stage = event_name
                run.progress(done, total)

            run.start_stage("starting", "customers")
            closed = self._periods.run(
                start, end, meters=meters, timezone=timezone, group_by=group_by, by=by, progress=report
            )
            return {
                "number": closed.run.number,
                "customers": closed.run.customers,
                "was_closed": closed.was_closed,
                "differences": closed.difference_count,
            }

        return self.start("billing-run", work, by=by)

    def get(self, task_id: str) -> TaskView:
        """Return a task. Raises TaskNotFound."""
        state = self._store().get(require_text(task_id, "id", 100))
        if state is None:
            raise TaskNotFound(f"There is no task {task_id!r}.", field="id", value=task_id)
        return TaskView.from_state(state, to_microseconds(self._clock()))

    def cancel(self, task_id: str) -> TaskView:
        """Cancel a task, in whichever process it runs. It ends within moments, or has ended. Raises TaskNotFound."""
        task, now = self.get(task_id), to_microseconds(self._clock())
        if task.status is TaskStatus.RUNNING:
            self._store().cancel(task.id, now)
        return task

    def list(self, *, limit: int = 100, before: str | None = None) -> list[TaskView]:
        """Return the tasks of the last 30 days, the last one first; those before the task with the id `before`."""
        limit, now = require_int(limit, "limit", 1, 10_000), to_microseconds(self._clock())
        before = None if before is None else require_text(before, "before", 100)
        return [TaskView.from_state(state, now) for state in self._store().newest(limit, before)]

    def close(self) -> None:
        """Interrupt the tasks of this process, and wait until they have ended."""
        with self._lock:
            running, self._running = self._running, []
        for task in running:
            task.stop()

    def _store(self) -> TaskStore:
        return TaskStore(self._ledger.key_value_store())


def _projection_progress(run: TaskRun, stage: str) -> Callable[[Progress], None]:
    run.start_stage(stage, "events")
    return lambda progress: run.progress(progress.position, progress.head)
