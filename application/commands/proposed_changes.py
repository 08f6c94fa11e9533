"""What each kind of proposal is made of, when it still fits the ledger, what it would change, and how it is applied."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Unpack

from ...domain.customer_periods import CustomerPeriods, period_not_closed
from ...domain.errors import InvalidParameter, ProposalOutdated
from ...domain.proposal import Proposal
from ...domain.proposed_changes import (
    CancellationProposal,
    PolicyProposal,
    ProposedChange,
    ReopeningProposal,
    RevocationProposal,
    RulesProposal,
)
from ...domain.timestamps import ensure_utc, from_microseconds
from ...projections.models import PinnedMeter
from ..approvals.gate import ApprovalGate
from ..cancellation_views import CancellationPreview
from ..invoice_results import PeriodPreview
from ..ledger.ledger import Ledger
from ..queries.comparison import GenerationDifference
from ..read_models.generations import rules_after_change
from ..validation import require_bool, require_customer, require_event_name, require_time_range
from .bulk_cancellations import BulkCancellationCommands
from .cancellation_arguments import SelectionArguments
from .generations import GenerationCommands
from .periods import PeriodCommands
from .rules import RuleCommands

Preview = GenerationDifference | PeriodPreview | CancellationPreview | None
"""What a proposal would change; None if that is what it says."""


class ProposedChanges:
    """The changes that can be proposed, by the commands that make them."""

    def __init__(
        self,
        ledger: Ledger,
        gate: ApprovalGate,
        rules: RuleCommands,
        generations: GenerationCommands,
        periods: PeriodCommands,
        cancellations: BulkCancellationCommands,
        clock: Callable[[], datetime],
    ) -> None:
        self.gate = gate
        self._ledger = ledger
        self._rules = rules
        self._generations = generations
        self._periods = periods
        self._cancellations = cancellations
        self._clock = clock

    # --- what can be proposed ---------------------------------------------------------------------

    def rules_change(
        self, event_name: str, rules: Mapping[str, object], effective_from: datetime | None
    ) -> RulesProposal:
        """Return the change of rules. Raises InvalidParameter, also if nothing changes, or InvalidEffectiveFrom."""
        effective_from = None if effective_from is None else ensure_utc(effective_from, "effective_from")
        meter = self._ledger.meter(require_event_name(event_name))
        changed = rules_after_change(meter, rules, effective_from)
        if changed == PinnedMeter.of(meter):
            raise InvalidParameter(f"Nothing changes: {event_name!r} has these rules already.", field="rules")
        return RulesProposal(
            event_name=meter.event_name, rules=changed.parts[-1].rules, effective_from=effective_from,
            revision=meter.revision,
        )  # fmt: skip

    def reopening(
        self, event_name: str, customer: str, start: datetime, end: datetime, withdraw_settlements: bool
    ) -> ReopeningProposal:
        """Return the reopening of a closed period. Raises what `periods.reopen` raises."""
        event_name, customer = require_event_name(event_name), require_customer(customer)
        _, _, bounds = require_time_range(start, end)
        start, end = map(from_microseconds, bounds)
        withdraw = require_bool(withdraw_settlements, "withdraw_settlements")
        periods = self._ledger.customer_periods(event_name, customer)
        if periods is None:
            self._ledger.meter(event_name)  # raises MeterNotFound
            raise period_not_closed(event_name, customer, start, end)
        closed = periods.find_closed(start, end)
        now = ensure_utc(self._clock(), "clock")
        periods.reopen(start, end, reason=None, by=None, at=now, withdraw_settlements=withdraw)  # only to check it
        assert closed is not None
        return ReopeningProposal(
            event_name=event_name, customer=customer, start=start, end=end, closed_at=closed.closed_at,
            settlements=len(closed.settlements), withdraw_settlements=withdraw,
        )  # fmt: skip

    def cancellation(
        self, event_name: str, digest: str | None, max_events: int, **selection: Unpack[SelectionArguments]
    ) -> CancellationProposal:
        """Return the bulk cancellation of a selection. Raises what `cancellations.cancel_many` raises."""
        return self._cancellations.plan(event_name, digest=digest, max_events=max_events, **selection)

    def revocation(self, cancellation_id: str) -> RevocationProposal:
        """Return the revocation of a bulk cancellation. Raises CancellationNotFound, or ProposalOutdated."""
        change = RevocationProposal(cancellation_id=cancellation_id)
        self.require_current(change)
        return change

    # --- whether it fits, and what it changes -----------------------------------------------------

    def require_current(self, change: ProposedChange) -> None:
        """Raise ProposalOutdated, with the reason, if the ledger has changed so that a proposal no longer fits."""
        match change:
            case RulesProposal():
                revision = self._ledger.meter(change.event_name).revision
                if revision != change.revision:
                    raise _outdated(
                        f"The rules of {change.event_name!r} were changed to revision {revision} since; the proposal "
                        f"is for revision {change.revision}."
                    )
            case ReopeningProposal():
                self._require_closing(change, self._ledger.customer_periods(change.event_name, change.customer))
            case CancellationProposal():
                if not self._cancellations.has_pending(change):
                    raise _outdated("All of the meter events are cancelled already.")
            case RevocationProposal():
                bulk = self._cancellations.get(change.cancellation_id)
                if bulk.revoked_at is not None:
                    raise _outdated(f"The bulk cancellation {change.cancellation_id!r} is already revoked.")
            case PolicyProposal():
                policy = self.gate.policy()
                if change.version != (0 if policy is None else policy.version):
                    raise _outdated("The approval policy was changed since.")

    def preview(self, change: ProposedChange, timezone: str) -> Preview:
        """Return what a proposal would change as of now."""
        match change:
            case RulesProposal():
                candidate = self._generations.build_candidate(
                    change.event_name, dict(change.rules), effective_from=change.effective_from
                )
                return self._generations.diff(candidate.number, timezone=timezone)
            case ReopeningProposal():
                return self._periods.preview(change.event_name, change.customer, change.start, change.end)
            case CancellationProposal():
                return self._cancellations.preview_plan(change, timezone)
            case _:
                return None

    # --- applying ---------------------------------------------------------------------------------

    def apply(self, proposal: Proposal) -> None:
        """Make the change of a proposal that is being approved."""
        reason, change = proposal.reason, proposal.change
        match change:
            case RulesProposal():
                self._rules.change(
                    change.event_name, dict(change.rules), reason=reason, effective_from=change.effective_from
                )
            case ReopeningProposal():
                self._periods.reopen(
                    change.event_name, change.customer, change.start, change.end, reason=reason,
                    withdraw_settlements=change.withdraw_settlements,
                )  # fmt: skip
            case CancellationProposal():
                self._cancellations.carry_out(
                    proposal.proposal_id, change, reason=reason, planned_at=proposal.created_on
                )
            case RevocationProposal():
                self._cancellations.revoke(change.cancellation_id, reason=reason)
            case PolicyProposal():
                self.gate.set_required(change.required, by=None, at=ensure_utc(self._clock(), "clock"))

    @staticmethod
    def _require_closing(change: ReopeningProposal, periods: CustomerPeriods | None) -> None:
        closed = None if periods is None else periods.find_closed(change.start, change.end)
        if closed is None:
            raise _outdated("The period isn't closed any more.")
        if closed.closed_at != change.closed_at:
            raise _outdated(f"The period was reopened, and closed again at {closed.closed_at}.")
        if len(closed.settlements) != change.settlements:
            raise _outdated(f"An adjustment of the period was settled since, by {closed.settlements[-1].document!r}.")


def _outdated(reason: str) -> ProposalOutdated:
    return ProposalOutdated(f"{reason} Propose the change again, if it is still wanted.", field="proposal_id")
