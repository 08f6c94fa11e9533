"""Errors of jobs and tasks."""

from .base import Conflict, NotFound


class JobNotFound(NotFound):
    """No job has this name."""

    code = "job_not_found"


class TaskNotFound(NotFound):
    """No task has this id, or it is too old."""

    code = "task_not_found"


class TaskInProgress(Conflict):
    """A task of the same kind is running, in this process or another one."""

    code = "task_in_progress"
