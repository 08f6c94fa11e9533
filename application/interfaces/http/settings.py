"""Settings of the server, from environment variables such as TALLYBOOK_WEBHOOKS__WINDOW_SECONDS."""

import re
from collections.abc import Callable
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ModelWrapValidatorHandler, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ....domain.acceptance_policy import AcceptancePolicy
from ....domain.errors import InvalidLedgerUrl, InvalidParameter
from ....domain.timestamps import MICROSECONDS_PER_SECOND
from ...access_log import LoggedCustomers
from ...clock import utc_now
from ...redaction import validate_without_input
from ...storage.outbox import DEFAULT_TABLE, require_table_name
from ...storage.outbox_url import resolve_outbox
from ...storage.url import resolve_store
from ..environment import NESTED_DELIMITER, PREFIX
from ..job_settings import (
    ArchiveSettings,
    CheckpointSettings,
    ScheduleSettings,
    require_brokers,
    require_distinct_sources,
)
from ..usage_sources import ConsumerSettings, ImportSettings, SourceName
from .ledgers import ledger_for_test_mode

_DAY = 24 * 60 * 60


class WebhookSettings(BaseModel, frozen=True):
    """How rejected events are reported, and how deliveries are retried."""

    window_seconds: float = Field(default=10, ge=0.1, le=3_600)
    """One report covers the rejected events of one window, and is created when the window has ended."""
    poll_interval_seconds: float = Field(default=1, gt=0, le=60)
    timeout_seconds: float = Field(default=10, gt=0, le=60)
    initial_retry_seconds: float = Field(default=10, gt=0)
    max_retry_seconds: float = Field(default=_DAY / 4, gt=0)
    retry_window_seconds: float = Field(default=3 * _DAY, gt=0)
    leader_check_interval_seconds: float = Field(default=5, gt=0)
    """How often another process checks whether it can take over the dispatching."""
    source: str = Field(default="/tallybook", pattern=r"^[!#-~]{1,200}$")
    """The `source` of webhook events that are sent as CloudEvents: a URI of this ledger, in printable ASCII."""
    allowed_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()
    """Networks that deliveries may reach in addition to public addresses, in a variable separated by commas."""

    @field_validator("allowed_networks", mode="before")
    @classmethod
    def _parse_networks(cls, networks: object) -> object:
        if isinstance(networks, str):
            return [ip_network(network.strip()) for network in networks.split(",") if network.strip()]
        return networks

    @property
    def window_microseconds(self) -> int:
        """Return the length of a window in microseconds."""
        return round(self.window_seconds * MICROSECONDS_PER_SECOND)


_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?")
"""Nothing that could end a directive of a content security policy."""


class ServerSettings(BaseSettings):
    """The settings of a server.

    `policy` limits which meter events are accepted: TALLYBOOK_POLICY__MAX_AGE=P90D; `none` removes a limit.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=NESTED_DELIMITER,
        env_parse_none_str="none",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,  # an input may be a password
    )

    ledger: str = Field(default="sqlite:///tallybook.db", repr=False)
    outbox: str | None = Field(default=None, repr=False)
    """The database of an outbox whose lag /readyz and /metrics report. The server doesn't relay its rows."""
    outbox_table: str = DEFAULT_TABLE
    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8080, ge=0, le=65_535)
    workers: int = Field(default=1, ge=1, le=64)
    access_log: bool = True
    access_log_customers: LoggedCustomers = LoggedCustomers.HIDDEN
    console: bool = False
    """Whether the console is served at /console."""
    console_url: str | None = None
    """The address at which browsers reach the server, such as https://usage.example.com; needed behind a proxy."""
    console_checkpoints: Path | None = None
    """The checkpoint file of the live ledger, for the console to show and to prove with."""
    console_embed_origins: tuple[str, ...] = ()
    """The origins whose pages may show the console's page of one customer, such as ["https://app.example.com"]."""
    policy: AcceptancePolicy = AcceptancePolicy()
    max_connections: int = Field(default=1_000, ge=1)
    max_headers: int = Field(default=100, ge=10)
    max_header_bytes: int = Field(default=32 * 1024, ge=1024)
    header_timeout_seconds: float = Field(default=10, gt=0)
    max_body_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    body_timeout_seconds: float = Field(default=30, gt=0)
    query_timeout_seconds: float = Field(default=30, gt=0)
    keep_alive_seconds: int = Field(default=75, ge=1)
    drain_timeout_seconds: int = Field(default=20, ge=1)
    retention_interval_seconds: float = Field(default=60, gt=0)
    """How often expired entries are deleted."""
    projection: bool = False
    """Whether a job brings the read models up to date continuously; otherwise the next query does."""
    webhooks: WebhookSettings = WebhookSettings()
    archive: ArchiveSettings = ArchiveSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    brokers: str | None = Field(default=None, min_length=1)
    """The brokers of consumers that have none of their own."""
    imports: dict[SourceName, ImportSettings] = Field(default_factory=dict[SourceName, ImportSettings])
    consumers: dict[SourceName, ConsumerSettings] = Field(default_factory=dict[SourceName, ConsumerSettings])

    @model_validator(mode="wrap")
    @classmethod
    def _hide_input(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        return validate_without_input(value, handler)

    @field_validator("ledger")
    @classmethod
    def _validate_ledger(cls, ledger: str) -> str:
        try:
            store = resolve_store(ledger)
            ledger_for_test_mode(store)
        except InvalidLedgerUrl as error:
            raise ValueError(error.message) from None
        if not store.is_persistent:
            raise ValueError("an in-memory ledger cannot be served, because no access key can be created for it")
        return ledger

    @field_validator("outbox")
    @classmethod
    def _validate_outbox(cls, outbox: str | None) -> str | None:
        try:
            if outbox is not None:
                resolve_outbox(outbox)
        except InvalidLedgerUrl as error:
            raise ValueError(error.message) from None
        return outbox

    @field_validator("outbox_table")
    @classmethod
    def _validate_outbox_table(cls, table: str) -> str:
        try:
            return require_table_name(table)
        except InvalidParameter as error:
            raise ValueError(error.message) from None

    @field_validator("console_url")
    @classmethod
    def _validate_console_url(cls, url: str | None) -> str | None:
        parts = urlsplit(url or "http://localhost")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ValueError("it must be a scheme and a host, such as https://usage.example.com")
        return url

    @field_validator("console_embed_origins")
    @classmethod
    def _validate_embed_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if _ORIGIN.fullmatch(origin) is None:
                raise ValueError("each must be a scheme and a host, such as https://app.example.com")
        return origins

    @model_validator(mode="after")
    def _require_brokers(self) -> Self:
        require_brokers(self.consumers, self.brokers)
        require_distinct_sources(self.imports, self.consumers)
        return self

    @property
    def schedule(self) -> ScheduleSettings:
        """Return the settings of the scheduled jobs."""
        return ScheduleSettings.model_validate(self, from_attributes=True)

    @property
    def clock(self) -> Callable[[], datetime]:
        """Return the clock of the ledgers."""
        return utc_now
