"""The settings of a server: from its command line, or from the environment, as TALLYBOOK_PORT is."""

from collections.abc import Callable
from datetime import datetime

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from ...domain.policy import AcceptancePolicy
from ..metering import utc_now


class ServerSettings(BaseSettings):
    """How a ledger is served."""

    model_config = SettingsConfigDict(env_prefix="TALLYBOOK_", extra="ignore", frozen=True)

    ledger: str = "sqlite:///tallybook.db"
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65_535)
    workers: int = Field(default=1, ge=1, le=64)
    most_body_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    most_body_seconds: float = Field(default=30, gt=0)

    @property
    def policy(self) -> AcceptancePolicy:
        """What is accepted."""
        return AcceptancePolicy()

    @property
    def clock(self) -> Callable[[], datetime]:
        """What tells the time."""
        return utc_now
