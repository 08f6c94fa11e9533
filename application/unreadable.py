"""Uses that candidate rules can't read: what stands in the way of changing to them."""

from collections.abc import Mapping

from ..domain.errors import ProjectionStopped, RulesCannotRead, TallybookError, UnreadableUse
from ..domain.rules import Rules
from ..projections.projector import PAGE_SIZE
from .ledger import Ledger
from .mapper import USAGE_RECORDED, decode_use

MOST_LISTED = 1_000


def unreadable_uses(ledger: Ledger, rules: Mapping[str, Rules], stopped: ProjectionStopped) -> RulesCannotRead | None:
    """The refusal of `rules`, by event name; None if they are not what stopped the fold."""
    listed: list[UnreadableUse] = []
    count, after = 0, stopped.position - 1
    while events := ledger.page(after, PAGE_SIZE):
        for position, topic, state in events:
            if topic != USAGE_RECORDED:
                continue
            use = decode_use(state)
            if use.event_name not in rules:
                continue
            try:
                rules[use.event_name].read(use.payload)
            except TallybookError as error:
                count += 1
                if len(listed) < MOST_LISTED:
                    identifier = ledger.recordings([position])[position][0]
                    listed.append(UnreadableUse(position, identifier, use.event_name, error.code, error.message))
        after = events[-1][0]
    if not listed or listed[0].position != stopped.position:
        return None
    first = listed[0]
    return RulesCannotRead(
        f"The new rules can't read {count} of the meter events that are recorded. The first is {first.identifier!r} at "
        f"position {first.position}: {first.message} Nothing was changed.",
        tuple(listed),
        count,
    )
