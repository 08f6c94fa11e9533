"""The age of the last checkpoint in /readyz and /metrics."""

from datetime import timedelta

import msgspec

from ....domain.errors import JobNotFound
from ...jobs.builtin import CHECKPOINT_JOB
from .ledgers import ServedLedger


class CheckpointHealth(msgspec.Struct, omit_defaults=True):
    """Whether checkpoints are published: `ready`, `overdue`, or `failed` with the last run; and when they last were.

    A server whose checkpoint is late is ready, because it can record.
    """

    status: str
    age_seconds: float | None = None


def check_checkpoints(ledger: ServedLedger) -> CheckpointHealth | None:
    """Return the health of the job that publishes checkpoints of a ledger; None if there is no signing key."""
    settings = ledger.checkpoint_settings
    if settings is None:
        return None
    try:
        job = ledger.metering.jobs.get(CHECKPOINT_JOB)
    except JobNotFound:  # the server has just started
        return CheckpointHealth("overdue")
    age = None if job.succeeded_at is None else max(ledger.metering.jobs.now() - job.succeeded_at, timedelta())
    age_seconds = None if age is None else age.total_seconds()
    if job.error is not None:
        return CheckpointHealth("failed", age_seconds)
    is_overdue = age_seconds is None or age_seconds > settings.allowed_age_seconds
    return CheckpointHealth("overdue" if is_overdue else "ready", age_seconds)
