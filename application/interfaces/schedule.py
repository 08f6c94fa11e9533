"""The jobs that the settings ask for, in every program that runs jobs: `serve` and `projection run`.

A job of another feature is added in three lines: its settings as a field of ScheduleSettings and of the server's
settings, and a function in FACTORIES that returns the job if the settings ask for it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta

from pydantic import BaseModel, Field, ValidationError

from ..jobs.builtin import archive_job
from ..jobs.job import Job
from ..metering import Metering
from .environment import PREFIX

NESTED_DELIMITER = "__"


class ArchiveSettings(BaseModel, frozen=True, hide_input_in_errors=True):
    """Where the events are archived, and how often. Nowhere without a destination."""

    destination: str | None = Field(default=None, min_length=1, repr=False)
    interval_seconds: float = Field(default=900, ge=1)


class ScheduleSettings(BaseModel, frozen=True):
    """The settings of all scheduled jobs. Each field is a group of environment variables."""

    archive: ArchiveSettings = ArchiveSettings()


def _archive_jobs(metering: Metering, settings: ScheduleSettings) -> Iterator[Job]:
    archive = settings.archive
    if archive.destination is not None:
        yield archive_job(metering.archive, archive.destination, timedelta(seconds=archive.interval_seconds))


FACTORIES: Sequence[Callable[[Metering, ScheduleSettings], Iterator[Job]]] = (_archive_jobs,)


def scheduled_jobs(metering: Metering, settings: ScheduleSettings) -> list[Job]:
    """Return the jobs that the settings ask for."""
    return [job for factory in FACTORIES for job in factory(metering, settings)]


def schedule_from_environment(environment: Mapping[str, str]) -> ScheduleSettings:
    """Return the settings in environment variables like TALLYBOOK_ARCHIVE__DESTINATION. Raises ValidationError."""
    groups: dict[str, dict[str, str]] = {}
    for group in ScheduleSettings.model_fields:
        prefix = f"{PREFIX}{group}{NESTED_DELIMITER}".upper()
        groups[group] = {
            name.upper().removeprefix(prefix).lower(): value
            for name, value in environment.items()
            if name.upper().startswith(prefix)
        }
    return ScheduleSettings.model_validate(groups)


def settings_errors(validation_error: ValidationError) -> list[str]:
    """Return one message for each invalid setting, with its environment variable and without its value."""
    return [
        f"{PREFIX}{NESTED_DELIMITER.join(map(str, error['loc'])).upper()}: {error['msg']}"
        for error in validation_error.errors()
    ]
