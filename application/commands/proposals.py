"""Proposals: changes that take effect when somebody else approves them, and the policy that requires it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Unpack, cast
from uuid import NAMESPACE_OID, uuid5

from eventsourcing.domain import CanMutateAggregate
from eventsourcing.persistence import IntegrityError
from msgspec.structs import replace

from ...domain.approval_policy import ChangeKind
from ...domain.authorship import Author, acting_as, resolve_author
from ...domain.errors import InvalidParameter, ProposalNotFound, TooManyProposals
from ...domain.proposal import STREAM_PREFIX, Proposal, ProposalStatus
from ...domain.proposed_changes import CancellationProposal, PolicyProposal, ProposedChange
from ...domain.timestamps import ensure_utc
from ..approvals.gate import Permission, permitted
from ..approvals.independence import require_independent, require_named
from ..approvals.views import ApprovalPolicyView, ProposalView
from ..ledger.ledger import Ledger
from ..ledger.retry import retry_on_connection_loss
from ..ledger.stream_pages import events_by_prefix
from ..queries.cancellation_selection import MAX_SELECTED_EVENTS
from ..uuid7 import uuid7
from ..validation import optional_note, require_choice, require_text, require_texts
from .cancellation_arguments import SelectionArguments
from .proposed_changes import Preview, ProposedChanges

DEFAULT_LIFETIME, MAX_LIFETIME = timedelta(days=7), timedelta(days=90)
MAX_PENDING, MAX_PENDING_PER_AUTHOR = 1_000, 100
"""Limits of pending proposals. Concurrent calls can exceed them by their number."""

_PAGE_SIZE = 100
"""The events that a list reads at once: a proposal may have 64 KB of selected values."""


class ProposalCommands:
    """The proposals of a ledger: `metering.proposals`."""

    def __init__(
        self, ledger: Ledger, changes: ProposedChanges, clock: Callable[[], datetime], *,
        max_pending: int = MAX_PENDING, max_pending_per_author: int = MAX_PENDING_PER_AUTHOR,
    ) -> None:  # fmt: skip
        self._ledger = ledger
        self._changes = changes
        self._clock = clock
        self._max_pending = max_pending
        self._max_pending_per_author = max_pending_per_author

    # --- the policy -------------------------------------------------------------------------------

    @retry_on_connection_loss
    def policy(self) -> ApprovalPolicyView:
        """Return which kinds of changes need approval."""
        return ApprovalPolicyView.from_aggregate(self._changes.gate.policy())

    def set_policy(self, required: Iterable[str], *, by: str | None = None) -> ApprovalPolicyView:
        """Require approval for these kinds of changes: rules, reopening and cancellation.

        `cancellation` is a bulk cancellation or its revocation. From then on, such a change raises ApprovalRequired
        unless it is proposed and approved, by every program with this ledger. Kinds can be added at any time. To remove
        one is a change that needs approval itself: ApprovalRequired is raised, see `propose_policy`.
        """
        kinds, by = _parse_kinds(required), optional_note(by, "by")
        return ApprovalPolicyView.from_aggregate(self._changes.gate.set_required(kinds, by=by, at=self._now()))

    # --- proposing --------------------------------------------------------------------------------

    def propose_rules(
        self,
        event_name: str,
        rules: Mapping[str, object],
        *,
        reason: str,
        by: str | None = None,
        effective_from: datetime | None = None,
        expires_after: timedelta = DEFAULT_LIFETIME,
        identifier: str | None = None,
    ) -> ProposalView:
        """Propose to change the rules of a meter. The arguments are those of `rules.change`.

        The proposal fits as long as the rules aren't changed otherwise. It expires after `expires_after`, at most 90
        days. With an identifier, a retry is safe: if a proposal was made with it, of any kind, that one is returned.
        Like each proposal, it raises TooManyProposals if 100 of the author are pending, or 1,000 in all.
        """
        change = self._changes.rules_change(event_name, rules, effective_from)
        return self._propose(change, reason, by, expires_after, identifier)

    def propose_reopening(
        self,
        event_name: str,
        customer: str,
        start: datetime,
        end: datetime,
        *,
        reason: str,
        by: str | None = None,
        withdraw_settlements: bool = False,
        expires_after: timedelta = DEFAULT_LIFETIME,
        identifier: str | None = None,
    ) -> ProposalView:
        """Propose to reopen a closed period. The arguments are those of `periods.reopen`, and it raises the same.

        The proposal fits this closing, until it is reopened or an adjustment of it is settled.
        """
        change = self._changes.reopening(event_name, customer, start, end, withdraw_settlements)
        return self._propose(change, reason, by, expires_after, identifier)

    def propose_cancellation(
        self,
        event_name: str,
        *,
        reason: str,
        by: str | None = None,
        digest: str | None = None,
        max_events: int = MAX_SELECTED_EVENTS,
        expires_after: timedelta = DEFAULT_LIFETIME,
        identifier: str | None = None,
        **selection: Unpack[SelectionArguments],
    ) -> ProposalView:
        """Propose a bulk cancellation. The arguments are those of `cancellations.cancel_many`, and it raises the same.

        The meter events that are selected now are cancelled if it is approved, also if their cancel window has passed
        then. The id of the proposal becomes that of the bulk cancellation.
        """
        change = self._changes.cancellation(event_name, digest, max_events, **selection)
        return self._propose(change, reason, by, expires_after, identifier)

    def propose_revocation(
        self,
        cancellation_id: str,
        *,
        reason: str,
        by: str | None = None,
        expires_after: timedelta = DEFAULT_LIFETIME,
        identifier: str | None = None,
    ) -> ProposalView:
        """Propose to revoke a bulk cancellation. Raises CancellationNotFound, or ProposalOutdated if it is revoked."""
        return self._propose(self._changes.revocation(cancellation_id), reason, by, expires_after, identifier)

    def propose_policy(
        self,
        required: Iterable[str],
        *,
        reason: str,
        by: str | None = None,
        expires_after: timedelta = DEFAULT_LIFETIME,
        identifier: str | None = None,
    ) -> ProposalView:
        """Propose the kinds of changes that need approval; none lifts the requirement."""
        policy = self._changes.gate.policy()
        change = PolicyProposal(required=_parse_kinds(required), version=0 if policy is None else policy.version)
        return self._propose(change, reason, by, expires_after, identifier)

    # --- deciding ---------------------------------------------------------------------------------

    @retry_on_connection_loss
    def get(self, proposal_id: str) -> ProposalView:
        """Return a proposal. Raises ProposalNotFound."""
        return self._to_view(self._find(proposal_id))

    @retry_on_connection_loss
    def list(self, *, status: str | None = None) -> "list[ProposalView]":
        """Return the proposals in the order in which they were made: all, or those that are pending, for example."""
        return sorted(self.iterate(status=status), key=lambda view: (view.proposed_at, view.proposal_id))

    def iterate(self, *, status: str | None = None) -> Iterator[ProposalView]:
        """Yield the proposals that `list` returns, in any order, a page in memory at a time."""
        wanted = None if status is None else require_choice(status, "status", ProposalStatus)
        stored = events_by_prefix(self._ledger.ledger_recorder, STREAM_PREFIX, _PAGE_SIZE)
        views = (self._to_view(cast(Proposal, proposal)) for proposal in self._ledger.aggregates(stored))
        return (view for view in views if wanted in (None, view.status))

    def preview(self, proposal_id: str, *, timezone: str = "UTC") -> Preview:
        """Return what a proposal would change as of now: the difference of all totals by month for new rules.

        For a reopening, it is what closing the period again would freeze; for a bulk cancellation, its preview; None
        for other kinds. Raises ProposalNotFound, and ProposalClosed if it is decided or expired.
        """
        proposal = self._find(proposal_id)
        proposal.require_pending(self._now())
        return self._changes.preview(proposal.change, timezone)

    def approve(self, proposal_id: str, *, by: str | None = None) -> ProposalView:
        """Approve a proposal: its change takes effect, with the proposer as the author and the name of the approver.

        The approver is the author that acts, or `by` if none does. Raises ProposalNotFound, ProposalClosed if it is
        decided or expired, ProposalOutdated with the reason if it no longer fits, and ApproverNotIndependent if the
        approver is the proposer, acts on behalf of the same person, or if one of them created the other's access key.
        Raises what the change itself raises.
        """
        approver = resolve_author(optional_note(by, "by"))
        proposal = self._find_pending(proposal_id)
        require_independent(self._ledger, proposal, approver)
        if not isinstance(proposal.change, CancellationProposal):  # that takes long, and is checked once below
            self._changes.require_current(proposal.change)
        author = replace(proposal.proposer, approved_by=approver.by, proposal_id=proposal.proposal_id)
        permission = Permission(first_events=partial(self._approval_events, proposal.proposal_id, approver))
        try:
            with acting_as(author), permitted(permission):
                self._changes.apply(proposal)
        except IntegrityError:  # somebody else has decided on it meanwhile
            self._find(proposal_id).require_pending(self._now())
            raise
        approved = self._find(proposal_id)
        if approved.decided_by != approver.by:  # another approval has made the change already
            approved.require_pending(self._now())
        return self._to_view(approved)

    def reject(self, proposal_id: str, *, reason: str, by: str | None = None) -> ProposalView:
        """Reject a proposal, for a reason. Its proposer withdraws it so. Raises ProposalNotFound or ProposalClosed."""
        reason, by = require_text(reason, "reason", 500), optional_note(by, "by")
        require_named(resolve_author(by), "person who rejects")
        while True:
            proposal = self._find_pending(proposal_id)
            proposal.reject(reason=reason, by=by, at=self._now())
            try:
                self._ledger.append(proposal.collect_events())
            except IntegrityError:
                continue  # somebody else has decided on it meanwhile
            return self._to_view(proposal)

    def _propose(
        self, change: ProposedChange, reason: str, by: str | None, expires_after: timedelta, identifier: str | None
    ) -> ProposalView:
        reason, by, now = require_text(reason, "reason", 500), optional_note(by, "by"), self._now()
        if not timedelta(0) < expires_after <= MAX_LIFETIME:
            raise InvalidParameter(
                f"'expires_after' must be more than nothing and at most {MAX_LIFETIME.days} days, not {expires_after}.",
                field="expires_after",
                value=expires_after,
            )
        proposer = resolve_author(by)
        require_named(proposer, "proposer")
        if identifier is None:
            proposal_id = str(uuid7())
        else:
            proposal_id = _id_of(require_text(identifier, "identifier", 1_000))
            with suppress(ProposalNotFound):
                return self.get(proposal_id)
        self._require_few_pending(proposer)
        proposal = Proposal.create(proposal_id, change, reason=reason, expires_at=now + expires_after, by=by, at=now)
        try:
            self._ledger.append(proposal.collect_events())
        except IntegrityError:  # a proposal was made with this identifier meanwhile
            return self.get(proposal_id)
        return self._to_view(proposal)

    def _require_few_pending(self, proposer: Author) -> None:
        """Raise TooManyProposals if the proposer, or all together, have as many pending proposals as they may."""
        authors = [view.proposed_by for view in self.iterate(status=ProposalStatus.PENDING)]
        for count, limit, whose in (
            (authors.count(proposer.by), self._max_pending_per_author, f" of {proposer.by}"),
            (len(authors), self._max_pending, ""),
        ):
            if count >= limit:
                raise TooManyProposals(
                    f"{count:,} proposals{whose} are pending, and the limit is {limit:,}. Let some be approved or "
                    "rejected, or wait until they expire, and propose the change again.",
                    field="by",
                    value=proposer.by,
                )

    def _approval_events(self, proposal_id: str, approver: Author) -> Sequence[CanMutateAggregate[str]]:
        """Return the events of an approval, if the proposal is still pending and fits."""
        proposal = self._find(proposal_id)
        self._changes.require_current(proposal.change)
        with acting_as(approver):
            proposal.approve(by=approver.by, at=self._now())
        return proposal.collect_events()

    def _find_pending(self, proposal_id: object) -> Proposal:
        """Return a proposal that is not decided. If it has expired, that is stored. Raises ProposalClosed."""
        proposal, now = self._find(proposal_id), self._now()
        proposal.expire(by=None, at=now)
        with suppress(IntegrityError):  # another process has stored that, or decided in time
            self._ledger.append(proposal.collect_events())
        proposal.require_pending(now)
        return proposal

    def _find(self, proposal_id: object) -> Proposal:
        wanted = require_text(proposal_id, "proposal_id", 100)
        stored = self._ledger.ledger_recorder.select_stream(Proposal.stream_id(wanted))
        for proposal in self._ledger.aggregates(stored):
            return cast(Proposal, proposal)
        raise ProposalNotFound(f"There is no proposal {wanted!r}.", field="proposal_id", value=wanted)

    def _to_view(self, proposal: Proposal) -> ProposalView:
        return ProposalView.from_aggregate(proposal, self._now())

    def _now(self) -> datetime:
        return ensure_utc(self._clock(), "clock")


def _id_of(identifier: str) -> str:
    """Return the id of the proposal with an identifier of its proposer."""
    return str(uuid5(NAMESPACE_OID, identifier))


def _parse_kinds(required: object) -> tuple[ChangeKind, ...]:
    """Return the kinds without duplicates, in the order of their definition. Raises InvalidParameter."""
    kinds = {require_choice(kind, "required", ChangeKind) for kind in require_texts(required, "required", 100, 10)}
    return tuple(kind for kind in ChangeKind if kind in kinds)
