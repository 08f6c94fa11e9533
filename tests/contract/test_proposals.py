"""Proposals on each store: an approval and its change are one transaction, and the approval policy holds."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from threading import Barrier, Thread
from typing import Any

import pytest
from tallybook.application import AcceptancePolicy, ApprovalRequired, Authorship, Metering, ProposalClosed, ProposalView
from tallybook.application.approvals.gate import ApprovalGate
from tallybook.application.system_user import system_user

from ..notation import Clock
from ..proposed_changes import CHANGES, KINDS, bulk, history, lift_policy, record_changes
from .stores import Store


@contextmanager
def open_on(store: Store, clock: Clock) -> Generator[Metering]:
    """Open a ledger with a clock, and with the usual limits."""
    with store.components() as parts, Metering(*parts, AcceptancePolicy(), clock) as opened:
        yield opened


@pytest.fixture
def metering(store: Store, clock: Clock) -> Iterator[Metering]:
    """A ledger in which all kinds of changes need approval."""
    with open_on(store, clock) as opened:
        record_changes(opened, clock)
        yield opened


def test_a_change_needs_approval_and_then_has_both_names(metering: Metering) -> None:
    """It isn't made directly, with nothing stored. The approval is stored directly before it."""
    for kind, change in CHANGES.items():
        head = metering.catch_up()
        with pytest.raises(ApprovalRequired):
            change.make(metering)
        assert metering.catch_up() == head, kind
        proposal = change.propose(metering)
        approved = metering.proposals.approve(proposal.proposal_id, by="bob")
        assert (approved.status, approved.decided_by, approved.proposed_by) == ("approved", "bob", "alice")
        events = history(metering)
        at = next(index for index, entry in enumerate(events) if entry.stream.endswith(proposal.proposal_id)) + 1
        assert [entry.event for entry in events[at : at + 2]] == ["ProposalApproved", change.event]
        assert events[at].author == Authorship("bob", "library", system_user=system_user())
        assert events[at + 1].author == Authorship(
            "alice", "library", system_user=system_user(), approved_by="bob", proposal_id=proposal.proposal_id
        )
        with pytest.raises(ProposalClosed, match="approved by bob"):
            metering.proposals.approve(proposal.proposal_id, by="carol")
    assert metering.cancellations.get(bulk(metering)).status == "revoked"
    assert metering.proposals.policy().required == ("rules",)


def test_two_people_who_approve_at_once_make_the_change_once(store: Store, metering: Metering, clock: Clock) -> None:
    """The other one gets an error."""
    for kind, change in CHANGES.items():
        proposal = change.propose(metering)
        errors = approve_at_once(store, metering, clock, proposal)
        assert len(errors) == 1, (kind, errors)
        approvals = [entry for entry in history(metering) if entry.event == "ProposalApproved"]
        assert sum(entry.stream.endswith(proposal.proposal_id) for entry in approvals) == 1


def approve_at_once(store: Store, metering: Metering, clock: Clock, proposal: ProposalView) -> list[Exception]:
    """Let two people approve a proposal at the same time, and return the errors that they get.

    Each opens the ledger, unless it is in memory, where it is opened once.
    """
    barrier, errors = Barrier(2), list[Exception]()

    def approve(by: str) -> None:
        opened = open_on(store, clock) if store.location.is_persistent else nullcontext(metering)
        with opened as other:
            barrier.wait()
            try:
                other.proposals.approve(proposal.proposal_id, by=by)
            except Exception as error:
                errors.append(error)

    threads = [Thread(target=approve, args=(name,)) for name in ("bob", "carol")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_a_policy_that_is_set_meanwhile_holds(
    store: Store, metering: Metering, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change that was permitted is not stored after a policy that requires approval."""
    permit = ApprovalGate.permit

    def permit_and_set_policy(gate: ApprovalGate, kind: Any) -> object:
        permission = permit(gate, kind)
        with open_on(store, clock) as other:
            other.proposals.set_policy(KINDS)
        return permission

    for kind in ("rules", "reopening", "cancellation", "revocation"):
        lift_policy(metering)
        with monkeypatch.context() as patched:
            patched.setattr(ApprovalGate, "permit", permit_and_set_policy)
            with pytest.raises(ApprovalRequired):
                CHANGES[kind].make(metering)
        assert history(metering)[-1].event == "ApprovalPolicyChanged", kind
