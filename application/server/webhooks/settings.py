"""The times of webhooks: from the environment, as TALLYBOOK_WEBHOOKS__WINDOW_SECONDS is."""

from pydantic import BaseModel, Field

from ....domain.instants import MICROSECONDS_PER_SECOND

_DAY = 24 * 60 * 60


class WebhookSettings(BaseModel, frozen=True):
    """How refused events are gathered, and how deliveries are tried again."""

    window_seconds: float = Field(default=10, ge=0.1, le=3_600)
    """Refused events of one window are told in one report, once it is over."""
    look_every_seconds: float = Field(default=1, gt=0, le=60)
    timeout_seconds: float = Field(default=10, gt=0, le=60)
    first_retry_seconds: float = Field(default=10, gt=0)
    longest_retry_seconds: float = Field(default=_DAY / 4, gt=0)
    give_up_seconds: float = Field(default=3 * _DAY, gt=0)
    take_over_seconds: float = Field(default=5, gt=0)
    """How often a process looks whether the one that dispatches is gone."""
    keep_house_seconds: float = Field(default=60, gt=0)
    """How often what has had its time is taken away."""

    @property
    def window_microseconds(self) -> int:
        """How long a window is, as the ledger counts time."""
        return round(self.window_seconds * MICROSECONDS_PER_SECOND)
