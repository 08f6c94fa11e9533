"""Examples of proposals, of the approval policy, and of a change that was approved."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from tallybook.domain import Formula, Meter, Rules
from tallybook.domain.aggregate import Aggregate
from tallybook.domain.approval_policy import ApprovalPolicy, ChangeKind
from tallybook.domain.authorship import Author, acting_as
from tallybook.domain.bulk_cancellation import CancellationSelection
from tallybook.domain.proposal import Proposal
from tallybook.domain.proposed_changes import (
    CancellationProposal,
    PolicyProposal,
    ProposedChange,
    ReopeningProposal,
    RevocationProposal,
    RulesProposal,
)

AT = datetime(2026, 11, 1, 10, 30, 0, 123_456, UTC)
LIFETIME = timedelta(hours=5)
PROPOSAL_ID = "0192f0c1-7a3e-7c55-8f42-0a1b2c3d4e5f"
RULES = Rules(formula=Formula.COUNT, customer_key="customer", value_key="tokens")


def approval_policy() -> list[Aggregate.Event]:
    """Return a policy and its change."""
    policy = ApprovalPolicy.create([ChangeKind.RULES], by="ops@example.com", at=AT)
    policy.change(list(ChangeKind), by=None, at=AT + timedelta(hours=1))
    return _events(policy)


def proposals() -> list[Aggregate.Event]:
    """Return a proposal, and each of the decisions on it."""
    change = RulesProposal(event_name="tokens", rules=RULES, effective_from=AT + timedelta(days=30), revision=1)
    approved, rejected, expired = (_propose(change) for _ in range(3))
    approved.approve(by="finance@example.com", at=AT + timedelta(hours=1))
    rejected.reject(reason="next year", by="finance@example.com", at=AT + timedelta(hours=1))
    expired.expire(by=None, at=AT + LIFETIME)
    return [*_events(approved), *_events(rejected)[1:], *_events(expired)[1:]]


def other_proposals() -> Mapping[str, Aggregate.Event]:
    """Return proposals of the other kinds, by variant."""
    changes: list[ProposedChange] = [
        ReopeningProposal(
            event_name="tokens", customer="Zo\u00eb & S\u00f8n", start=datetime(2026, 10, 1, tzinfo=UTC),
            end=datetime(2026, 11, 1, tzinfo=UTC), closed_at=AT, settlements=1, withdraw_settlements=True,
        ),
        CancellationProposal(
            event_name="tokens", selection=CancellationSelection(customer="acme"), position=5,
            cancellable_from=AT - timedelta(days=1), count=2, digest="00" * 32,
        ),
        RevocationProposal(cancellation_id=PROPOSAL_ID),
        PolicyProposal(required=(), version=2),
    ]  # fmt: skip
    return {change.kind: _events(_propose(change))[0] for change in changes}


def approved_change() -> Aggregate.Event:
    """Return a change of rules that was proposed and approved."""
    meter = Meter.configure("tokens", "Tokens", RULES, at=AT)
    author = Author("rk_live_0192f0c18b4f7d66", "req_GkW4zN0tq1mPpA", None, "rk_live_6f1c0a9be2d4783f", PROPOSAL_ID)
    with acting_as(author):
        meter.change_rules(RULES.model_copy(update={"formula": Formula.SUM}), reason="bill every token", by=None, at=AT)
    return _events(meter)[1]


def _propose(change: ProposedChange) -> Proposal:
    expires_at = AT + LIFETIME
    return Proposal.create(PROPOSAL_ID, change, reason="as agreed", expires_at=expires_at, by="ops@example.com", at=AT)


def _events(aggregate: Aggregate) -> list[Aggregate.Event]:
    return [event for event in aggregate.collect_events() if isinstance(event, Aggregate.Event)]
