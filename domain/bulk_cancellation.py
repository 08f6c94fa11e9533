"""The BulkCancellation aggregate: one decision that cancels many meter events of a meter, and its revocation.

Invariant: what is selected never changes, and nothing more is cancelled once the decision is revoked. The meter events
are cancelled in several transactions; the last event of each says how many cancellations are stored directly before it.
"""

import operator
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from .acceptance_policy import AcceptancePolicy
from .aggregate import Aggregate
from .authorship import AcceptedUnder

STREAM_PREFIX = "cancellation/"


def _is_none(value: object) -> bool:
    return value is None


class CancellationSelection(BaseModel):
    """The meter events of a meter that are cancelled: those that match all fields that are not None.

    `start` and `end` are a range [start, end) of the time of usage, `recorded_from` and `recorded_until` one of the
    time of recording. `where` has the selected values by dimension key; None is the usage without the dimension.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    customer: str | None = Field(default=None, exclude_if=_is_none)
    start: datetime | None = Field(default=None, exclude_if=_is_none)
    end: datetime | None = Field(default=None, exclude_if=_is_none)
    recorded_from: datetime | None = Field(default=None, exclude_if=_is_none)
    recorded_until: datetime | None = Field(default=None, exclude_if=_is_none)
    import_run: str | None = Field(default=None, exclude_if=_is_none)
    identifier_prefix: str | None = Field(default=None, exclude_if=_is_none)
    where: dict[str, tuple[str | None, ...]] = Field(default={}, exclude_if=operator.not_)

    @property
    def is_everything(self) -> bool:
        """Whether all meter events of the meter are selected."""
        return self == CancellationSelection()


class BulkCancellationStatus(StrEnum):
    """The progress of a bulk cancellation, or of its revocation."""

    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    REVOKING = "revoking"
    REVOKED = "revoked"


class BulkCancellation(Aggregate):
    """One decision that cancels many meter events, with a reason."""

    class EventsCancelled(Aggregate.Created):
        """The cancellation of `count` meter events was decided, for a reason.

        They are those of the selection that were recorded up to `position`, from `cancellable_from` on, and not
        cancelled then. `digest` is the SHA-256 of their identifiers, in the order of their recording.
        """

        event_name: str
        selection: CancellationSelection
        position: int
        cancellable_from: datetime | None = Field(default=None, exclude_if=_is_none)
        count: int
        digest: str
        reason: str
        by: str | None

    class EventsCancelledPart(Aggregate.Event):
        """The `count` events before this one cancel the meter events recorded up to `last_position`."""

        count: int
        last_position: int
        is_last: bool = Field(default=False, exclude_if=operator.not_)
        by: str | None = Field(default=None, exclude_if=operator.not_)

        def apply(self, aggregate: "BulkCancellation") -> None:
            """Count the cancelled meter events."""
            aggregate.cancelled += self.count
            aggregate.last_position = self.last_position
            if self.is_last:
                aggregate.status = BulkCancellationStatus.CANCELLED

    class EventsCancelRevoked(Aggregate.Event):
        """The decision was revoked: the cancelled meter events count again."""

        reason: str
        by: str | None

        def apply(self, aggregate: "BulkCancellation") -> None:
            """Set when, why and by whom it was revoked."""
            aggregate.revoked_at = self.timestamp
            aggregate.revocation_reason = self.reason
            aggregate.revoked_by = self.by
            aggregate.revoked_on_behalf_of = self.on_behalf_of
            aggregate.last_position = 0
            aggregate.status = BulkCancellationStatus.REVOKING

    class EventsCancelRevokedPart(Aggregate.Event):
        """The `count` events before this one revoke the cancellations that are stored up to `last_position`."""

        count: int
        last_position: int
        is_last: bool = Field(default=False, exclude_if=operator.not_)
        by: str | None = Field(default=None, exclude_if=operator.not_)

        def apply(self, aggregate: "BulkCancellation") -> None:
            """Count the meter events that count again."""
            aggregate.revoked += self.count
            aggregate.last_position = self.last_position
            if self.is_last:
                aggregate.status = BulkCancellationStatus.REVOKED

    def __init__(
        self, event_name: str, selection: CancellationSelection, position: int, count: int, digest: str, reason: str,
        by: str | None, cancellable_from: datetime | None = None, on_behalf_of: str | None = None,
    ) -> None:  # fmt: skip
        self.event_name = event_name
        self.selection = selection
        self.position = position
        self.cancellable_from = cancellable_from
        self.count = count
        self.digest = digest
        self.reason = reason
        self.by = by
        self.on_behalf_of = on_behalf_of
        self.cancelled = 0
        self.revoked = 0
        self.last_position = 0
        self.status = BulkCancellationStatus.CANCELLING
        self.revoked_at: datetime | None = None
        self.revocation_reason: str | None = None
        self.revoked_by: str | None = None
        self.revoked_on_behalf_of: str | None = None

    @staticmethod
    def stream_id(cancellation_id: str) -> str:
        """Return the id of the stream of the bulk cancellation `cancellation_id`."""
        return STREAM_PREFIX + cancellation_id

    @property
    def cancellation_id(self) -> str:
        """The id of the bulk cancellation."""
        return self.id.removeprefix(STREAM_PREFIX)

    @property
    def is_running(self) -> bool:
        """Whether meter events remain to be cancelled or to be counted again."""
        return self.status in (BulkCancellationStatus.CANCELLING, BulkCancellationStatus.REVOKING)

    @classmethod
    def decide(
        cls, cancellation_id: str, event_name: str, selection: CancellationSelection, *, position: int,
        cancellable_from: datetime | None, count: int, digest: str, reason: str, by: str | None, at: datetime,
        accepted_under: AcceptedUnder | None = None,
    ) -> "BulkCancellation":  # fmt: skip
        """Decide to cancel the meter events of a selection."""
        return cls._create(
            cls.EventsCancelled, id=cls.stream_id(cancellation_id), timestamp=at, event_name=event_name,
            selection=selection, position=position, cancellable_from=cancellable_from, count=count, digest=digest,
            reason=reason, by=by, accepted_under=accepted_under,
        )  # fmt: skip

    def advance(self, count: int, last_position: int, *, is_last: bool, at: datetime) -> None:
        """Take note of a part of the cancellations, or of their revocations."""
        is_revoked = self.status is BulkCancellationStatus.REVOKING
        part = self.EventsCancelRevokedPart if is_revoked else self.EventsCancelledPart
        self.trigger_event(part, timestamp=at, count=count, last_position=last_position, is_last=is_last)

    def revoke(self, *, reason: str, by: str | None, at: datetime, policy: AcceptancePolicy) -> None:
        """Revoke the decision, also if not all of its meter events are cancelled yet; do nothing if it is revoked.

        Raises InvalidCancellation if it was made longer ago than the policy's cancel window.
        """
        if self.revoked_at is None:
            policy.check_revocation(f"The bulk cancellation {self.cancellation_id!r}", self.created_on, at)
            self.trigger_event(
                self.EventsCancelRevoked, timestamp=at, reason=reason, by=by,
                accepted_under=policy.beyond_default_cancel_window(self.created_on, at),
            )  # fmt: skip
