"""Whether jobs do their work: the age of the last checkpoint and of the last object import, in /readyz and /metrics."""

from datetime import timedelta

import msgspec

from ....domain.errors import JobNotFound
from ...jobs.builtin import CHECKPOINT_JOB
from ...metering import Metering
from .ledgers import ServedLedger


class JobHealth(msgspec.Struct, omit_defaults=True):
    """How a job at an interval is: `ready`, `overdue`, or `failed` with its last run; and how long ago one succeeded.

    A server whose jobs are late is ready, because it can record.
    """

    status: str
    age_seconds: float | None = None


def check_job(metering: Metering, name: str, allowed_age_seconds: float) -> JobHealth:
    """Return the health of a job, which is overdue if its last success is older than allowed."""
    try:
        job = metering.jobs.get(name)
    except JobNotFound:  # the server has just started
        return JobHealth("overdue")
    age = None if job.succeeded_at is None else max(metering.jobs.now() - job.succeeded_at, timedelta())
    age_seconds = None if age is None else age.total_seconds()
    if job.error is not None:
        return JobHealth("failed", age_seconds)
    is_overdue = age_seconds is None or age_seconds > allowed_age_seconds
    return JobHealth("overdue" if is_overdue else "ready", age_seconds)


def check_checkpoints(ledger: ServedLedger) -> JobHealth | None:
    """Return the health of the job that publishes checkpoints of a ledger; None if there is no signing key."""
    settings = ledger.checkpoint_settings
    return None if settings is None else check_job(ledger.metering, CHECKPOINT_JOB, settings.allowed_age_seconds)
