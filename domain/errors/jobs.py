"""Errors of jobs."""

from .base import NotFound


class JobNotFound(NotFound):
    """No job has this name."""

    code = "job_not_found"
