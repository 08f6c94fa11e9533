"""The acceptance policy: limits on meter events, cancellations and closing. None removes a limit."""

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from .authorship import AcceptedUnder
from .decimals import check_significant_digits
from .errors import InvalidCancellation, PeriodNotEnded, TimestampInFuture, TimestampTooFarInPast
from .plain_types import plain_int, plain_timedelta
from .timestamps import MAX_DATETIME, MIN_DATETIME


def _plain_duration(value: object) -> object:
    plain = plain_timedelta(value)
    return value if plain is None else plain


def _plain_number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a bool is not a number")  # noqa: TRY004 - pydantic expects it
    plain = plain_int(value)
    return value if plain is None else plain


Duration = Annotated[timedelta, BeforeValidator(_plain_duration)]
"""A timedelta, also from a value of a subclass."""


class AcceptancePolicy(BaseModel):
    """The limits on meter events and cancellations. The defaults are Stripe's; set `max_age` to None to back-fill.

    `cancel_window` is the time from the recording of a meter event in which it can be cancelled, and the time from a
    cancellation in which that can be revoked.
    `grace_period` is the time after the end of a period in which late meter events are awaited before the period may be
    closed. The combinations of dimension values are limited for each UTC hour, for a customer and for all of a meter.
    `max_clock_delay` is how far the clock may be behind the last event: what it records gets the time of that event.
    Source: Stripe finalises an invoice one hour after its period, and 72 hours at most.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_age: Duration | None = Field(default=timedelta(days=35), ge=timedelta(0))
    max_ahead: Duration | None = Field(default=timedelta(minutes=5), ge=timedelta(0))
    cancel_window: Duration | None = Field(default=timedelta(hours=24), ge=timedelta(0))
    grace_period: Duration | None = Field(default=timedelta(hours=1), ge=timedelta(0), le=timedelta(hours=72))
    max_customer_combinations: Annotated[int, BeforeValidator(_plain_number)] | None = Field(default=100, ge=1)
    max_meter_combinations: Annotated[int, BeforeValidator(_plain_number)] | None = Field(default=10_000, ge=1)
    max_digits: Annotated[int, BeforeValidator(_plain_number)] | None = Field(default=15, ge=1)
    max_clock_delay: Duration | None = Field(default=timedelta(minutes=1), ge=timedelta(0))

    def accepted_range(self, now: datetime) -> tuple[datetime, datetime]:
        """Return the earliest and latest accepted time of a meter event that is submitted at `now`, both inclusive."""
        return now - _capped(self.max_age, now - MIN_DATETIME), now + _capped(self.max_ahead, MAX_DATETIME - now)

    def check_occurred_at(self, occurred_at: datetime, now: datetime) -> None:
        """Raise TimestampTooFarInPast or TimestampInFuture unless `occurred_at` is in the accepted range."""
        earliest, latest = self.accepted_range(now)
        if self.max_age is not None and occurred_at < earliest:
            raise TimestampTooFarInPast(
                f"The timestamp can't be more than {_format_duration(self.max_age)} in the past: expected "
                f"{earliest:%Y-%m-%dT%H:%M:%SZ} or later, not {occurred_at:%Y-%m-%dT%H:%M:%SZ}. "
                "Lift max_age in the policy to back-fill.",
                field="timestamp",
                value=occurred_at,
            )
        if self.max_ahead is not None and occurred_at > latest:
            raise TimestampInFuture(
                f"The timestamp can't be more than {_format_duration(self.max_ahead)} in the future: expected "
                f"{latest:%Y-%m-%dT%H:%M:%SZ} or earlier, not {occurred_at:%Y-%m-%dT%H:%M:%SZ}.",
                field="timestamp",
                value=occurred_at,
            )

    @property
    def has_default_ages(self) -> bool:
        """Whether the limits on the age of meter events are the default ones."""
        return (self.max_age, self.max_ahead) == (_DEFAULTS.max_age, _DEFAULTS.max_ahead)

    def beyond_default_ages(
        self, occurred_at: datetime, default_range: tuple[datetime, datetime]
    ) -> AcceptedUnder | None:
        """Return the limits by which a meter event is accepted outside of what the default policy accepts."""
        earliest, latest = default_range
        limits: AcceptedUnder = {}
        if occurred_at < earliest:
            limits["max_age"] = self.max_age
        if occurred_at > latest:
            limits["max_ahead"] = self.max_ahead
        return limits or None

    def beyond_default_cancel_window(self, since: datetime, now: datetime) -> AcceptedUnder | None:
        """Return the cancel window by which something of `since` is cancelled, if the default one has passed."""
        window = _DEFAULTS.cancel_window
        return {"cancel_window": self.cancel_window} if window is not None and now - since > window else None

    def beyond_default_grace_period(self, last_end: datetime, now: datetime) -> AcceptedUnder | None:
        """Return the grace period by which a period is closed, if the default one hasn't passed."""
        grace_period = _DEFAULTS.grace_period
        is_early = grace_period is not None and now - last_end < grace_period
        return {"grace_period": self.grace_period} if is_early else None

    def check_value(self, text: str, field: str) -> None:
        """Raise TooManyDigits if a value has more significant digits than `max_digits`."""
        if self.max_digits is not None and len(text) > self.max_digits:
            check_significant_digits(text, self.max_digits, field)

    def check_cancel(self, identifier: str, recorded_at: datetime, now: datetime) -> None:
        """Raise InvalidCancellation if an event was recorded more than `cancel_window` before `now`."""
        if self.cancel_window is not None and now - recorded_at > self.cancel_window:
            raise InvalidCancellation(
                f"The event {identifier!r} was recorded at {recorded_at:%Y-%m-%dT%H:%M:%SZ} and can be cancelled "
                f"within {_format_duration(self.cancel_window)} only. Record a negative value to correct it, "
                "or lift cancel_window in the policy.",
                field="identifier",
                value=identifier,
            )

    def check_revocation(self, cancellation: str, cancelled_at: datetime, now: datetime) -> None:
        """Raise InvalidCancellation, which names the cancellation, if it is more than `cancel_window` before `now`."""
        if self.cancel_window is not None and now - cancelled_at > self.cancel_window:
            raise InvalidCancellation(
                f"{cancellation} was made at {cancelled_at:%Y-%m-%dT%H:%M:%SZ} and can be revoked within "
                f"{_format_duration(self.cancel_window)} only. Record the usage again under another identifier, or "
                "lift cancel_window in the policy.",
                field="identifier",
                value=cancellation,
            )

    def check_period_end(self, end: datetime, now: datetime, *, counted_until: datetime | None = None) -> None:
        """Raise PeriodNotEnded if a period ended less than `grace_period` before `now`.

        A period ends once its last event time window has, at `counted_until` if it is later. If `grace_period` is None,
        the period must still have ended.
        """
        last_end = end if counted_until is None else max(end, counted_until)
        if now - last_end < (self.grace_period or timedelta(0)):
            grace_note = (
                f", and late meter events are awaited for {_format_duration(self.grace_period)} more"
                if self.grace_period
                else ""
            )
            if last_end > end:
                grace_note = f", its last event time window at {last_end:%Y-%m-%dT%H:%M:%SZ}{grace_note}"
            raise PeriodNotEnded(
                f"The period ends at {end:%Y-%m-%dT%H:%M:%SZ}{grace_note}; it can't be closed before that, "
                f"at {now:%Y-%m-%dT%H:%M:%SZ}.",
                field="end",
                value=end,
            )


_DEFAULTS = AcceptancePolicy()
"""What was accepted beyond these limits is stored with the limit that accepted it."""
default_accepted_range = _DEFAULTS.accepted_range


def _capped(duration: timedelta | None, maximum: timedelta) -> timedelta:
    return maximum if duration is None else min(duration, maximum)


def _format_duration(duration: timedelta) -> str:
    for unit, unit_length in (
        ("days", timedelta(days=1)),
        ("hours", timedelta(hours=1)),
        ("minutes", timedelta(minutes=1)),
    ):
        if duration >= 2 * unit_length and duration % unit_length == timedelta(0):
            return f"{duration // unit_length} {unit}"
    return f"{duration.total_seconds():g} seconds"
