"""Proposals: who may approve them, when they no longer fit, what they would change, and when they expire."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest
from tallybook.application import (
    ApprovalRequired,
    ApproverNotIndependent,
    CancellationPreview,
    GenerationDifference,
    InvalidParameter,
    Metering,
    PeriodPreview,
    ProposalClosed,
    ProposalNotFound,
    ProposalOutdated,
    TooManyProposals,
)
from tallybook.application.commands.proposals import ProposalCommands

from ..notation import Clock, moment
from ..proposed_changes import CHANGES, PERIOD, START, approve, close_again, history, lift_policy, record_changes


@pytest.fixture
def ledger(metering: Metering, clock: Clock) -> Metering:
    """A ledger in which all kinds of changes need approval."""
    record_changes(metering, clock)
    return metering


def test_nothing_needs_approval_by_default(metering: Metering) -> None:
    """A ledger without a policy permits each change."""
    assert metering.proposals.policy().required == ()
    metering.meters.configure("tokens")
    metering.rules.change("tokens", {"formula": "max"}, reason="why")


def test_no_other_call_makes_the_change(ledger: Metering) -> None:
    """Neither the promotion of a generation, nor the undo of an import, nor another policy."""
    candidate = ledger.generations.build_candidate("tokens", {"formula": "max"}).number
    run = ledger.imports.start("usage.csv", "0" * 64)
    run.record_many([{"event_name": "tokens", "payload": {"stripe_customer_id": "acme", "value": "1"}}])
    head = ledger.catch_up()
    for call in (
        lambda: ledger.generations.promote(candidate, reason="why"),
        lambda: ledger.imports.undo(ledger.imports.list()[0].run_id, reason="why"),
        lambda: ledger.proposals.set_policy([]),
        lambda: ledger.proposals.set_policy(["rules", "reopening"]),
    ):
        with pytest.raises(ApprovalRequired):
            call()
    assert ledger.catch_up() == head


def test_what_is_approved_is_what_was_proposed(ledger: Metering, clock: Clock) -> None:
    """Usage of later doesn't belong to a bulk cancellation, and its cancel window is that of the proposal."""
    proposal = CHANGES["cancellation"].propose(ledger)
    clock.now += timedelta(days=3)
    ledger.record("tokens", {"stripe_customer_id": "acme", "value": "7"}, identifier="later")
    ledger.proposals.approve(proposal.proposal_id, by="bob")
    assert ledger.total("tokens", "acme", START, moment("2026-02-01")).value == 7
    assert ledger.cancellations.get(proposal.proposal_id).count == 2
    (decision,) = (entry for entry in history(ledger) if entry.event == "EventsCancelled" and entry.reason == "why")
    assert decision.accepted_under == {}


def test_previews(ledger: Metering) -> None:
    """They are those of the calls that make the changes."""
    previews = [ledger.proposals.preview(change.propose(ledger).proposal_id) for change in CHANGES.values()]
    rules, reopening, cancellation, *others = previews
    assert isinstance(rules, GenerationDifference)
    assert [(difference.before, difference.after) for difference in rules.differences] == [(10, 5)]
    assert isinstance(reopening, PeriodPreview)
    assert (reopening.totals.quantity, reopening.difference) == (10, -5)
    assert isinstance(cancellation, CancellationPreview)
    assert (cancellation.count, cancellation.already_cancelled) == (2, 1)
    assert others == [None, None]


@pytest.mark.parametrize("changes_rules", [False, True], ids=["same rules", "new rules"])
def test_the_preview_is_of_the_meter_events_that_were_proposed(metering: Metering, changes_rules: bool) -> None:
    """Not of later ones. Those that were cancelled since don't change. The totals are those of now."""

    def record(identifier: str, value: int) -> None:
        payload = {"stripe_customer_id": "acme", "account": "umbrella", "value": f"{value}"}
        metering.record("tokens", payload, identifier=identifier)

    metering.meters.configure("tokens")
    for number in range(3):
        record(f"early-{number}", 100)
    proposal = metering.proposals.propose_cancellation("tokens", customer="acme", reason="why", by="alice")
    record("late", 10)
    metering.cancel("tokens", "early-0")
    if changes_rules:
        metering.rules.change("tokens", {"customer_key": "account"}, reason="why")
    preview = metering.proposals.preview(proposal.proposal_id)
    assert isinstance(preview, CancellationPreview)
    assert (preview.count, preview.already_cancelled) == (2, 1)
    (row,) = preview.rows
    customer = "umbrella" if changes_rules else "acme"
    assert (row.customer, row.count, row.quantity, row.new_quantity) == (customer, 2, 210, 10)
    metering.proposals.approve(proposal.proposal_id, by="bob")
    assert metering.total("tokens", customer, row.start, row.end).value == row.new_quantity


def test_the_proposer_does_not_approve(ledger: Metering) -> None:
    """Nor does somebody on behalf of the same person, nor a key that the proposer created, nor nobody.

    Nor does the creator of the key that proposed.
    """
    proposals, create = ledger.proposals, ledger.access_keys.create
    with ledger.acting_as("key of alice", on_behalf_of="alice"):
        proposal = proposals.propose_policy([], reason="why").proposal_id
        mine = create(["approve", "keys"]).view.hint
    with ledger.acting_as(mine):
        of_mine = create(["approve"]).view.hint
    approvers = [("key of alice", None), ("alice", None), ("bob", "alice"), (mine, None), (of_mine, None)]
    for approver, on_behalf_of in approvers:
        with ledger.acting_as(approver, on_behalf_of=on_behalf_of), pytest.raises(ApproverNotIndependent):
            proposals.approve(proposal)
    with pytest.raises(InvalidParameter, match="approver"):
        proposals.approve(proposal)
    with pytest.raises(InvalidParameter, match="proposer"):
        proposals.propose_policy([], reason="why")
    with ledger.acting_as(of_mine):
        of_key = proposals.propose_policy([], reason="why").proposal_id
    for creator in (mine, "key of alice"):
        with ledger.acting_as(creator), pytest.raises(ApproverNotIndependent, match="created by the approver"):
            proposals.approve(of_key)
    other = create(["approve"], by="ops").view.hint
    with ledger.acting_as(other):
        assert proposals.approve(proposal).decided_by == other


def propose_count(metering: Metering) -> None:
    """Let other rules be proposed and approved."""
    approve(metering, metering.proposals.propose_rules("tokens", {"formula": "count"}, reason="why", by="carol"))


def cancel_all(metering: Metering) -> None:
    """Cancel the meter events that aren't cancelled."""
    for identifier in ("a-0", "a-1"):
        metering.cancel("tokens", identifier)


OUTDATED: dict[str, tuple[str, Callable[[Metering], object], str]] = {
    "other rules": ("rules", propose_count, "changed to revision 2"),
    "reopened": ("reopening", lambda ledger: approve(ledger, CHANGES["reopening"].propose(ledger)), "isn't closed"),
    "closed again": ("reopening", close_again, "closed again"),
    "settled": ("reopening", lambda ledger: ledger.periods.settle(*PERIOD, document="CN-1"), "settled since, by 'CN-1"),
    "revoked": ("revocation", lambda ledger: approve(ledger, CHANGES["revocation"].propose(ledger)), "already revoked"),
    "cancelled singly": ("cancellation", cancel_all, "cancelled already"),
    "another policy": ("policy", lift_policy, "policy was changed"),
}


@pytest.mark.parametrize(("kind", "meanwhile", "reason"), OUTDATED.values(), ids=OUTDATED)
def test_a_proposal_that_no_longer_fits_is_not_approved(
    ledger: Metering, kind: str, meanwhile: Callable[[Metering], object], reason: str
) -> None:
    """It stays pending and changes nothing; it can be rejected."""
    proposal = CHANGES[kind].propose(ledger)
    meanwhile(ledger)
    head = ledger.catch_up()
    with pytest.raises(ProposalOutdated, match=reason):
        ledger.proposals.approve(proposal.proposal_id, by="bob")
    assert ledger.catch_up() == head
    rejected = ledger.proposals.reject(proposal.proposal_id, reason="outdated", by="bob")
    assert (rejected.status, rejected.decision_reason) == ("rejected", "outdated")


def test_a_decided_proposal_stays_decided(ledger: Metering, clock: Clock) -> None:
    """Rejected or expired, it can be neither approved nor rejected; that it expired is stored when somebody tries."""
    proposals = ledger.proposals
    rejected, expiring = (CHANGES["rules"].propose(ledger).proposal_id for _ in range(2))
    proposals.reject(rejected, reason="no", by="alice")
    clock.now += timedelta(days=7)
    assert [one.status for one in proposals.list()] == ["rejected", "expired"]
    assert proposals.list(status="pending") == []
    for call in (proposals.approve, partial(proposals.reject, reason="no")):
        with pytest.raises(ProposalClosed, match="rejected by alice"):
            call(rejected, by="bob")
        with pytest.raises(ProposalClosed, match="expired"):
            call(expiring, by="bob")
    with pytest.raises(ProposalClosed):
        proposals.preview(expiring)
    assert [entry.event for entry in history(ledger)].count("ProposalExpired") == 1
    with pytest.raises(ProposalNotFound):
        proposals.approve("unknown", by="bob")
    with pytest.raises(InvalidParameter, match="expires_after"):
        proposals.propose_policy([], reason="why", by="alice", expires_after=timedelta(days=91))


def test_pending_proposals_are_limited(ledger: Metering, clock: Clock) -> None:
    """Of each author and in all. A retry still returns its proposal, and those that are decided or expired don't count.

    Who states another name on behalf of whom they propose remains the author.
    """
    proposals = ProposalCommands(
        ledger._ledger,  # pyright: ignore[reportPrivateUsage]
        ledger.proposals._changes,  # pyright: ignore[reportPrivateUsage]
        clock,
        max_pending=3,
        max_pending_per_author=2,
    )

    def propose(author: str, on_behalf_of: str | None = None, identifier: str | None = None) -> str:
        with ledger.acting_as(author, on_behalf_of=on_behalf_of):
            return proposals.propose_policy([], reason="why", identifier=identifier).proposal_id

    first, _ = propose("alice", identifier="first"), propose("alice")
    with pytest.raises(TooManyProposals, match="2 proposals of alice are pending, and the limit is 2"):
        propose("alice", "carol")
    assert propose("alice", identifier="first") == first
    propose("eve")
    with pytest.raises(TooManyProposals, match="3 proposals are pending, and the limit is 3"):
        propose("mallory")
    proposals.reject(first, reason="no", by="alice")
    propose("alice")
    clock.now += timedelta(days=7)
    propose("mallory")
    assert [one.proposed_by for one in proposals.list(status="pending")] == ["mallory"]


def test_kinds_are_added_at_once_and_removed_with_approval(ledger: Metering) -> None:
    """The policy says who set it."""
    approve(ledger, ledger.proposals.propose_policy(["rules"], reason="why", by="alice"))
    ledger.periods.reopen(*PERIOD, reason="why")
    with pytest.raises(ApprovalRequired):
        CHANGES["rules"].make(ledger)
    assert ledger.proposals.set_policy(["reopening", "rules"], by="eve").required == ("rules", "reopening")
    assert ledger.proposals.policy().by == "eve"
    with pytest.raises(InvalidParameter, match="required"):
        ledger.proposals.set_policy(["record"])
