"""Uses that candidate rules can't read: what stands in the way of changing to them."""

from collections.abc import Iterator, Mapping

import msgspec

from ..domain.errors import ProjectionStopped, RulesCannotRead, TallybookError, UnreadableUse
from ..domain.rules import Rules
from ..projections.projector import PAGE_SIZE
from ..projections.rows import LedgerRows
from .ledger import Ledger
from .mapper import USAGE_RECORDED, decode_use

MOST_LISTED = 1_000


def can_read(rules: Mapping[str, Rules], ledger: LedgerRows, *, after: int) -> bool:
    """Whether `rules`, by event name, read every use that is recorded after a position."""
    try:
        return next(_unreadable(rules, ledger, after), None) is None
    except msgspec.MsgspecError:
        return False


def unreadable_uses(ledger: Ledger, rules: Mapping[str, Rules], stopped: ProjectionStopped) -> RulesCannotRead | None:
    """The refusal of `rules`, by event name; None if they are not what stopped the fold."""
    listed: list[UnreadableUse] = []
    count = 0
    for position, event_name, error in _unreadable(rules, ledger, stopped.position - 1):
        if not count and position != stopped.position:
            return None
        count += 1
        if len(listed) < MOST_LISTED:
            identifier = ledger.recordings([position])[position][0]
            listed.append(UnreadableUse(position, identifier, event_name, error.code, error.message))
    if not listed:
        return None
    first = listed[0]
    return RulesCannotRead(
        f"The new rules can't read {count} of the meter events that are recorded. The first is {first.identifier!r} at "
        f"position {first.position}: {first.message} Nothing was changed.",
        tuple(listed),
        count,
    )


def _unreadable(
    rules: Mapping[str, Rules], ledger: LedgerRows, after: int
) -> Iterator[tuple[int, str, TallybookError]]:
    """Position, event name and refusal of each use after a position that `rules` can't read."""
    readers = {event_name: one.reader() for event_name, one in rules.items()}
    while events := ledger.page(after, PAGE_SIZE):
        for position, topic, state in events:
            if topic != USAGE_RECORDED:
                continue
            use = decode_use(state)
            if use.event_name not in readers:
                continue
            try:
                readers[use.event_name](use.payload)
            except TallybookError as error:
                yield position, use.event_name, error
        after = events[-1][0]
