"""A change of rules, from the candidate to the promotion."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ...domain.rules import Rules
from ..results import GenerationView
from .build_run import run_candidate
from .differing import Differing
from .promotion import Promotion, promoted
from .session import Session

WINDOW = "month"


@dataclass(frozen=True)
class RuleChange:
    """What rules change, or changed: the candidate that was built under them, and how its figures differ."""

    event_name: str
    rules: Rules
    candidate: GenerationView
    difference: Differing
    promotion: Promotion | None


def change_rules(
    session: Session,
    event_name: str,
    changes: Mapping[str, object],
    reason: str | None,
    by: str | None,
    timezone: str,
    limit: int,
    *,
    yes: bool,
) -> RuleChange:
    """Build a candidate, compare it by month, and promote it if told so."""
    candidate = run_candidate(session, event_name, changes)
    found = session.metering.diff(candidate.number, window=WINDOW, timezone=timezone)
    concerned = tuple(one for one in found.meters if one.event_name == event_name or one.customers)
    differing = replace(Differing.of(found, WINDOW, timezone, limit), meters=concerned)
    promotion = promoted(session.metering, candidate.number, reason, by) if yes else None
    return RuleChange(event_name, candidate.rules[event_name], candidate, differing, promotion)
