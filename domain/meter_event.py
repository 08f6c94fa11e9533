"""The MeterEvent aggregate: one recorded meter event, and its cancellation.

Invariant: recorded data never changes, and an event is cancelled at most once.
"""

from datetime import datetime

import msgspec
from pydantic import BaseModel, ConfigDict

from .aggregate import Aggregate
from .errors import InvalidCancellation
from .meter_event_input import MeterEventInput
from .policy import AcceptancePolicy
from .timestamps import to_microseconds

STREAM_PREFIX = "event/"


class MeterEventData(msgspec.Struct, frozen=True, gc=False):
    """A meter event as it is stored. Its fields are the storage format.

    It is a msgspec struct, because every meter event is written and folded as one, and creating a pydantic model takes
    longer than storing the row.
    """

    recorded_at: datetime
    event_name: str
    payload: dict[str, str]
    occurred_at: datetime

    def matches(self, event_input: MeterEventInput) -> bool:
        """Return whether `event_input` is a retry of this meter event.

        The timestamp is compared only if the input has one: a retry without a timestamp is the same meter event.
        """
        return (
            self.event_name == event_input.event_name
            and self.payload == event_input.payload
            # Compare instants: Python never treats a datetime in a repeated hour as equal to one in another timezone.
            and (
                event_input.timestamp is None
                or to_microseconds(self.occurred_at) == to_microseconds(event_input.timestamp)
            )
        )


class Cancellation(BaseModel):
    """The cancellation of a meter event: when, why and by whom."""

    model_config = ConfigDict(frozen=True)

    event_name: str
    identifier: str
    cancelled_at: datetime
    reason: str | None
    by: str | None


class MeterEvent(Aggregate):
    """A recorded meter event."""

    class UsageRecorded(Aggregate.Created):
        """A meter event was recorded. The payload is stored as submitted."""

        model_config = ConfigDict(arbitrary_types_allowed=True)

        data: MeterEventData

    class EventCancelled(Aggregate.Event):
        """The meter event was cancelled. Repeats its data, so that a fold needs no lookup."""

        event_name: str
        payload: dict[str, str]
        occurred_at: datetime
        recorded_position: int
        reason: str | None
        by: str | None

        def apply(self, aggregate: "MeterEvent") -> None:
            """Set the cancellation."""
            aggregate.cancellation = Cancellation(
                event_name=self.event_name,
                identifier=aggregate.identifier,
                cancelled_at=self.timestamp,
                reason=self.reason,
                by=self.by,
            )

    def __init__(self, data: MeterEventData) -> None:
        self.data = data
        self.cancellation: Cancellation | None = None

    @staticmethod
    def stream_id(identifier: str) -> str:
        """Return the id of the stream of the meter event `identifier`. The identifier is the idempotency key."""
        return STREAM_PREFIX + identifier

    @property
    def identifier(self) -> str:
        """The identifier that the caller chose, or that was generated."""
        return self.id.removeprefix(STREAM_PREFIX)

    @classmethod
    def create(cls, identifier: str, data: MeterEventData) -> "MeterEvent":
        """Create a meter event."""
        return cls._create(cls.UsageRecorded, id=cls.stream_id(identifier), timestamp=data.recorded_at, data=data)

    def cancel(
        self, event_name: str, *, recorded_position: int, at: datetime, policy: AcceptancePolicy,
        reason: str | None = None, by: str | None = None,
    ) -> Cancellation:  # fmt: skip
        """Cancel the meter event and return the cancellation; the existing one if it is cancelled already.

        `recorded_position` is the ledger position of the event. Raises InvalidCancellation if the event belongs to
        another meter or is older than the policy's cancel window. Source: Stripe cancels within 24 hours of receipt.
        """
        data = self.data
        if event_name != data.event_name:
            raise InvalidCancellation(
                f"The event {self.identifier!r} was recorded under the meter {data.event_name!r}, not {event_name!r}.",
                field="event_name",
                value=event_name,
            )
        if self.cancellation is None:
            policy.check_cancel(self.identifier, data.recorded_at, at)
            self.trigger_event(
                self.EventCancelled, timestamp=at, event_name=data.event_name, payload=data.payload,
                occurred_at=data.occurred_at, recorded_position=recorded_position, reason=reason, by=by,
            )  # fmt: skip
        assert self.cancellation is not None
        return self.cancellation
