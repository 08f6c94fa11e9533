"""The screen Proposals: changes that need the approval of a second person, and who decides on them."""

from contextlib import nullcontext

from .....domain.access_key import Scope
from .....domain.calendar import get_timezone
from .....domain.errors import ProposalNotFound
from .....domain.proposal import ProposalStatus
from .....domain.proposed_changes import CancellationProposal, PolicyProposal, ReopeningProposal, RulesProposal
from .....projections.models import GenerationState
from ....approvals.views import ProposalView
from ....queries.comparison import GenerationDifference
from ...http.errors import ApiError, invalid_parameter
from ...http.ledgers import exclusive_job
from ..registry import ViewContext, ViewRegistry, missing_scope
from ..responses import Page, Redirect
from ..tasks import task_of_page
from .customer_period import require_customer

views = ViewRegistry()
PAGE_SIZE, MAX_ROWS = 50, 100


@views.get("/proposals", is_large=True)
def list_proposals(context: ViewContext) -> Page:
    """Show the proposals: those to decide on first, each kind with the newest first."""
    proposals, first = context.metering.proposals, context.params.number("first", 0)
    order = sorted(
        ((one.status is ProposalStatus.PENDING, one.proposed_at, one.proposal_id) for one in proposals.iterate()),
        reverse=True,
    )
    return Page(
        "proposals.html",
        {
            "proposals": [proposals.get(proposal_id) for *_, proposal_id in order[first : first + PAGE_SIZE]],
            "first": first, "page_size": PAGE_SIZE, "total": len(order), "policy": proposals.policy(),
            "timezone": get_timezone("UTC"),
        },
    )  # fmt: skip


@views.get("/proposal", is_large=True)
def proposal(context: ViewContext) -> Page:
    """Show a proposal, and what it would change, to a user who may approve it."""
    found, zone = _find(context), get_timezone(context.params.get("timezone", "UTC"))
    is_pending, may_decide = found.status is ProposalStatus.PENDING, context.user.allows(Scope.APPROVE)
    preview = None
    if is_pending and may_decide:
        if isinstance(found.change, RulesProposal):
            preview = _difference(context, found.change, zone.key)
        elif isinstance(found.change, ReopeningProposal | CancellationProposal):
            preview = context.metering.proposals.preview(found.proposal_id, timezone=zone.key)
    return Page(
        "proposal.html",
        {
            "proposal": found, "is_pending": is_pending, "may_decide": may_decide, "preview": preview,
            "is_own": found.proposed_by == context.user.by, "task": task_of_page(context), "timezone": zone,
            "max_rows": MAX_ROWS,
        },
    )  # fmt: skip


@views.post("/proposal/preview", Scope.APPROVE)
def start_preview(context: ViewContext) -> Redirect:
    """Build a candidate under proposed rules, in the background."""
    found = _find(context)
    if not isinstance(found.change, RulesProposal):
        raise invalid_parameter("id", "The preview of this proposal is on its page.")
    task = context.metering.tasks.build_candidate(
        found.change.event_name, dict(found.change.rules), effective_from=found.change.effective_from,
        by=context.user.by,
    )  # fmt: skip
    return Redirect(context.url("/proposal", id=found.proposal_id, task=task.id))


@views.post("/proposal/approve", Scope.APPROVE)
def approve(context: ViewContext) -> Redirect:
    """Approve a proposal of somebody else: its change takes effect. A change of the policy needs `admin` too."""
    found = _find(context)
    if isinstance(found.change, PolicyProposal) and not context.user.allows(Scope.ADMIN):
        raise missing_scope(Scope.ADMIN)
    with exclusive_job(context.user.ledger) if isinstance(found.change, RulesProposal) else nullcontext():
        context.metering.proposals.approve(found.proposal_id, by=context.user.by)
    return Redirect(context.url("/proposal", id=found.proposal_id, done="approved"))


@views.post("/proposal/reject", Scope.APPROVE)
def reject(context: ViewContext) -> Redirect:
    """Reject a proposal, for a reason."""
    found = _find(context)
    context.metering.proposals.reject(found.proposal_id, reason=context.params.get("reason"), by=context.user.by)
    return Redirect(context.url("/proposal", id=found.proposal_id, done="rejected"))


@views.post("/proposals/rules", Scope.RULES)
def propose_rules(context: ViewContext) -> Redirect:
    """Propose the rules of a meter under which a generation was built."""
    number, event_name = context.params.number("generation", 0), context.params.exact("meter")
    generation = next((one for one in context.metering.generations.list() if one.number == number), None)
    if generation is None or event_name not in generation.rules:
        raise ApiError(404, "There is no such preview of rules any more. Preview the change again.")
    proposed = context.metering.proposals.propose_rules(
        event_name, dict(generation.rules[event_name]), reason=context.params.get("reason"), by=context.user.by,
        effective_from=generation.effective_from.get(event_name),
    )  # fmt: skip
    return _proposed(context, proposed)


@views.post("/proposals/reopening", Scope.CLOSE)
def propose_reopening(context: ViewContext) -> Redirect:
    """Propose to reopen a closed period of a customer."""
    selection, customer = require_customer(context)
    proposed = context.metering.proposals.propose_reopening(
        selection.event_name, customer, selection.start, selection.end, reason=context.params.get("reason"),
        by=context.user.by, withdraw_settlements=context.params.is_set("withdraw_settlements"),
    )  # fmt: skip
    return _proposed(context, proposed)


def _find(context: ViewContext) -> ProposalView:
    """Return the proposal that the parameter `id` names. Raises ProposalNotFound."""
    proposal_id = context.params.exact("id")
    if not proposal_id:
        raise ProposalNotFound("No proposal was named.", field="proposal_id")
    return context.metering.proposals.get(proposal_id)


def _difference(context: ViewContext, change: RulesProposal, timezone: str) -> GenerationDifference | None:
    """Return the difference of a candidate that was built under the proposed rules; None if there is none."""
    for generation in context.metering.generations.list():
        rules, effective_from = (
            values.get(change.event_name) for values in (generation.rules, generation.effective_from)
        )
        is_candidate = generation.state is GenerationState.READY and set(generation.rules) == {change.event_name}
        if is_candidate and (rules, effective_from) == (change.rules, change.effective_from):
            return context.metering.generations.diff(generation.number, timezone=timezone)
    return None


def _proposed(context: ViewContext, proposed: ProposalView) -> Redirect:
    return Redirect(context.url("/proposal", id=proposed.proposal_id, done="proposed"))
