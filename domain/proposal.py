"""The Proposal aggregate: a change that takes effect when somebody else than its proposer approves it.

Invariant: a proposal is approved, rejected or expired once. Its approval is stored in the transaction of the change.
"""

from datetime import datetime
from enum import StrEnum

from .aggregate import Aggregate
from .authorship import Author
from .errors import ProposalClosed
from .proposed_changes import ProposedChange

STREAM_PREFIX = "proposal/"


class ProposalStatus(StrEnum):
    """What became of a proposal."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"


class Proposal(Aggregate):
    """A proposed change, and the decision on it."""

    class ChangeProposed(Aggregate.Created):
        """A change was proposed for a reason. It can be approved until `expires_at`."""

        change: ProposedChange
        reason: str
        expires_at: datetime
        by: str | None

    class ProposalApproved(Aggregate.Event):
        """The proposal was approved. The change is stored in the same transaction."""

        by: str | None

        def apply(self, aggregate: "Proposal") -> None:
            """Set the decision."""
            aggregate.set_decision(ProposalStatus.APPROVED, self)

    class ProposalRejected(Aggregate.Event):
        """The proposal was rejected, or withdrawn by its proposer, for a reason."""

        reason: str
        by: str | None

        def apply(self, aggregate: "Proposal") -> None:
            """Set the decision and its reason."""
            aggregate.set_decision(ProposalStatus.REJECTED, self)
            aggregate.decision_reason = self.reason

    class ProposalExpired(Aggregate.Event):
        """It was found that the time to approve the proposal has passed."""

        by: str | None

        def apply(self, aggregate: "Proposal") -> None:
            """Set the decision."""
            aggregate.set_decision(ProposalStatus.EXPIRED, self)

    def __init__(
        self, change: ProposedChange, reason: str, expires_at: datetime, by: str | None, via: str | None = None,
        on_behalf_of: str | None = None,
    ) -> None:  # fmt: skip
        self.change = change
        self.reason = reason
        self.expires_at = expires_at
        self.by = by
        self.via = via
        self.on_behalf_of = on_behalf_of
        self.status = ProposalStatus.PENDING
        self.decided_at: datetime | None = None
        self.decided_by: str | None = None
        self.decided_on_behalf_of: str | None = None
        self.decision_reason: str | None = None

    def set_decision(
        self, status: ProposalStatus, event: "ProposalApproved | ProposalRejected | ProposalExpired"
    ) -> None:
        """Set what the proposal became, when and by whom."""
        self.status = status
        self.decided_at = event.timestamp
        self.decided_by = event.by
        self.decided_on_behalf_of = event.on_behalf_of

    @staticmethod
    def stream_id(proposal_id: str) -> str:
        """Return the id of the stream of the proposal `proposal_id`."""
        return STREAM_PREFIX + proposal_id

    @property
    def proposal_id(self) -> str:
        """The id of the proposal."""
        return self.id.removeprefix(STREAM_PREFIX)

    @property
    def proposer(self) -> Author:
        """Who made the proposal, and how."""
        return Author(self.by, self.via or "", self.on_behalf_of)

    def status_at(self, at: datetime) -> ProposalStatus:
        """Return the status at a time: a pending proposal expires without an event."""
        is_expired = self.status is ProposalStatus.PENDING and at >= self.expires_at
        return ProposalStatus.EXPIRED if is_expired else self.status

    @classmethod
    def create(
        cls, proposal_id: str, change: ProposedChange, *, reason: str, expires_at: datetime, by: str | None,
        at: datetime,
    ) -> "Proposal":  # fmt: skip
        """Propose a change."""
        return cls._create(
            cls.ChangeProposed, id=cls.stream_id(proposal_id), timestamp=at, change=change, reason=reason,
            expires_at=expires_at, by=by,
        )  # fmt: skip

    def approve(self, *, by: str | None, at: datetime) -> None:
        """Approve the proposal. Raises ProposalClosed if it is decided or expired."""
        self.require_pending(at)
        self.trigger_event(self.ProposalApproved, timestamp=at, by=by)

    def reject(self, *, reason: str, by: str | None, at: datetime) -> None:
        """Reject the proposal. Raises ProposalClosed if it is decided or expired."""
        self.require_pending(at)
        self.trigger_event(self.ProposalRejected, timestamp=at, reason=reason, by=by)

    def expire(self, *, by: str | None, at: datetime) -> None:
        """Take note that the time to approve the proposal has passed; do nothing if it has not, or is noted."""
        if self.status is ProposalStatus.PENDING and at >= self.expires_at:
            self.trigger_event(self.ProposalExpired, timestamp=at, by=by)

    def require_pending(self, at: datetime) -> None:
        """Raise ProposalClosed if the proposal is approved, rejected or expired."""
        status = self.status_at(at)
        if status is not ProposalStatus.PENDING:
            by = f" by {self.decided_by}" if self.decided_by and status is not ProposalStatus.EXPIRED else ""
            raise ProposalClosed(
                f"The proposal {self.proposal_id!r} is {status}{by}. Propose the change again, if it is still wanted.",
                field="proposal_id",
                value=self.proposal_id,
            )
