"""Check that the recorded meter events can be parsed under other rules."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec

from ...domain.errors import IncompatibleEvent, IncompatibleRules, ProjectionStopped, TallybookError
from ...domain.rules import PayloadParser
from ...domain.rules_schedule import RulesPart
from ...domain.timestamps import to_microseconds
from ...projections.models import PAGE_SIZE, PinnedRules
from ...projections.ports import USAGE_RECORDED, LedgerReader
from ..ledger.ledger import Ledger
from ..ledger.mapper import decode_meter_event

MAX_LISTED = 1_000


def are_compatible(rules: PinnedRules, ledger: LedgerReader, *, after: int) -> bool:
    """Return whether `rules` over time parse every meter event after a ledger position."""
    try:
        return next(_iter_incompatible(rules, ledger, after), None) is None
    except msgspec.MsgspecError:
        return False


def incompatible_events_error(
    ledger: Ledger, rules: PinnedRules, stopped: ProjectionStopped
) -> IncompatibleRules | None:
    """Return the error for a projection that `rules` over time stopped; None if it stopped for another reason.

    The error lists up to 1,000 meter events that the rules reject, and counts all of them.
    """
    listed: list[IncompatibleEvent] = []
    count = 0
    for position, event_name, error in _iter_incompatible(rules, ledger, stopped.position - 1):
        if not count and position != stopped.position:
            return None
        count += 1
        if len(listed) < MAX_LISTED:
            identifier = ledger.meter_events_at([position])[position][0]
            listed.append(IncompatibleEvent(position, identifier, event_name, error.code, error.message))
    if not listed:
        return None
    first = listed[0]
    return IncompatibleRules(
        f"The new rules can't read {count} of the meter events that are recorded. The first is {first.identifier!r} at "
        f"position {first.position}: {first.message} Nothing was changed.",
        tuple(listed),
        count,
    )


def _iter_incompatible(
    rules: PinnedRules, ledger: LedgerReader, after: int
) -> Iterator[tuple[int, str, TallybookError]]:
    """Yield position, meter and error of each meter event after a position that the `rules` of a meter reject."""
    schedules: defaultdict[str, list[tuple[str, _ParserSchedule]]] = defaultdict(list)
    for meter_name, (parts, source) in rules.items():
        if parts:
            schedules[source or meter_name].append((meter_name, _ParserSchedule(parts)))
    while events := ledger.read_page(after, PAGE_SIZE):
        for position, topic, state in events:
            if topic != USAGE_RECORDED:
                continue
            data = decode_meter_event(state)
            for meter_name, schedule in schedules.get(data.event_name, ()):
                try:
                    schedule.parser_at(data.occurred_at)(data.payload)
                except TallybookError as error:
                    yield position, meter_name, error
        after = events[-1][0]


class _ParserSchedule:
    """The parsers of rules over time."""

    def __init__(self, parts: Sequence[RulesPart]) -> None:
        self._starts = [part.start for part in parts]
        self._parsers = [part.rules.parser() for part in parts]

    def parser_at(self, occurred_at: datetime) -> PayloadParser:
        """Return the parser of payloads of a time."""
        return self._parsers[bisect_right(self._starts, to_microseconds(occurred_at)) - 1]
