"""The event time window of a meter: the UTC hour or day in which only the newest meter event counts."""

from enum import StrEnum

from .timestamps import MICROSECONDS_PER_SECOND


class EventTimeWindow(StrEnum):
    """The UTC window in which a newer meter event supersedes earlier ones."""

    HOUR = "hour"
    DAY = "day"

    @property
    def microseconds(self) -> int:
        """The length of the window in microseconds."""
        return (3_600 if self is EventTimeWindow.HOUR else 86_400) * MICROSECONDS_PER_SECOND


def round_up_to_window(at: int, window: EventTimeWindow | None) -> int:
    """Return the first time from `at` on, in microseconds, at which a window starts; `at` without a window.

    A range consists of the windows that start in it. So its bounds are rounded up, and ranges that adjoin tile.
    """
    return at if window is None else at + -at % window.microseconds
