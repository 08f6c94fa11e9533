"""The settings of a server: from its command line, or from the environment, as TALLYBOOK_PORT is."""

from collections.abc import Callable
from datetime import datetime

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ....domain.errors import InvalidLedgerUrl
from ....domain.policy import AcceptancePolicy
from ...ledger_url import locate
from ...metering import utc_now
from ..desks import ledger_for_tests
from ..webhooks.settings import WebhookSettings

PREFIX, INSIDE = "TALLYBOOK_", "__"


class ServerSettings(BaseSettings):
    """How a ledger is served.

    `policy` says what is accepted: TALLYBOOK_POLICY__MAX_AGE=P90D, and `none` lifts a limit.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=INSIDE,
        env_parse_none_str="none",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,  # which may be a password
    )

    ledger: str = Field(default="sqlite:///tallybook.db", repr=False)
    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8080, ge=0, le=65_535)
    workers: int = Field(default=1, ge=1, le=64)
    access_log: bool = True
    policy: AcceptancePolicy = AcceptancePolicy()
    most_connections: int = Field(default=1_000, ge=1)
    most_headers: int = Field(default=100, ge=10)
    most_header_bytes: int = Field(default=32 * 1024, ge=1024)
    most_header_seconds: float = Field(default=10, gt=0)
    most_body_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    most_body_seconds: float = Field(default=30, gt=0)
    keep_alive_seconds: int = Field(default=75, ge=1)
    drain_seconds: int = Field(default=20, ge=1)
    webhooks: WebhookSettings = WebhookSettings()

    @field_validator("ledger")
    @classmethod
    def _can_be_served(cls, ledger: str) -> str:
        try:
            store = locate(ledger)
            ledger_for_tests(store)
        except InvalidLedgerUrl as error:
            raise ValueError(error.message) from None
        if not store.is_lasting:
            raise ValueError("a ledger in memory can't be served: nobody could make a key to it")
        return ledger

    @property
    def clock(self) -> Callable[[], datetime]:
        """What tells the time."""
        return utc_now


def wrong_settings(error: ValidationError) -> list[str]:
    """What is wrong with settings, each by its name in the environment; never what was given, it may be a password."""
    return [f"{PREFIX}{INSIDE.join(map(str, one['loc'])).upper()}: {one['msg']}" for one in error.errors()]
