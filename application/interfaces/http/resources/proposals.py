"""Proposals: changes that take effect when another access key approves them. An extension."""

from contextlib import nullcontext
from datetime import timedelta
from typing import Annotated, Any, Literal, TypedDict

import msgspec
from msgspec import Meta

from .....domain.access_key import Scope
from .....domain.errors import InvalidParameter, ProposalNotFound
from .....domain.proposal import ProposalStatus
from .....domain.proposed_changes import CancellationProposal, PolicyProposal, RevocationProposal, RulesProposal
from ....approvals.views import ProposalView
from ....cancellation_views import CancellationPreview
from ....invoice_results import PeriodPreview
from ....queries.comparison import GenerationDifference
from ..api_types import Id, ListObject, ListParameters, Name, Parameters, Reason, optional_from_unix
from ..authentication import require_scope
from ..errors import missing_object
from ..ledgers import RequestContext, ServedLedger, exclusive_job
from ..operations import OperationRegistry
from ..pagination import list_response, paginate_unsorted
from ..proposal_objects import ApprovalPolicy, Kind, Proposal, policy_object, proposal_object
from ..rules_parameters import RulesParams, to_rule_changes
from .closed_periods import ClosedPeriodPreview, ReopenPeriod, find_closed_period, preview_object
from .meter_event_cancellations import (
    MAX_EVENTS,
    CreateCancellation,
    MeterEventCancellationPreview,
    RevokeBulkCancellation,
    cancellation_preview_object,
    selection_arguments,
)
from .meter_rules import EffectiveFrom, RulesPreview, rules_preview_object

URL, POLICY_URL = "/v1/billing/proposals", "/v1/billing/approval_policy"
_MAX_DIFFERENCES = 100
operations = OperationRegistry("Proposals")

_Lifetime = Annotated[int, Meta(ge=1, le=90, description="The days after which the proposal expires.")]


class _Terms(TypedDict):
    """The arguments that all proposals have."""

    reason: str
    by: str | None
    expires_after: timedelta
    identifier: str | None


class ProposeRules(RulesParams, kw_only=True):
    """New rules of a meter, from when on they apply, why, and by whom. `by` is stored as `on_behalf_of`."""

    by: Reason | None = None
    effective_from: EffectiveFrom | None = None
    expires_after_days: _Lifetime = 7
    meter: Id
    reason: Reason


class ProposeReopening(ReopenPeriod, kw_only=True):
    """The closed period to reopen, and the parameters of its reopening."""

    closed_period: Id
    expires_after_days: _Lifetime = 7


class ProposeCancellation(CreateCancellation, kw_only=True):
    """The parameters of the meter event cancellation."""

    expires_after_days: _Lifetime = 7


class ProposeRevocation(RevokeBulkCancellation, kw_only=True):
    """The meter event cancellation to revoke, and the parameters of its revocation."""

    cancellation: Name
    expires_after_days: _Lifetime = 7


class ProposePolicy(Parameters, kw_only=True):
    """The kinds of changes that need approval. An empty list, which only JSON can express, lifts the requirement."""

    by: Reason | None = None
    expires_after_days: _Lifetime = 7
    reason: Reason
    required: list[Kind]


class SetApprovalPolicy(Parameters, kw_only=True):
    """The kinds of changes that need approval: all that need it already, and others. `by` is as in a proposal."""

    by: Reason | None = None
    required: list[Kind]


class ListProposals(ListParameters, kw_only=True):
    """A filter for proposals: the status."""

    status: Literal["approved", "expired", "pending", "rejected"] | None = None


class PreviewProposal(Parameters, kw_only=True):
    """The timezone of the months."""

    timezone: Name = "UTC"


class ApproveProposal(Parameters, kw_only=True):
    """Who approves. `by` is stored as `on_behalf_of`."""

    by: Reason | None = None


class RejectProposal(ApproveProposal, kw_only=True):
    """Why a proposal is rejected, and by whom. `by` is stored as `on_behalf_of`."""

    reason: Reason


class ProposalPreview(msgspec.Struct, kw_only=True):
    """What a proposal would change as of now, in the form of the preview of such a change. The other ones are null."""

    id: str
    object: Literal["billing.proposal_preview"] = "billing.proposal_preview"
    cancellation: MeterEventCancellationPreview | None
    closed_period: ClosedPeriodPreview | None
    livemode: bool
    rules: RulesPreview | None


@operations.get(POLICY_URL)
def retrieve_approval_policy(context: RequestContext[Parameters]) -> ApprovalPolicy:
    """Retrieve which kinds of changes need approval."""
    return policy_object(context.ledger.metering.proposals.policy(), context.ledger)


@operations.post(POLICY_URL, Scope.ADMIN)
def set_approval_policy(context: RequestContext[SetApprovalPolicy]) -> ApprovalPolicy:
    """Require approval for kinds of changes, for every program with this ledger. To remove one, propose the policy."""
    params, ledger = context.params, context.ledger
    return policy_object(ledger.metering.proposals.set_policy(params.required, by=params.by), ledger)


@operations.post(URL + "/rules", Scope.RULES)
def propose_rules(context: RequestContext[ProposeRules]) -> Proposal:
    """Propose to change the rules of a meter."""
    params, ledger = context.params, context.ledger
    view = ledger.metering.proposals.propose_rules(
        ledger.meter(params.meter).event_name, to_rule_changes(params),
        effective_from=optional_from_unix(params.effective_from), **_terms(context),
    )  # fmt: skip
    return proposal_object(view, ledger)


@operations.post(URL + "/reopening", Scope.CLOSE)
def propose_reopening(context: RequestContext[ProposeReopening]) -> Proposal:
    """Propose to reopen a closed period."""
    params, ledger = context.params, context.ledger
    period = find_closed_period(ledger, params.closed_period).period
    view = ledger.metering.proposals.propose_reopening(
        period.event_name, period.customer, period.start, period.end,
        withdraw_settlements=params.withdraw_settlements, **_terms(context),
    )  # fmt: skip
    return proposal_object(view, ledger)


@operations.post(URL + "/cancellation", Scope.CANCEL)
def propose_cancellation(context: RequestContext[ProposeCancellation]) -> Proposal:
    """Propose to cancel meter events by one decision, at most 10,000 of them."""
    params, ledger = context.params, context.ledger
    view = ledger.metering.proposals.propose_cancellation(
        params.event_name, **selection_arguments(params), digest=params.digest,
        max_events=MAX_EVENTS, **_terms(context),
    )  # fmt: skip
    return proposal_object(view, ledger)


@operations.post(URL + "/revocation", Scope.CANCEL)
def propose_revocation(context: RequestContext[ProposeRevocation]) -> Proposal:
    """Propose to revoke a meter event cancellation."""
    view = context.ledger.metering.proposals.propose_revocation(context.params.cancellation, **_terms(context))
    return proposal_object(view, context.ledger)


@operations.post(URL + "/policy", Scope.ADMIN)
def propose_policy(context: RequestContext[ProposePolicy]) -> Proposal:
    """Propose which kinds of changes need approval."""
    view = context.ledger.metering.proposals.propose_policy(context.params.required, **_terms(context))
    return proposal_object(view, context.ledger)


@operations.get(URL)
def list_proposals(context: RequestContext[ListProposals]) -> ListObject[Proposal]:
    """List proposals, newest first.

    A page has fewer than `limit` proposals, and `has_more`, if their changes have more than 4 MB.
    """
    params, ledger = context.params, context.ledger
    proposals = ledger.metering.proposals

    def decode_cursor(object_id: str) -> tuple[object, ...] | None:
        try:
            return _sort_key(proposals.get(object_id))
        except (InvalidParameter, ProposalNotFound):
            return None

    page, has_more = paginate_unsorted(
        proposals.iterate(status=params.status),
        _sort_key,
        decode_cursor,
        params,
        lambda view: len(view.change.model_dump_json()),
    )
    return list_response([proposal_object(view, ledger) for view in page], URL, has_more=has_more)


@operations.get(URL + "/{id}")
def retrieve_proposal(context: RequestContext[Parameters]) -> Proposal:
    """Retrieve a proposal."""
    return proposal_object(_find(context.ledger, context.path_parameters["id"]), context.ledger)


@operations.post(URL + "/{id}/preview", Scope.APPROVE, is_large=True, is_preview=True)
def preview_proposal(context: RequestContext[PreviewProposal]) -> ProposalPreview:
    """Preview what a proposal would change. It may take long for rules; only one such request runs at a time."""
    ledger, timezone = context.ledger, context.params.timezone
    view = _find(ledger, context.path_parameters["id"])
    with exclusive_job(ledger) if isinstance(view.change, RulesProposal) else nullcontext():
        preview = ledger.metering.proposals.preview(view.proposal_id, timezone=timezone)
    rules = None
    if isinstance(preview, GenerationDifference) and isinstance(view.change, RulesProposal):
        rules = rules_preview_object(
            preview, view.change.event_name, view.change.rules, view.change.effective_from, ledger, "month", timezone,
            _MAX_DIFFERENCES,
        )  # fmt: skip
    return ProposalPreview(
        id=view.proposal_id,
        cancellation=cancellation_preview_object(preview, ledger) if isinstance(preview, CancellationPreview) else None,
        closed_period=preview_object(preview, ledger) if isinstance(preview, PeriodPreview) else None,
        livemode=ledger.livemode,
        rules=rules,
    )


@operations.post(URL + "/{id}/approve", Scope.APPROVE)
def approve_proposal(context: RequestContext[ApproveProposal]) -> Proposal:
    """Approve a proposal of another access key: its change takes effect. A change of the policy needs `admin` too."""
    ledger = context.ledger
    view = _find(ledger, context.path_parameters["id"])
    if isinstance(view.change, PolicyProposal):
        require_scope(context.access_key, Scope.ADMIN)
    if context.is_retry and view.status is ProposalStatus.APPROVED and view.decided_by == context.access_key.hint:
        _finish(view, ledger)
        return proposal_object(view, ledger)
    with exclusive_job(ledger) if isinstance(view.change, RulesProposal) else nullcontext():
        approved = ledger.metering.proposals.approve(view.proposal_id, by=context.params.by)
    return proposal_object(approved, ledger)


@operations.post(URL + "/{id}/reject", Scope.APPROVE)
def reject_proposal(context: RequestContext[RejectProposal]) -> Proposal:
    """Reject a proposal, for a reason."""
    params, ledger = context.params, context.ledger
    view = _find(ledger, context.path_parameters["id"])
    if context.is_retry and view.status is ProposalStatus.REJECTED and view.decided_by == context.access_key.hint:
        return proposal_object(view, ledger)
    rejected = ledger.metering.proposals.reject(view.proposal_id, reason=params.reason, by=params.by)
    return proposal_object(rejected, ledger)


def _find(ledger: ServedLedger, proposal_id: str) -> ProposalView:
    try:
        return ledger.metering.proposals.get(proposal_id)
    except (InvalidParameter, ProposalNotFound):
        raise missing_object("proposal", proposal_id) from None


def _finish(approved: ProposalView, ledger: ServedLedger) -> None:
    """Finish an approved bulk cancellation, or its revocation, that was interrupted."""
    match approved.change:
        case CancellationProposal():
            ledger.metering.cancellations.resume(approved.proposal_id)
        case RevocationProposal(cancellation_id=cancellation_id):
            ledger.metering.cancellations.resume(cancellation_id)
        case _:
            pass


def _terms(context: RequestContext[Any]) -> _Terms:
    """Return the arguments that all proposals have. A retry has the identifier of the first request."""
    params = context.params
    lifetime = timedelta(days=params.expires_after_days)
    return _Terms(reason=params.reason, by=params.by, expires_after=lifetime, identifier=context.retry_identifier)


def _sort_key(view: ProposalView) -> tuple[object, ...]:
    return view.proposed_at, view.proposal_id
