"""What can be proposed: the change of a proposal as it is stored, with the state of the ledger that it is meant for."""

import operator
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from .approval_policy import ChangeKind
from .bulk_cancellation import CancellationSelection
from .rules import Rules


class _Change(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RulesProposal(_Change):
    """Change the rules of a meter, whose newest revision is `revision`, for usage from `effective_from` on."""

    kind: Literal["rules"] = "rules"
    event_name: str
    rules: Rules
    effective_from: datetime | None = Field(default=None, exclude_if=operator.not_)
    revision: int


class ReopeningProposal(_Change):
    """Reopen the period that was closed at `closed_at` and has this number of settlements."""

    kind: Literal["reopening"] = "reopening"
    event_name: str
    customer: str
    start: datetime
    end: datetime
    closed_at: datetime
    settlements: int
    withdraw_settlements: bool


class CancellationProposal(_Change):
    """Cancel the `count` meter events of a selection as of `position`; the other fields are those of the decision."""

    kind: Literal["cancellation"] = "cancellation"
    event_name: str
    selection: CancellationSelection
    position: int
    cancellable_from: datetime | None = Field(default=None, exclude_if=operator.not_)
    count: int
    digest: str


class RevocationProposal(_Change):
    """Revoke a bulk cancellation."""

    kind: Literal["revocation"] = "revocation"
    cancellation_id: str


class PolicyProposal(_Change):
    """Require approval for these kinds of changes, and no others, instead of those of a version of the policy."""

    kind: Literal["policy"] = "policy"
    required: tuple[ChangeKind, ...]
    version: int


ProposedChange = Annotated[
    RulesProposal | ReopeningProposal | CancellationProposal | RevocationProposal | PolicyProposal,
    Field(discriminator="kind"),
]
