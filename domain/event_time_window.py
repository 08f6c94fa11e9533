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
