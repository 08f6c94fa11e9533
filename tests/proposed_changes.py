"""One change of each kind that can need approval: how it is made directly, and how it is proposed."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from tallybook.application import HistoryEntry, Metering, ProposalView

from .notation import Clock, moment

START, END = moment("2026-01-01"), moment("2026-01-02")
PERIOD = ("tokens", "acme", START, END)
KINDS = ("rules", "reopening", "cancellation")


@dataclass(frozen=True)
class Change:
    """A change: how it is made directly, how it is proposed, and the event that it is."""

    make: Callable[[Metering], object]
    propose: Callable[[Metering], ProposalView]
    event: str


def bulk(metering: Metering) -> str:
    """Return the id of the bulk cancellation."""
    return metering.cancellations.list()[0].cancellation_id


CHANGES: dict[str, Change] = {
    "rules": Change(
        lambda metering: metering.rules.change("tokens", {"formula": "max"}, reason="why", by="alice"),
        lambda metering: metering.proposals.propose_rules("tokens", {"formula": "max"}, reason="why", by="alice"),
        "RulesChanged",
    ),
    "reopening": Change(
        lambda metering: metering.periods.reopen(*PERIOD, reason="why", by="alice"),
        lambda metering: metering.proposals.propose_reopening(*PERIOD, reason="why", by="alice"),
        "PeriodReopened",
    ),
    "cancellation": Change(
        lambda metering: metering.cancellations.cancel_many("tokens", customer="acme", reason="why", by="alice"),
        lambda metering: metering.proposals.propose_cancellation("tokens", customer="acme", reason="why", by="alice"),
        "EventsCancelled",
    ),
    "revocation": Change(
        lambda metering: metering.cancellations.revoke(bulk(metering), reason="why", by="alice"),
        lambda metering: metering.proposals.propose_revocation(bulk(metering), reason="why", by="alice"),
        "EventsCancelRevoked",
    ),
    "policy": Change(
        lambda metering: metering.proposals.set_policy(["rules"], by="alice"),
        lambda metering: metering.proposals.propose_policy(["rules"], reason="why", by="alice"),
        "ApprovalPolicyChanged",
    ),
}


def record_changes(metering: Metering, clock: Clock) -> None:
    """Record a closed period and a bulk cancellation, and require approval for all kinds of changes."""
    clock.now = moment("2026-01-01T10:00")
    metering.meters.configure("tokens")
    for number in range(3):
        metering.record("tokens", {"stripe_customer_id": "acme", "value": "5"}, identifier=f"a-{number}")
    clock.now = moment("2026-01-02T02:00")
    metering.periods.close(*PERIOD)
    metering.cancellations.cancel_many("tokens", identifier_prefix="a-2", reason="twice", by="ops")
    metering.proposals.set_policy(KINDS, by="ops")


def approve(metering: Metering, proposal: ProposalView) -> None:
    """Approve a proposal, as somebody who proposes nothing."""
    metering.proposals.approve(proposal.proposal_id, by="dora")


def lift_policy(metering: Metering) -> None:
    """Let no kind of change need approval any more."""
    approve(metering, metering.proposals.propose_policy([], reason="why", by="carol"))


def close_again(metering: Metering) -> None:
    """Reopen the closed period, and close it again a minute later."""
    approve(metering, CHANGES["reopening"].propose(metering))
    clock = metering.clock
    assert isinstance(clock, Clock)
    clock.now += timedelta(minutes=1)
    metering.periods.close(*PERIOD)


def history(metering: Metering) -> list[HistoryEntry]:
    """Return everything that happened."""
    return list(metering.history.list(limit=1_000).entries)
