"""Usage that comes by itself: the settings of object imports and of consumers, each under a name, and their jobs.

The import that is named `gateway` has the variables TALLYBOOK_IMPORTS__GATEWAY__URL and so on, and is the job
`import-gateway`. Likewise a consumer has those of TALLYBOOK_CONSUMERS and is the job `consumer-gateway`.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, StringConstraints, model_validator

from ...domain.errors import InvalidRequest
from ..jobs.job import Job
from ..metering import Metering
from ..object_import.importer import DEFAULT_LIMITS, ObjectImporter
from ..object_import.job import import_job
from ..topics.client_settings import read_client_settings
from ..topics.consumer import TopicConsumer
from ..topics.job import consumer_job
from ..usage_import.formats import FileFormat, FileLimits, FileOptions
from ..usage_import.read_options import delimiter_of, row_format_of
from ..usage_import.row_mapper import RowFormat

SourceName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,30}$")]
"""The name of an import or a consumer, as it is in its variables; in that of its job, _ is -."""
Text = Annotated[str, Field(min_length=1)]


class ColumnSettings(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    """How a row or a message becomes a meter event: the options of the commands `import` and `consume`."""

    event_name: Text | None = None
    timestamp_column: Text = "timestamp"
    timestamp_format: Text = "auto"
    value_column: Text | None = None
    customer_column: Text | None = None
    identifier_column: Text | None = None
    payload_columns: str = ""
    """COLUMN or COLUMN=KEY, separated by commas."""

    @model_validator(mode="after")
    def _check_row_format(self) -> Self:
        try:
            self.row_format()
        except InvalidRequest as error:
            raise ValueError(error.message) from None
        return self

    def row_format(self) -> RowFormat:
        """Return how rows are read. Raise InvalidRequest."""
        return row_format_of(**self._row_options())

    def _row_options(self) -> dict[str, Any]:
        columns = [column.strip() for column in self.payload_columns.split(",") if column.strip()]
        options = {name: getattr(self, name) for name in ColumnSettings.model_fields}
        return {**options, "payload_columns": columns}


class ImportSettings(ColumnSettings, frozen=True):
    """An import of the objects below a URL, how often, and how its objects are read."""

    url: Text = Field(repr=False)
    interval_seconds: float = Field(default=900, ge=1)
    max_age_seconds: float | None = Field(default=None, gt=0)
    """After which age of the last success /readyz says that it is overdue; twice the interval if None."""
    source: str = ""
    date_format: Text | None = None
    timezone: Text | None = None
    decimal: Text | None = None
    thousands: Text | None = None
    customer: Text | None = None
    identifier_prefix: Text | None = None
    format: FileFormat | None = None
    encoding: Text | None = None
    delimiter: Text | None = None
    header_row: int | None = Field(default=None, ge=1)
    sheet: Text | None = None
    max_bytes: int = Field(default=DEFAULT_LIMITS.max_bytes or 0, ge=1)
    max_rows: int = Field(default=DEFAULT_LIMITS.max_rows or 0, ge=1)

    @property
    def allowed_age_seconds(self) -> float:
        """Return how old the last success may be."""
        return 2 * self.interval_seconds if self.max_age_seconds is None else self.max_age_seconds

    def open_importer(self, metering: Metering) -> ObjectImporter:
        """Return the importer. Raise InvalidUsageSource."""
        options = FileOptions(
            self.format, self.encoding, delimiter_of(self.delimiter), self.header_row, self.sheet
        )  # fmt: skip
        return ObjectImporter(
            metering, self.url, row_format=self.row_format(), options=options, source=self.source,
            limits=FileLimits(self.max_bytes, self.max_rows),
        )  # fmt: skip

    def _row_options(self) -> dict[str, Any]:
        names = ("date_format", "timezone", "decimal", "thousands", "customer", "identifier_prefix")
        return {**super()._row_options(), **{name: getattr(self, name) for name in names}}


class ConsumerSettings(ColumnSettings, frozen=True):
    """A consumer of a topic. Without brokers of its own it has those of TALLYBOOK_BROKERS."""

    topic: Text
    brokers: Text | None = None
    group: Text = "tallybook"
    config: Path | None = None
    """A file with settings of librdkafka, a line KEY=VALUE each."""

    def open_consumer(self, metering: Metering, default_brokers: str | None) -> TopicConsumer:
        """Return the consumer. Raise InvalidParameter."""
        settings = {} if self.config is None else read_client_settings(self.config)
        return TopicConsumer(
            metering, self.topic, self.brokers or default_brokers or "", group=self.group,
            row_format=self.row_format(), settings=settings,
        )  # fmt: skip


def import_job_name(name: str) -> str:
    """Return the name of the job of an import."""
    return f"import-{name.replace('_', '-')}"


def consumer_job_name(name: str) -> str:
    """Return the name of the job of a consumer."""
    return f"consumer-{name.replace('_', '-')}"


def import_jobs(metering: Metering, imports: Mapping[str, ImportSettings]) -> Iterator[Job]:
    """Yield the job of each import."""
    for name, settings in imports.items():
        interval = timedelta(seconds=settings.interval_seconds)
        yield import_job(import_job_name(name), partial(settings.open_importer, metering), interval)


def consumer_jobs(metering: Metering, consumers: Mapping[str, ConsumerSettings], brokers: str | None) -> Iterator[Job]:
    """Yield the job of each consumer."""
    for name, settings in consumers.items():
        yield consumer_job(consumer_job_name(name), partial(settings.open_consumer, metering, brokers))
