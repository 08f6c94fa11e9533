"""High-water marks of the time of recording, by which a time is resolved to the position of the events known then.

In a ledger that an early version wrote, an event may have an earlier time of recording than the one before it: now the
store prevents that. As of a time means as of the last position before the first event that was
recorded later, so what is recorded afterwards, at whatever time, doesn't change what was known then.
docs/decisions/0037 has the reasons.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ..domain.timestamps import MIN_DATETIME, to_microseconds

MARK_INTERVAL = 64
"""There is a mark at each position that is a multiple of this."""
BEFORE_ALL_TIMES = to_microseconds(MIN_DATETIME) - 1
"""The high-water mark before the first event."""


class HighWaterMark(NamedTuple):
    """The latest time of recording, in microseconds since 1970 UTC, of the events up to a position."""

    position: int
    recorded_at: int


class PageMarks:
    """Collects the marks of one page, of its own events only: `marks_after` includes those before it."""

    def __init__(self) -> None:
        self.marks: list[HighWaterMark] = []
        self.latest = BEFORE_ALL_TIMES
        self._next_mark: int | None = None

    def add_event(self, position: int, recorded_at: int) -> None:
        """Add the missing marks before an event. Of consecutive events with one time of recording, the first is enough.

        The first call is for the first event of the page.
        """
        if recorded_at > self.latest:
            self.add_before(position)
            self.latest = recorded_at

    def add_before(self, position: int) -> None:
        """Add the missing marks before a position, which have the latest time."""
        if self._next_mark is not None and position <= self._next_mark:
            return
        next_mark = -(-position // MARK_INTERVAL) * MARK_INTERVAL
        if self._next_mark is not None:
            marks = range(self._next_mark, next_mark, MARK_INTERVAL)
            self.marks += [HighWaterMark(mark, self.latest) for mark in marks]
        self._next_mark = next_mark


def marks_after(latest: int, marks: Sequence[HighWaterMark]) -> list[HighWaterMark]:
    """Return the marks of a page that follows events of which `latest` is the latest time of recording."""
    return [mark if mark.recorded_at >= latest else mark._replace(recorded_at=latest) for mark in marks]
