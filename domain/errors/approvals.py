"""Errors of changes that need the approval of a second person."""

from .base import Conflict, NotFound, PermissionDenied


class ApprovalRequired(PermissionDenied):
    """The approval policy of the ledger requires that this change is proposed, and approved by somebody else."""

    code = "approval_required"


class ApproverNotIndependent(PermissionDenied):
    """The approver is the proposer, or one of them created the access key of the other."""

    code = "approver_not_independent"


class ProposalNotFound(NotFound):
    """No proposal has this id."""

    code = "proposal_not_found"


class ProposalClosed(Conflict):
    """The proposal is already approved, rejected or expired."""

    code = "proposal_closed"


class TooManyProposals(Conflict):
    """Too many proposals are pending: of the proposer, or in all."""

    code = "too_many_proposals"


class ProposalOutdated(Conflict):
    """The ledger has changed since the proposal, so that it no longer fits."""

    code = "proposal_outdated"
