"""A meter event: one reported use, perhaps cancelled later."""

from datetime import datetime

import msgspec
from pydantic import BaseModel, ConfigDict

from .aggregate import Aggregate
from .errors import InvalidCancel
from .instants import microseconds
from .policy import AcceptancePolicy
from .report import Report

STREAM_PREFIX = "event/"


class ReportedUse(msgspec.Struct, frozen=True, gc=False):
    """What was reported, as it is stored. Its fields are the storage format.

    A struct of msgspec's, not a pydantic model: every use is written and folded as one, and a model would take longer
    to make than the row takes to store.
    """

    recorded_at: datetime
    event_name: str
    payload: dict[str, str]
    occurred_at: datetime

    def is_said_by(self, report: Report) -> bool:
        """Whether `report` is this one again.

        A timestamp counts only where one was given: a retry that leaves it to "now" is the same report.
        """
        return (
            self.event_name == report.event_name
            and self.payload == report.payload
            # As instants: Python calls no time of an hour that comes twice equal to one in another zone.
            and (report.timestamp is None or microseconds(self.occurred_at) == microseconds(report.timestamp))
        )


class Cancellation(BaseModel):
    """How a meter event came to count no more: when, why and on whose word."""

    model_config = ConfigDict(frozen=True)

    event_name: str
    identifier: str
    cancelled_at: datetime
    reason: str | None
    by: str | None


class MeterEvent(Aggregate):
    """One reported use. What was reported never changes; it can be cancelled, once."""

    class UsageRecorded(Aggregate.Created):
        """A use was reported under a meter; the payload is kept as reported."""

        model_config = ConfigDict(arbitrary_types_allowed=True)

        use: ReportedUse

    class EventCancelled(Aggregate.Event):
        """The use counts no more. Carries what a fold needs, so that none has to look elsewhere."""

        event_name: str
        payload: dict[str, str]
        occurred_at: datetime
        recorded_position: int
        reason: str | None
        by: str | None

        def apply(self, aggregate: "MeterEvent") -> None:
            """Remember the cancellation."""
            aggregate.cancellation = Cancellation(
                event_name=self.event_name,
                identifier=aggregate.identifier,
                cancelled_at=self.timestamp,
                reason=self.reason,
                by=self.by,
            )

    def __init__(self, use: ReportedUse) -> None:
        self.use = use
        self.cancellation: Cancellation | None = None

    @staticmethod
    def stream(identifier: str) -> str:
        """The id of the stream that `identifier` names: the key of idempotency, for ever."""
        return STREAM_PREFIX + identifier

    @property
    def identifier(self) -> str:
        """The caller's name for this meter event."""
        return self.id.removeprefix(STREAM_PREFIX)

    @classmethod
    def record(cls, identifier: str, use: ReportedUse) -> "MeterEvent":
        """Begin a meter event."""
        return cls._create(cls.UsageRecorded, id=cls.stream(identifier), timestamp=use.recorded_at, use=use)

    def cancel(
        self, event_name: str, *, recorded_position: int, at: datetime, policy: AcceptancePolicy,
        reason: str | None = None, by: str | None = None,
    ) -> Cancellation:  # fmt: skip
        """Let the use count no more; a second time, give the first cancellation.

        `recorded_position` is where the ledger holds the report. Raises InvalidCancel for another meter's
        event and outside the policy's window. Source: Stripe cancels within 24 hours of receipt.
        """
        use = self.use
        if event_name != use.event_name:
            raise InvalidCancel(
                f"The event {self.identifier!r} was recorded under the meter {use.event_name!r}, not {event_name!r}.",
                field="event_name",
                value=event_name,
            )
        if self.cancellation is None:
            policy.check_cancel(self.identifier, use.recorded_at, at)
            self.trigger_event(
                self.EventCancelled, timestamp=at, event_name=use.event_name, payload=use.payload,
                occurred_at=use.occurred_at, recorded_position=recorded_position, reason=reason, by=by,
            )  # fmt: skip
        assert self.cancellation is not None
        return self.cancellation
