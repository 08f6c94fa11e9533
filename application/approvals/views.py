"""Proposals and the approval policy, as the calls of Metering return them."""

from dataclasses import dataclass
from datetime import datetime

from ...domain.approval_policy import ApprovalPolicy, ChangeKind
from ...domain.proposal import Proposal, ProposalStatus
from ...domain.proposed_changes import ProposedChange


@dataclass(frozen=True, slots=True)
class ProposalView:
    """A proposed change, who proposed it and why, and the decision on it. Times are in UTC.

    `kind` is rules, reopening, cancellation, revocation or policy; `change` has the fields of that kind.
    `decision_reason` is why it was rejected. The names in `on_behalf_of` and `decided_on_behalf_of` were stated by the
    proposer and by whom decided.
    """

    proposal_id: str
    kind: str
    status: ProposalStatus
    change: ProposedChange
    reason: str
    proposed_at: datetime
    proposed_by: str | None
    on_behalf_of: str | None
    expires_at: datetime
    decided_at: datetime | None
    decided_by: str | None
    decided_on_behalf_of: str | None
    decision_reason: str | None

    @classmethod
    def from_aggregate(cls, proposal: Proposal, at: datetime) -> "ProposalView":
        """Return the view of a proposal at a time."""
        return cls(
            proposal.proposal_id,
            proposal.change.kind,
            proposal.status_at(at),
            proposal.change,
            proposal.reason,
            proposal.created_on,
            proposal.by,
            proposal.on_behalf_of,
            proposal.expires_at,
            proposal.decided_at,
            proposal.decided_by,
            proposal.decided_on_behalf_of,
            proposal.decision_reason,
        )


@dataclass(frozen=True, slots=True)
class ApprovalPolicyView:
    """The kinds of changes that need approval, and when and by whom that was set. None if it never was."""

    required: tuple[ChangeKind, ...]
    changed_at: datetime | None
    by: str | None

    @classmethod
    def from_aggregate(cls, policy: ApprovalPolicy | None) -> "ApprovalPolicyView":
        """Return the view of a policy; that of a ledger without one requires nothing."""
        return cls((), None, None) if policy is None else cls(policy.required, policy.modified_on, policy.by)
