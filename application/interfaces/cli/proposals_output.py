"""Proposals and the approval policy as text."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..formatting import (
    format_author,
    format_count,
    format_effective_from,
    format_number,
    format_requester,
    format_rules,
    format_time,
)
from .bulk_cancellations_output import show_preview as show_cancellation_preview
from .periods_output import show_preview as show_period_preview
from .projection_output import LimitedDifference, show_changed_totals
from .tables import fields, table
from .terminal import format_name, say

if TYPE_CHECKING:
    from ....domain.approval_policy import ChangeKind
    from ....domain.proposed_changes import ProposedChange
    from ...approvals.views import ApprovalPolicyView, ProposalView
    from .proposals import ProposalWithPreview


def show_proposals(proposals: Sequence["ProposalView"]) -> None:
    """Print one line for each proposal."""
    if not proposals:
        say("No proposals.")
        return
    rows = [
        (proposal.proposal_id, _describe(proposal.change), proposal.reason,
         format_author(proposal.proposed_by, proposal.on_behalf_of), _format_status(proposal))
        for proposal in proposals
    ]  # fmt: skip
    table(("id", "change", "reason", "by", "status"), rows, whole=("id",))


def show_proposal(proposal: "ProposalView") -> None:
    """Print what is proposed by whom and why, and the decision."""
    say(f"{proposal.status}: {_describe(proposal.change)}")
    fields(_fields(proposal))


def show_proposal_with_preview(timezone: str, limit: int, shown: "ProposalWithPreview") -> None:
    """Print a proposal and what it would change."""
    from ....domain.calendar import get_timezone  # noqa: PLC0415 - loads the domain

    show_proposal(shown.proposal)
    preview: Any = shown.preview
    if preview is None:
        return
    say()
    match shown.proposal.kind:
        case "rules":
            show_changed_totals(LimitedDifference.from_difference(preview, "month", timezone, limit))
        case "reopening":
            show_period_preview(get_timezone(timezone), preview)
        case _:
            show_cancellation_preview(timezone, limit, preview)


def show_policy(policy: "ApprovalPolicyView") -> None:
    """Print which kinds of changes need approval."""
    if policy.required:
        say(f"Changes of these kinds need approval: {', '.join(policy.required)}.")
    else:
        say("No changes need approval.")
    if policy.changed_at is not None:
        at = format_time(policy.changed_at.replace(microsecond=0))
        say(f"set {at}{format_requester(None, policy.by)}")


def _fields(proposal: "ProposalView") -> Iterator[tuple[str, str]]:
    yield "id", proposal.proposal_id
    yield "reason", proposal.reason
    yield "proposed", _format_moment(proposal)
    if proposal.decided_at is None:
        yield "expires", format_time(proposal.expires_at.replace(microsecond=0))
    elif proposal.decided_by is not None:
        decider = format_requester(proposal.decision_reason, proposal.decided_by, proposal.decided_on_behalf_of)
        yield str(proposal.status), format_time(proposal.decided_at.replace(microsecond=0)) + decider


def _format_moment(proposal: "ProposalView") -> str:
    at = format_time(proposal.proposed_at.replace(microsecond=0))
    return at + format_requester(None, proposal.proposed_by, proposal.on_behalf_of)


def _format_status(proposal: "ProposalView") -> str:
    return f"{proposal.status}{format_requester(None, proposal.decided_by, proposal.decided_on_behalf_of)}"


def _describe(change: "ProposedChange") -> str:
    """Return a proposed change in words."""
    match change.kind:
        case "rules":
            return f"rules of {change.event_name}: {format_rules(change.rules)}" + format_effective_from(
                change.effective_from
            )
        case "reopening":
            bounds = f"{format_time(change.start)} to {format_time(change.end)}"
            withdrawn = ", withdrawing its settlements" if change.withdraw_settlements else ""
            return f"reopen {change.event_name}, {format_name(change.customer)}, {bounds}{withdrawn}"
        case "cancellation":
            selected = format_count(change.count, "event")
            return f"cancel {selected} of {change.event_name}, as of position {format_number(change.position)}"
        case "revocation":
            return f"revoke the bulk cancellation {change.cancellation_id}"
        case "policy":
            return _describe_policy(change.required)


def _describe_policy(required: Sequence["ChangeKind"]) -> str:
    """Return which kinds of changes would need approval, and which would not."""
    from ....domain.approval_policy import ChangeKind  # noqa: PLC0415 - loads the domain

    others = [kind for kind in ChangeKind if kind not in required]
    required_for, not_required_for = (", ".join(kinds) or "none" for kinds in (required, others))
    return f"change the approval policy: required for {required_for}; not required for {not_required_for}"
