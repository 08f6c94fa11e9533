"""The tasks that a page shows: the one that it was started with, or the newest of a kind."""

from ....domain.errors import TaskNotFound
from ...jobs.tasks import TaskView
from ..formatting import format_number
from .registry import ViewContext


def task_of_page(context: ViewContext) -> TaskView | None:
    """Return the task that the parameter `task` names; None if there is none, or no longer."""
    task_id = context.params.optional("task")
    if task_id is None:
        return None
    try:
        return context.metering.tasks.get(task_id)
    except TaskNotFound:
        return None


def newest_task(context: ViewContext, kind: str) -> TaskView | None:
    """Return the newest task of a kind; None if none was started lately."""
    return next((task for task in context.metering.tasks.list() if task.kind == kind), None)


def progress_text(task: TaskView) -> str:
    """Return how far a running task is."""
    total = "" if task.total is None else f" of {format_number(task.total)}"
    stage = f": {task.stage}" if task.stage else ""
    return f"{format_number(task.done)}{total} {task.unit}{stage}"
