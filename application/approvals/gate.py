"""The gate of changes that can need approval: it lets them pass, or says that they have to be proposed."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

from eventsourcing.domain import CanMutateAggregate
from eventsourcing.persistence import IntegrityError

from ...domain.approval_policy import STREAM_ID, ApprovalPolicy, ChangeKind
from ...domain.errors import ApprovalRequired
from ..ledger.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Permission:
    """What is stored with a change that may take effect.

    `first_events` returns the events to store before it, in the same transaction: those of its approval. It raises
    ProposalClosed or ProposalOutdated. `versions` are what the change was permitted at: the append of the change has
    to fail with ConcurrentStreamUpdate if a stream has grown past its version.
    """

    versions: Mapping[str, int] = field(default_factory=dict[str, int])
    first_events: Callable[[], Sequence[CanMutateAggregate[str]]] = tuple


_permission: ContextVar[Permission | None] = ContextVar("tallybook_permission", default=None)


@contextmanager
def permitted(permission: Permission) -> Generator[None]:
    """Let the changes that the current thread makes in the block take effect: their proposal is being approved."""
    token = _permission.set(permission)
    try:
        yield
    finally:
        _permission.reset(token)


class ApprovalGate:
    """Permits the changes of one ledger, according to its approval policy."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def policy(self) -> ApprovalPolicy | None:
        """Return the approval policy; None if none was ever set."""
        stored = self._ledger.ledger_recorder.select_stream(STREAM_ID)
        return next((cast(ApprovalPolicy, policy) for policy in self._ledger.aggregates(stored)), None)

    def permit(self, kind: ChangeKind) -> Permission:
        """Return the permission for a change. Raises ApprovalRequired if it has to be proposed."""
        permission = _permission.get()
        if permission is not None:
            return permission
        policy = self.policy()
        if policy is not None and kind in policy.required:
            raise ApprovalRequired(
                f"The approval policy of this ledger requires a second person for changes of the kind {kind.value!r}: "
                "propose the change, and let somebody else approve the proposal.",
                field="kind",
                value=kind.value,
            )
        return Permission({STREAM_ID: 0 if policy is None else policy.version})

    def set_required(self, kinds: Sequence[ChangeKind], *, by: str | None, at: datetime) -> ApprovalPolicy:
        """Require approval for these kinds of changes. Raises ApprovalRequired if others are required that aren't."""
        permission = _permission.get()
        while True:
            policy = self.policy()
            if policy is None:
                policy = ApprovalPolicy.create(kinds, by=by, at=at)
            else:
                if permission is None:
                    _require_all_of(policy.required, kinds)
                policy.change(kinds, by=by, at=at)
            first_events = () if permission is None else permission.first_events()
            try:
                self._ledger.append([*first_events, *policy.collect_events()])
            except IntegrityError:
                continue  # another process changed the policy meanwhile
            return policy


def _require_all_of(required: Sequence[ChangeKind], kinds: Sequence[ChangeKind]) -> None:
    removed = [kind.value for kind in required if kind not in kinds]
    if removed:
        raise ApprovalRequired(
            f"Approval of changes of the kind {', '.join(map(repr, removed))} is required. To lift that, propose the "
            "policy, and let somebody else approve the proposal.",
            field="required",
            value=removed,
        )
