"""The MeterEvent aggregate: one recorded meter event, its cancellation, and the revocation of that.

Invariant: recorded data never changes, and cancellations and revocations alternate.
"""

import operator
from datetime import datetime

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from .acceptance_policy import AcceptancePolicy
from .aggregate import Aggregate
from .authorship import AcceptedUnder
from .errors import InvalidCancellation
from .meter_event_input import MeterEventInput
from .timestamps import to_microseconds

STREAM_PREFIX = "event/"


class MeterEventData(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A meter event as it is stored. Its fields are the storage format.

    It is a msgspec struct, because every meter event is written and folded as one, and creating a pydantic model takes
    longer than storing the row. An event without author stores no field for it: it belongs to an import, which has the
    author, or the program that recorded it has stated none. `via` is not stored if it is `library`.
    """

    recorded_at: datetime
    event_name: str
    payload: dict[str, str]
    occurred_at: datetime
    by: str | None = None
    via: str | None = None
    on_behalf_of: str | None = None
    accepted_under: AcceptedUnder | None = None

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
    """The cancellation of a meter event: when, why and by whom, and on behalf of whom if the author stated that."""

    model_config = ConfigDict(frozen=True)

    event_name: str
    identifier: str
    cancelled_at: datetime
    reason: str | None
    by: str | None
    on_behalf_of: str | None = None


class Revocation(BaseModel):
    """The revocation of a cancellation, after which the meter event counts again: when, why and by whom."""

    model_config = ConfigDict(frozen=True)

    event_name: str
    identifier: str
    cancelled_at: datetime
    revoked_at: datetime
    reason: str
    by: str | None
    on_behalf_of: str | None = None


class MeterEvent(Aggregate):
    """A recorded meter event."""

    class UsageRecorded(Aggregate.Created):
        """A meter event was recorded. The payload is stored as submitted."""

        model_config = ConfigDict(arbitrary_types_allowed=True)

        data: MeterEventData

    class EventCancelled(Aggregate.Event):
        """The meter event was cancelled. Repeats its data, so that a fold needs no lookup.

        `cancellation_id` is that of the bulk cancellation that it belongs to, if any.
        """

        event_name: str
        payload: dict[str, str]
        occurred_at: datetime
        recorded_position: int
        reason: str | None
        by: str | None
        cancellation_id: str | None = Field(default=None, exclude_if=operator.not_)

        def apply(self, aggregate: "MeterEvent") -> None:
            """Set the cancellation."""
            aggregate.cancellation = Cancellation(
                event_name=self.event_name,
                identifier=aggregate.identifier,
                cancelled_at=self.timestamp,
                reason=self.reason,
                by=self.by,
                on_behalf_of=self.on_behalf_of,
            )

    class CancelRevoked(Aggregate.Event):
        """The cancellation was revoked: the meter event counts again. Repeats its data, as the cancellation does.

        `cancellation_id` is that of the bulk cancellation that was revoked, if any.
        """

        event_name: str
        payload: dict[str, str]
        occurred_at: datetime
        recorded_position: int
        reason: str
        by: str | None
        cancellation_id: str | None = Field(default=None, exclude_if=operator.not_)

        def apply(self, aggregate: "MeterEvent") -> None:
            """Clear the cancellation."""
            assert aggregate.cancellation is not None
            aggregate.revocation = Revocation(
                event_name=self.event_name,
                identifier=aggregate.identifier,
                cancelled_at=aggregate.cancellation.cancelled_at,
                revoked_at=self.timestamp,
                reason=self.reason,
                by=self.by,
                on_behalf_of=self.on_behalf_of,
            )
            aggregate.cancellation = None

    def __init__(self, data: MeterEventData) -> None:
        self.data = data
        self.cancellation: Cancellation | None = None
        self.revocation: Revocation | None = None

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
        self._check_event_name(event_name)
        if self.cancellation is None:
            policy.check_cancel(self.identifier, data.recorded_at, at)
            self.trigger_event(
                self.EventCancelled, timestamp=at, event_name=data.event_name, payload=data.payload,
                occurred_at=data.occurred_at, recorded_position=recorded_position, reason=reason, by=by,
                accepted_under=policy.beyond_default_cancel_window(data.recorded_at, at),
            )  # fmt: skip
        assert self.cancellation is not None
        return self.cancellation

    def revoke_cancel(
        self, event_name: str, *, recorded_position: int, at: datetime, policy: AcceptancePolicy, reason: str,
        by: str | None = None,
    ) -> Revocation:  # fmt: skip
        """Revoke the cancellation and return the revocation; the last one if it is revoked already.

        Raises InvalidCancellation if the event belongs to another meter, was never cancelled, or was cancelled longer
        ago than the policy's cancel window.
        """
        data = self.data
        self._check_event_name(event_name)
        if self.cancellation is not None:
            policy.check_revocation(
                f"The cancellation of the event {self.identifier!r}", self.cancellation.cancelled_at, at
            )
            self.trigger_event(
                self.CancelRevoked, timestamp=at, event_name=data.event_name, payload=data.payload,
                occurred_at=data.occurred_at, recorded_position=recorded_position, reason=reason, by=by,
                accepted_under=policy.beyond_default_cancel_window(self.cancellation.cancelled_at, at),
            )  # fmt: skip
        if self.revocation is None:
            raise InvalidCancellation(
                f"The event {self.identifier!r} is not cancelled, so there is no cancellation to revoke.",
                field="identifier",
                value=self.identifier,
            )
        return self.revocation

    @classmethod
    def cancellation_event(
        cls, identifier: str, version: int, data: MeterEventData, *, recorded_position: int, at: datetime, reason: str,
        by: str | None, cancellation_id: str,
    ) -> "MeterEvent.EventCancelled":  # fmt: skip
        """Return the event that cancels a meter event as a part of a bulk cancellation, which has checked the limits.

        `version` is the next one of the meter event, which isn't cancelled. How `by` reached the
        ledger is stored with the decision alone.
        """
        return cls.EventCancelled(
            originator_id=cls.stream_id(identifier), originator_version=version, recorded_at=at,
            event_name=data.event_name, payload=data.payload, occurred_at=data.occurred_at,
            recorded_position=recorded_position, reason=reason, by=by, cancellation_id=cancellation_id,
        )  # fmt: skip

    @classmethod
    def revocation_event(
        cls, cancelled: "MeterEvent.EventCancelled", *, at: datetime, reason: str, by: str | None
    ) -> "MeterEvent.CancelRevoked":
        """Return the event that revokes a cancellation that is a part of a bulk cancellation."""
        return cls.CancelRevoked(
            originator_id=cancelled.originator_id, originator_version=cancelled.originator_version + 1, recorded_at=at,
            event_name=cancelled.event_name, payload=cancelled.payload, occurred_at=cancelled.occurred_at,
            recorded_position=cancelled.recorded_position, reason=reason, by=by,
            cancellation_id=cancelled.cancellation_id,
        )  # fmt: skip

    def _check_event_name(self, event_name: str) -> None:
        if event_name != self.data.event_name:
            raise InvalidCancellation(
                f"The event {self.identifier!r} was recorded under the meter {self.data.event_name!r}, "
                f"not {event_name!r}.",
                field="event_name",
                value=event_name,
            )
