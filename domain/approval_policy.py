"""The ApprovalPolicy aggregate: which kinds of changes need the approval of a second person.

Invariant: once a kind is required, only an approved proposal removes it. A ledger without a policy requires nothing.
"""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum

from .aggregate import Aggregate

STREAM_ID = "approval/policy"


class ChangeKind(StrEnum):
    """A kind of change that can need approval."""

    RULES = "rules"
    REOPENING = "reopening"
    CANCELLATION = "cancellation"


class ApprovalPolicy(Aggregate):
    """The kinds of changes of a ledger that need approval."""

    class ApprovalPolicySet(Aggregate.Created):
        """The first policy: changes of these kinds need approval."""

        required: tuple[ChangeKind, ...]
        by: str | None

    class ApprovalPolicyChanged(Aggregate.Event):
        """Changes of these kinds, and of no others, need approval from now on."""

        required: tuple[ChangeKind, ...]
        by: str | None

        def apply(self, aggregate: "ApprovalPolicy") -> None:
            """Set the kinds, and by whom they were set."""
            aggregate.required = self.required
            aggregate.by = self.by

    def __init__(self, required: tuple[ChangeKind, ...], by: str | None) -> None:
        self.required = required
        self.by = by

    @classmethod
    def create(cls, required: Iterable[ChangeKind], *, by: str | None, at: datetime) -> "ApprovalPolicy":
        """Set the first policy of a ledger."""
        return cls._create(cls.ApprovalPolicySet, id=STREAM_ID, timestamp=at, required=tuple(required), by=by)

    def change(self, required: Iterable[ChangeKind], *, by: str | None, at: datetime) -> None:
        """Require approval for these kinds, and no others. Nothing happens if they are required already."""
        kinds = tuple(required)
        if kinds != self.required:
            self.trigger_event(self.ApprovalPolicyChanged, timestamp=at, required=kinds, by=by)
