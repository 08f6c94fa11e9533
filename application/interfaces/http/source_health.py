"""Usage that comes by itself, in /readyz and /metrics: the age of object imports, and the lag of consumers."""

from collections.abc import Iterable, Mapping

import msgspec

from ....domain.errors import JobNotFound
from ...jobs.views import JobStatus
from ...metering import Metering
from ...topics.offset_log import read_lags
from ..usage_sources import ConsumerSettings, ImportSettings, consumer_job_name, import_job_name
from .job_health import JobHealth, check_job

_STATUSES = ("ready", "overdue", "failed")
"""From the best to the worst."""


class ConsumerHealth(msgspec.Struct):
    """Whether all consumers run: `ready`, `overdue`, or `failed` with the last run of one; and the messages to record.

    `lag` counts the messages that were in the topics when the consumers last looked, and are not recorded yet.
    """

    status: str
    lag: int


def check_imports(metering: Metering, imports: Mapping[str, ImportSettings]) -> JobHealth | None:
    """Return the worst status of the imports, and the largest age. The age is None if one never succeeded."""
    if not imports:
        return None
    healths = [
        check_job(metering, import_job_name(name), settings.allowed_age_seconds) for name, settings in imports.items()
    ]
    ages = [health.age_seconds for health in healths if health.age_seconds is not None]
    return JobHealth(_worst(health.status for health in healths), max(ages) if len(ages) == len(healths) else None)


def check_consumers(metering: Metering, consumers: Mapping[str, ConsumerSettings]) -> ConsumerHealth | None:
    """Return the worst status of the consumers, and the messages that wait for them."""
    if not consumers:
        return None
    sources = {(settings.topic, settings.group) for settings in consumers.values()}
    lags = read_lags(metering.key_value_store())
    status = _worst(_consumer_status(metering, consumer_job_name(name)) for name in consumers)
    return ConsumerHealth(status, sum(lag.lag for lag in lags if (lag.topic, lag.group) in sources))


def _consumer_status(metering: Metering, job_name: str) -> str:
    try:
        job = metering.jobs.get(job_name)
    except JobNotFound:  # the server has just started
        return "overdue"
    if job.error is not None:
        return "failed"
    return "ready" if job.status in (JobStatus.RUNNING, JobStatus.WAITING) else "overdue"


def _worst(statuses: Iterable[str]) -> str:
    return max(statuses, key=_STATUSES.index)
