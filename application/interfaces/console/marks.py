"""Marks on the as-of control: positions of the ledger at which a total can have changed."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from ...metering import Metering
from .selection import Selection

MAX_MARKS = 40


@dataclass(frozen=True, slots=True)
class Mark:
    """A position, with what happened there. A total as of the position includes it; one `before` does not."""

    position: int
    kind: str
    text: str

    @property
    def before(self) -> int:
        """The position before it."""
        return max(self.position - 1, 0)


def read_marks(metering: Metering, selection: Selection, corrections: Iterable[int] = ()) -> list[Mark]:
    """Return the changes of rules, the closings of the range, and the given corrections; the last 40, in order."""
    marks = chain(_rule_changes(metering, selection), _closings(metering, selection), _corrections(corrections))
    return sorted(marks, key=lambda mark: mark.position)[-MAX_MARKS:]


def _rule_changes(metering: Metering, selection: Selection) -> Iterable[Mark]:
    for revision in metering.meters.history(selection.event_name):
        if revision.revision == 1:
            yield Mark(revision.position, "rules", "meter configured")
        else:
            by = f" by {revision.by}" if revision.by else ""
            yield Mark(revision.position, "rules", f"rules changed to revision {revision.revision}{by}")


def _closings(metering: Metering, selection: Selection) -> Iterable[Mark]:
    if selection.customer is None:
        return
    closed = metering.periods.list(
        selection.event_name, selection.customer, start=selection.start, end=selection.end, reopened=True
    )
    for period in closed:
        yield Mark(period.position, "closed", f"period closed{'' if period.is_closed else ', reopened since'}")


def _corrections(positions: Iterable[int]) -> Iterable[Mark]:
    return (Mark(position, "cancelled", "cancellation") for position in positions)
