"""The `proposal` commands: changes that take effect when somebody else approves them."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .option_groups import TableOptions, with_option_groups
from .options import DEFAULT_LEDGER, DifferenceLimitOption, JsonOption, LedgerOption, OnBehalfOfOption, TimezoneOption
from .proposals_output import show_policy, show_proposal, show_proposal_with_preview, show_proposals
from .session import open_for_query, open_ledger

if TYPE_CHECKING:
    from ...approvals.views import ProposalView

app = typer.Typer(
    help="Show, approve and reject proposals.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ProposalArgument = Annotated[str, typer.Argument(metavar="ID", help="The id of the proposal.", show_default=False)]
StatusOption = Annotated[
    str | None,
    typer.Option(metavar="STATUS", help="Only proposals that are pending, approved, rejected or expired."),
]
RejectReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="The reason, stored in the ledger.")]
RequiredKindsArgument = Annotated[
    list[str],
    typer.Argument(metavar="KIND...", help="Kinds of changes: rules, reopening or cancellation.", show_default=False),
]


@dataclass(frozen=True)
class ProposalWithPreview:
    """A proposal, and what it would change: None if it is decided, or if its fields say it."""

    proposal: "ProposalView"
    preview: Any


@app.command("list")
@with_option_groups
def list_proposals(*, status: StatusOption = None, ledger: LedgerOption = DEFAULT_LEDGER, output: TableOptions) -> None:
    """List proposals, oldest first."""
    with open_ledger(ledger, output.as_json) as session:
        proposals = session.metering.proposals.list(status=status)
        session.print(proposals, output.show(show_proposals, lambda tables: tables.proposals))


@app.command()
def show(
    proposal_id: ProposalArgument,
    timezone: TimezoneOption = "UTC",
    limit: DifferenceLimitOption = 10,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Show a proposal, and what it would change as of now.

    For new rules, this builds a candidate generation of the read models, as 'tallybook rules change' does.
    """
    from ....domain.proposal import ProposalStatus  # noqa: PLC0415 - loads the domain

    with open_for_query(ledger, as_json) as session:
        proposals = session.metering.proposals
        proposal = proposals.get(proposal_id)
        is_pending = proposal.status is ProposalStatus.PENDING
        preview = proposals.preview(proposal_id, timezone=timezone) if is_pending else None
        session.print(ProposalWithPreview(proposal, preview), partial(show_proposal_with_preview, timezone, limit))


@app.command()
def approve(
    proposal_id: ProposalArgument,
    by: OnBehalfOfOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Approve a proposal of somebody else: its change takes effect."""
    with open_for_query(ledger, as_json) as session:
        session.confirm(session.metering.proposals.approve(proposal_id, by=by), show_proposal)


@app.command()
def reject(
    proposal_id: ProposalArgument,
    reason: RejectReasonOption,
    by: OnBehalfOfOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Reject a proposal, or withdraw your own."""
    with open_ledger(ledger, as_json) as session:
        session.confirm(session.metering.proposals.reject(proposal_id, reason=reason, by=by), show_proposal)


@app.command()
def policy(ledger: LedgerOption = DEFAULT_LEDGER, as_json: JsonOption = False) -> None:
    """Show which kinds of changes need approval."""
    with open_ledger(ledger, as_json) as session:
        session.print(session.metering.proposals.policy(), show_policy)


@app.command()
def require(
    kinds: RequiredKindsArgument,
    by: OnBehalfOfOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Require approval for these kinds of changes, for every program with this ledger.

    To remove a kind that is required, use 'tallybook propose policy'.
    """
    with open_ledger(ledger, as_json) as session:
        session.confirm(session.metering.proposals.set_policy(kinds, by=by), show_policy)
