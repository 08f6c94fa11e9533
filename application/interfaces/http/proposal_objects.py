"""Objects of proposals and of the approval policy."""

from typing import Literal

import msgspec

from ....domain.proposal import ProposalStatus
from ....domain.proposed_changes import (
    CancellationProposal,
    PolicyProposal,
    ProposedChange,
    ReopeningProposal,
    RevocationProposal,
    RulesProposal,
)
from ...approvals.views import ApprovalPolicyView, ProposalView
from .api_types import optional_unix, to_unix
from .ledgers import ServedLedger
from .object_ids import METER_PREFIX, encode_id
from .rules_objects import RulesObject

Kind = Literal["cancellation", "reopening", "rules"]


class ProposedRules(msgspec.Struct, kw_only=True):
    """New rules of a meter whose newest revision is `revision`, for usage from `effective_from` on."""

    effective_from: int | None
    meter: str
    revision: int
    rules: RulesObject


class ProposedReopening(msgspec.Struct, kw_only=True):
    """The closed period to reopen, by when it was closed."""

    closed_at: int
    customer: str
    end_time: int
    meter: str
    start_time: int
    withdraw_settlements: bool


class ProposedCancellation(msgspec.Struct, kw_only=True):
    """The `count` meter events to cancel, as of `position`. `digest` is that of their preview."""

    count: int
    digest: str
    event_name: str
    position: int


class ProposedRevocation(msgspec.Struct, kw_only=True):
    """The meter event cancellation to revoke."""

    cancellation: str


class ProposedPolicy(msgspec.Struct, kw_only=True):
    """The kinds of changes that would need approval."""

    required: list[Kind]


class Proposal(msgspec.Struct, kw_only=True):
    """A proposed change, who proposed it and why, and the decision on it.

    `type` names the field that has the change; the other ones are null. An approved cancellation has the id of its
    proposal. `by` is the access key, and `on_behalf_of` the name that the caller stated.
    """

    id: str
    object: Literal["billing.proposal"] = "billing.proposal"
    by: str | None
    cancellation: ProposedCancellation | None
    created: int
    decided_at: int | None
    decided_by: str | None
    decided_on_behalf_of: str | None
    decision_reason: str | None
    expires_at: int
    livemode: bool
    on_behalf_of: str | None
    policy: ProposedPolicy | None
    reason: str
    reopening: ProposedReopening | None
    revocation: ProposedRevocation | None
    rules: ProposedRules | None
    status: ProposalStatus
    type: Literal["cancellation", "policy", "reopening", "revocation", "rules"]


class ApprovalPolicy(msgspec.Struct, kw_only=True):
    """The kinds of changes that need approval, and when and by whom that was set."""

    object: Literal["billing.approval_policy"] = "billing.approval_policy"
    by: str | None
    livemode: bool
    required: list[Kind]
    updated: int | None


def proposal_object(view: ProposalView, ledger: ServedLedger) -> Proposal:
    """Return the object of a proposal."""
    change = view.change
    return Proposal(
        id=view.proposal_id,
        by=view.proposed_by,
        cancellation=_cancellation(change),
        created=to_unix(view.proposed_at),
        decided_at=optional_unix(view.decided_at),
        decided_by=view.decided_by,
        decided_on_behalf_of=view.decided_on_behalf_of,
        decision_reason=view.decision_reason,
        expires_at=to_unix(view.expires_at),
        livemode=ledger.livemode,
        on_behalf_of=view.on_behalf_of,
        policy=ProposedPolicy(required=_kinds(change.required)) if isinstance(change, PolicyProposal) else None,
        reason=view.reason,
        reopening=_reopening(change),
        revocation=(
            ProposedRevocation(cancellation=change.cancellation_id) if isinstance(change, RevocationProposal) else None
        ),
        rules=_rules(change),
        status=view.status,
        type=change.kind,
    )


def policy_object(view: ApprovalPolicyView, ledger: ServedLedger) -> ApprovalPolicy:
    """Return the object of the approval policy."""
    return ApprovalPolicy(
        by=view.by, livemode=ledger.livemode, required=_kinds(view.required), updated=optional_unix(view.changed_at)
    )


def _kinds(required: tuple[str, ...]) -> list[Kind]:
    return msgspec.convert([str(kind) for kind in required], list[Kind])


def _rules(change: ProposedChange) -> ProposedRules | None:
    if not isinstance(change, RulesProposal):
        return None
    return ProposedRules(
        effective_from=optional_unix(change.effective_from),
        meter=encode_id(METER_PREFIX, change.event_name),
        revision=change.revision,
        rules=RulesObject.from_rules(change.rules),
    )


def _reopening(change: ProposedChange) -> ProposedReopening | None:
    if not isinstance(change, ReopeningProposal):
        return None
    return ProposedReopening(
        closed_at=to_unix(change.closed_at),
        customer=change.customer,
        end_time=to_unix(change.end),
        meter=encode_id(METER_PREFIX, change.event_name),
        start_time=to_unix(change.start),
        withdraw_settlements=change.withdraw_settlements,
    )


def _cancellation(change: ProposedChange) -> ProposedCancellation | None:
    if not isinstance(change, CancellationProposal):
        return None
    return ProposedCancellation(
        count=change.count, digest=change.digest, event_name=change.event_name, position=change.position
    )
