"""The windows of an answer: those of a range in which there can be any usage."""

from itertools import islice
from zoneinfo import ZoneInfo

from ..domain.calendar import CalendarWindow, window_around, windows
from ..domain.errors import InvalidParameter
from ..domain.instants import instant, microseconds

MOST_WINDOWS = 100_000


def tiles(within: tuple[int, int], used: tuple[int, int], window: CalendarWindow, timezone: ZoneInfo) -> list[int]:
    """The bounds of the windows of `within` from the first to the last that touch what is `used`, in microseconds.

    Raises InvalidParameter where they are more than 100,000.
    """
    first, last = max(within[0], used[0]), min(within[1], used[1])
    if first >= last:
        return []
    opening = max(instant(within[0]), window_around(instant(first), window, timezone)[0])
    closing = min(instant(within[1]), window_around(instant(last - 1), window, timezone)[1])
    found = list(islice(windows(opening, closing, window, timezone), MOST_WINDOWS + 1))
    if len(found) > MOST_WINDOWS:
        raise InvalidParameter(
            f"There are more than {MOST_WINDOWS} windows of a {window} in the range; ask for a shorter one.",
            field="window",
            value=str(window),
        )
    return [microseconds(start) for start, _ in found] + [microseconds(closing)]
