"""The jobs that the settings ask for, in every program that runs jobs: `serve` and `projection run`.

A job of another feature is added in three lines: its settings as a field of ScheduleSettings and of the server's
settings, and a function in FACTORIES that returns the job if the settings ask for it.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from itertools import combinations
from typing import Any, Self

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from ..checkpoints.service import DEFAULT_NAME
from ..jobs.builtin import archive_job, checkpoint_job, checkpoint_verification_job, prune_job
from ..jobs.job import Job
from ..metering import Metering
from .environment import NESTED_DELIMITER, PREFIX
from .usage_sources import ConsumerSettings, ImportSettings, SourceName, consumer_jobs, import_jobs


class ArchiveSettings(BaseModel, frozen=True, hide_input_in_errors=True):
    """Where the events are archived, how often, and when they are pruned. Nowhere without a destination."""

    destination: str | None = Field(default=None, min_length=1, repr=False)
    interval_seconds: float = Field(default=900, ge=1)
    keep_days: int | None = Field(default=None, ge=1, le=999_999)
    """For how long after its recording the contents of usage stay in the ledger; forever if None."""
    checkpoints: str | None = Field(default=None, min_length=1)
    """The checkpoint file that the archive must match before anything is pruned."""
    checkpoint_keys: str = ""
    """Public keys, or their files, that signed the checkpoints, separated by commas."""
    prune_interval_seconds: float = Field(default=604_800, ge=1)

    @property
    def accepted_keys(self) -> list[str]:
        """Return the keys of the checkpoints one by one."""
        return _split(self.checkpoint_keys)

    @model_validator(mode="after")
    def _require_for_pruning(self) -> Self:
        if self.keep_days is not None and not (self.destination and self.checkpoints and self.accepted_keys):
            raise ValueError("KEEP_DAYS needs a DESTINATION, and CHECKPOINTS that are signed by one of CHECKPOINT_KEYS")
        return self


class CheckpointSettings(BaseModel, frozen=True, hide_input_in_errors=True):
    """Whether checkpoints are published, how often, and where they are copied to. They aren't without a key."""

    key: str | None = Field(default=None, min_length=1)
    """The file of the private key, see 'tallybook checkpoint key'."""
    name: str = DEFAULT_NAME
    previous_keys: str = ""
    """Public keys, or their files, that signed earlier checkpoints, separated by commas."""
    destinations: str = Field(default="", repr=False)
    """Paths and URLs, separated by commas."""
    interval_seconds: float = Field(default=3_600, ge=1)
    verify_interval_seconds: float = Field(default=86_400, ge=1)
    max_age_seconds: float | None = Field(default=None, gt=0)
    """After which age of the last success /readyz says that it is overdue; twice the interval if None."""

    @property
    def places(self) -> list[str]:
        """Return the destinations one by one."""
        return _split(self.destinations)

    @property
    def accepted_keys(self) -> list[str]:
        """Return the previous keys one by one."""
        return _split(self.previous_keys)

    @property
    def allowed_age_seconds(self) -> float:
        """Return how old the last success may be."""
        return 2 * self.interval_seconds if self.max_age_seconds is None else self.max_age_seconds


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


class ScheduleSettings(BaseModel, frozen=True):
    """The settings of all scheduled jobs. Each field is a variable, a group of them, or groups that have names."""

    archive: ArchiveSettings = ArchiveSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    brokers: str | None = None
    imports: dict[SourceName, ImportSettings] = Field(default_factory=dict[SourceName, ImportSettings])
    consumers: dict[SourceName, ConsumerSettings] = Field(default_factory=dict[SourceName, ConsumerSettings])

    @field_validator("archive", "checkpoint", "imports", "consumers", mode="before")
    @classmethod
    def _reject_text(cls, group: object) -> object:
        if isinstance(group, str):
            raise ValueError("it is not JSON. Use one variable for each setting")  # noqa: TRY004 - pydantic's contract
        return group

    @model_validator(mode="after")
    def _require_brokers(self) -> Self:
        require_brokers(self.consumers, self.brokers)
        require_distinct_sources(self.imports, self.consumers)
        return self


def require_brokers(consumers: Mapping[str, ConsumerSettings], brokers: str | None) -> None:
    """Raise ValueError if a consumer has no brokers."""
    for name, consumer in consumers.items():
        if consumer.brokers is None and brokers is None:
            raise ValueError(
                f"the consumer {name!r} has no brokers: set {PREFIX}BROKERS, or its own "
                f"{PREFIX}CONSUMERS{NESTED_DELIMITER}{name.upper()}{NESTED_DELIMITER}BROKERS"
            )


def require_distinct_sources(imports: Mapping[str, ImportSettings], consumers: Mapping[str, ConsumerSettings]) -> None:
    """Raise ValueError if two imports or consumers share their progress: what one reads, the other never would."""
    for (name, one), (other_name, other) in combinations(imports.items(), 2):
        url, other_url = (f"{settings.url.rstrip('/')}/" for settings in (one, other))
        if url.startswith(other_url) or other_url.startswith(url):
            raise ValueError(
                f"the imports {name!r} and {other_name!r} read the same objects, each of which is imported once"
            )
    for (name, one), (other_name, other) in combinations(consumers.items(), 2):
        if (one.topic, one.group) == (other.topic, other.group):
            raise ValueError(
                f"the consumers {name!r} and {other_name!r} have the same topic and group, and so the same offsets: "
                f"set {PREFIX}CONSUMERS{NESTED_DELIMITER}{other_name.upper()}{NESTED_DELIMITER}GROUP"
            )


def _archive_jobs(metering: Metering, settings: ScheduleSettings) -> Iterator[Job]:
    archive = settings.archive
    if archive.destination is None:
        return
    yield archive_job(metering.archive, archive.destination, timedelta(seconds=archive.interval_seconds))
    if archive.keep_days is not None and archive.checkpoints is not None:
        key, *previous_keys = archive.accepted_keys
        yield prune_job(
            metering.archive, archive.destination, timedelta(seconds=archive.prune_interval_seconds),
            checkpoints=archive.checkpoints, key=key, previous_keys=previous_keys,
            keep=timedelta(days=archive.keep_days),
        )  # fmt: skip


def _checkpoint_jobs(metering: Metering, settings: ScheduleSettings) -> Iterator[Job]:
    checkpoint = settings.checkpoint
    if checkpoint.key is None:
        return
    for make_job, interval_seconds in (
        (checkpoint_job, checkpoint.interval_seconds),
        (checkpoint_verification_job, checkpoint.verify_interval_seconds),
    ):
        yield make_job(
            metering.checkpoints, checkpoint.key, checkpoint.places, timedelta(seconds=interval_seconds),
            name=checkpoint.name, previous_keys=checkpoint.accepted_keys,
        )  # fmt: skip


def _source_jobs(metering: Metering, settings: ScheduleSettings) -> Iterator[Job]:
    yield from import_jobs(metering, settings.imports)
    yield from consumer_jobs(metering, settings.consumers, settings.brokers)


FACTORIES: Sequence[Callable[[Metering, ScheduleSettings], Iterator[Job]]] = (
    _checkpoint_jobs,
    _archive_jobs,
    _source_jobs,
)


def scheduled_jobs(metering: Metering, settings: ScheduleSettings) -> list[Job]:
    """Return the jobs that the settings ask for."""
    return [job for factory in FACTORIES for job in factory(metering, settings)]


def schedule_from_environment(environment: Mapping[str, str]) -> ScheduleSettings:
    """Return the settings in environment variables like TALLYBOOK_IMPORTS__NAME__URL. Raises ValidationError.

    As for the server, TALLYBOOK_IMPORTS may have all imports as JSON; a variable of one setting takes precedence.
    """
    settings: dict[str, Any] = {}
    for variable, value in sorted(environment.items(), key=lambda item: item[0].count(NESTED_DELIMITER)):
        *groups, name = variable.lower().removeprefix(PREFIX.lower()).split(NESTED_DELIMITER)
        if not variable.upper().startswith(PREFIX) or (groups or [name])[0] not in ScheduleSettings.model_fields:
            continue
        group: Any = settings
        with suppress(AttributeError, TypeError):  # the group has a value of its own, which is not valid
            for group_name in groups:
                group = group.setdefault(group_name, {})
            group[name] = value if groups or name == "brokers" else _parse_group(value)
    return ScheduleSettings.model_validate(settings)


def _parse_group(text: str) -> object:
    """Return the settings of a group that are JSON; the text itself, which is not valid, if it is not JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def settings_errors(validation_error: ValidationError) -> list[str]:
    """Return one message for each invalid setting, with its environment variable and without its value."""
    return [
        f"{PREFIX}{NESTED_DELIMITER.join(map(str, error['loc'])).upper()}: {error['msg']}"
        if error["loc"]
        else error["msg"]
        for error in validation_error.errors()
    ]
