"""What the ledger accepts, and until when it lets go again. Every limit can be lifted by setting it to None."""

from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field

from .errors import InvalidCancel, PeriodNotOver, TimestampInFuture, TimestampTooFarInPast
from .instants import FIRST, LAST
from .quantities import check_digits


class AcceptancePolicy(BaseModel):
    """The limits on reports and cancels. The defaults are Stripe's; back-filling lifts `max_age`.

    `grace` is how long after its end a period waits for late reports before it may be closed. Source: Stripe
    finalises an invoice an hour after its period, and 72 hours at most.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_age: timedelta | None = Field(default=timedelta(days=35), ge=timedelta(0))
    max_ahead: timedelta | None = Field(default=timedelta(minutes=5), ge=timedelta(0))
    cancel_window: timedelta | None = Field(default=timedelta(hours=24), ge=timedelta(0))
    grace: timedelta | None = Field(default=timedelta(hours=1), ge=timedelta(0), le=timedelta(hours=72))
    max_digits: int | None = Field(default=15, ge=1)

    def accepted_times(self, now: datetime) -> tuple[datetime, datetime]:
        """The first and the last moment at which a use that is reported at `now` may have happened."""
        return now - _at_most(self.max_age, now - FIRST), now + _at_most(self.max_ahead, LAST - now)

    def check_occurred_at(self, occurred_at: datetime, now: datetime) -> None:
        """Refuse a use that happened too long ago or lies too far ahead; the limits themselves are accepted."""
        earliest, latest = self.accepted_times(now)
        if self.max_age is not None and occurred_at < earliest:
            raise TimestampTooFarInPast(
                f"The timestamp can't be more than {_spoken(self.max_age)} in the past: expected "
                f"{earliest:%Y-%m-%dT%H:%M:%SZ} or later, not {occurred_at:%Y-%m-%dT%H:%M:%SZ}. "
                "Lift max_age in the policy to back-fill.",
                field="timestamp",
                value=occurred_at,
            )
        if self.max_ahead is not None and occurred_at > latest:
            raise TimestampInFuture(
                f"The timestamp can't be more than {_spoken(self.max_ahead)} in the future: expected "
                f"{latest:%Y-%m-%dT%H:%M:%SZ} or earlier, not {occurred_at:%Y-%m-%dT%H:%M:%SZ}.",
                field="timestamp",
                value=occurred_at,
            )

    def check_value(self, text: str, field: str) -> None:
        """Refuse a value of more significant digits than `max_digits`."""
        if self.max_digits is not None and len(text) > self.max_digits:
            check_digits(text, self.max_digits, field)

    def check_cancel(self, identifier: str, recorded_at: datetime, now: datetime) -> None:
        """Refuse to cancel what was recorded longer ago than `cancel_window`; the limit itself is accepted."""
        if self.cancel_window is not None and now - recorded_at > self.cancel_window:
            raise InvalidCancel(
                f"The event {identifier!r} was recorded at {recorded_at:%Y-%m-%dT%H:%M:%SZ} and can be cancelled "
                f"within {_spoken(self.cancel_window)} only. Record a negative value to correct it, "
                "or lift cancel_window in the policy.",
                field="identifier",
                value=identifier,
            )

    def check_period_end(self, end: datetime, now: datetime) -> None:
        """Refuse to close a period that ended less than `grace` ago; the limit itself is accepted.

        Where `grace` is None the period must be over all the same.
        """
        if now - end < (self.grace or timedelta(0)):
            waits = f", and waits for late reports for {_spoken(self.grace)} more" if self.grace else ""
            raise PeriodNotOver(
                f"The period ends at {end:%Y-%m-%dT%H:%M:%SZ}{waits}; it can't be closed before that, "
                f"at {now:%Y-%m-%dT%H:%M:%SZ}.",
                field="end",
                value=end,
            )


def _at_most(span: timedelta | None, longest: timedelta) -> timedelta:
    return longest if span is None else min(span, longest)


def _spoken(span: timedelta) -> str:
    for unit, length in (("days", timedelta(days=1)), ("hours", timedelta(hours=1)), ("minutes", timedelta(minutes=1))):
        if span >= 2 * length and span % length == timedelta(0):
            return f"{span // length} {unit}"
    return f"{span.total_seconds():g} seconds"
