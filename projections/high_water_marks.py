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

    def add_before(self, position: int, latest: int) -> int:
        """Add the missing marks before a position, where `latest` is the latest time; return the next one's position.

        The first call is for the first position of the page.
        """
        next_mark = -(-position // MARK_INTERVAL) * MARK_INTERVAL
        if self._next_mark is not None:
            self.marks += [HighWaterMark(mark, latest) for mark in range(self._next_mark, next_mark, MARK_INTERVAL)]
        self._next_mark, self.latest = next_mark, latest
        return next_mark


def marks_after(latest: int, marks: Sequence[HighWaterMark]) -> list[HighWaterMark]:
    """Return the marks of a page that follows events of which `latest` is the latest time of recording."""
    return [mark if mark.recorded_at >= latest else mark._replace(recorded_at=latest) for mark in marks]
