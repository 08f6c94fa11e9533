"""Tasks: long calls that are started by a request, and go on after its response."""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .....domain.access_key import Scope
from .....domain.errors import InvalidParameter, TaskNotFound
from ....jobs.tasks import TaskView
from ..api_types import (
    Id,
    ListObject,
    ListParameters,
    Name,
    Parameters,
    UnixTime,
    from_unix,
    optional_unix,
    to_unix,
)
from ..authentication import require_scope
from ..errors import ApiError, invalid_parameter, missing_object
from ..ledgers import RequestContext
from ..operations import OperationRegistry
from ..pagination import list_response, resolve_cursors
from .closed_periods import require_event_name
from .jobs import JobErrorObject

URL = "/v1/billing/tasks"
operations = OperationRegistry("Tasks")
TaskKind = Literal["verification", "rebuild", "billing_run"]
SCOPES: Mapping[str, Scope] = {
    "billing_run": Scope.CLOSE,
    "rebuild": Scope.ADMIN,
    "verification": Scope.ADMIN,
}
"""The scope that starts or cancels a task of a type; `admin` for any other type."""
_MAX_TASKS = 10_000


class TaskObject(msgspec.Struct, kw_only=True):
    """A task: its progress, and its result or its error.

    In the current `stage`, `done` of `total` are done, counted in `unit`; `total` is null if it isn't known. A task is
    `interrupted` if its process ended or died; start it again, and a rebuild or a billing run continues.
    """

    id: str
    object: Literal["billing.task"] = "billing.task"
    by: str | None
    created: int
    done: int
    ended_at: int | None
    error: JobErrorObject | None
    livemode: bool
    result: dict[str, str | int | float | bool | None] | None
    runner: str
    stage: str
    status: Literal["running", "succeeded", "failed", "cancelled", "interrupted"]
    total: int | None
    type: str
    unit: str


class ListTasks(ListParameters, kw_only=True):
    """A list of tasks."""


class StartTask(Parameters, kw_only=True):
    """What to start. `start_time`, `end_time`, `meters` and `timezone` are those of a billing run."""

    end_time: UnixTime | None = None
    meters: Annotated[list[Id], Meta(min_length=1, max_length=1_000)] | None = None
    start_time: UnixTime | None = None
    timezone: Name = "UTC"
    type: TaskKind


@operations.get(URL)
def list_tasks(context: RequestContext[ListTasks]) -> ListObject[TaskObject]:
    """List the tasks of the last 30 days, the last one first."""
    tasks, params = context.ledger.metering.tasks, context.params
    after, before = resolve_cursors(params, lambda object_id: object_id)
    if before is not None:
        later = [task for task in tasks.list(limit=_MAX_TASKS) if task.id > before]
        page, has_more = later[-params.limit :], len(later) > params.limit
    else:
        found = tasks.list(limit=params.limit + 1, before=after)
        page, has_more = found[: params.limit], len(found) > params.limit
    return list_response([task_object(task, context.ledger.livemode) for task in page], URL, has_more=has_more)


@operations.get(URL + "/{id}")
def retrieve_task(context: RequestContext[Parameters]) -> TaskObject:
    """Retrieve a task with its progress. Any process of the server answers, also after the task's own died."""
    return task_object(_find(context), context.ledger.livemode)


@operations.post(URL, Scope.CLOSE)
def start_task(context: RequestContext[StartTask]) -> TaskObject:
    """Start a verification, a rebuild of the read models, or a billing run, and return at once.

    A billing run needs the scope `close`, the others `admin`. One task of a type runs at a time on a ledger.
    """
    params, ledger = context.params, context.ledger
    require_scope(context.access_key, SCOPES[params.type])
    tasks, by = ledger.metering.tasks, context.access_key.hint
    if params.type == "billing_run":
        if params.start_time is None or params.end_time is None:
            name = "start_time" if params.start_time is None else "end_time"
            raise invalid_parameter(name, f"A billing run needs {name}.", "parameter_missing")
        meters = None if params.meters is None else [require_event_name(ledger, meter) for meter in params.meters]
        start, end = from_unix(params.start_time), from_unix(params.end_time)
        task = tasks.run_billing(start, end, meters=meters, timezone=params.timezone, by=by)
    else:
        given = {"start_time": params.start_time, "end_time": params.end_time, "meters": params.meters}
        for name, value in given.items():
            if value is not None:
                raise ApiError(400, f"Only a billing run has {name}.", code="parameter_unknown", param=name)
        task = tasks.verify(by=by) if params.type == "verification" else tasks.rebuild(by=by)
    return task_object(task, ledger.livemode)


@operations.post(URL + "/{id}/cancel", Scope.CLOSE)
def cancel_task(context: RequestContext[Parameters]) -> TaskObject:
    """Cancel a task, in whichever process it runs. It ends within moments; one that has ended stays as it is.

    It needs the scope that starts such a task, and `admin` for an import.
    """
    task = _find(context)
    require_scope(context.access_key, SCOPES.get(task.kind.replace("-", "_"), Scope.ADMIN))
    return task_object(context.ledger.metering.tasks.cancel(task.id), context.ledger.livemode)


def _find(context: RequestContext[Parameters]) -> TaskView:
    object_id = context.path_parameters["id"]
    try:
        return context.ledger.metering.tasks.get(object_id)
    except (InvalidParameter, TaskNotFound):
        raise missing_object("task", object_id) from None


def task_object(task: TaskView, livemode: bool) -> TaskObject:
    """Return a task as it is in responses."""
    error = task.error
    return TaskObject(
        id=task.id,
        by=task.by,
        created=to_unix(task.started_at),
        done=task.done,
        ended_at=optional_unix(task.ended_at),
        error=error and JobErrorObject(code=error.code, message=error.message, param=error.field),
        livemode=livemode,
        result=None if task.result is None else dict(task.result),
        runner=task.runner,
        stage=task.stage,
        status=task.status.value,
        total=task.total,
        type=task.kind.replace("-", "_"),
        unit=task.unit,
    )
