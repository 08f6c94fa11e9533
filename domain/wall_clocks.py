"""Wall clocks: when those of a timezone come to a time that they may skip, or show twice."""

from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo


def first_reached(wall: datetime, timezone: ZoneInfo) -> datetime:
    """The first instant, in UTC, at which the clocks of `timezone` show `wall` or later.

    Of a time that comes twice that is the first; of one that is skipped, the instant at which the clocks skip it. So
    a later `wall` is never reached earlier.
    """
    before, after = timezone.utcoffset(wall.replace(fold=0)), timezone.utcoffset(wall.replace(fold=1))
    assert before is not None
    assert after is not None
    if before < after:
        return _skipped(wall.replace(microsecond=0), before, after, timezone)
    return (wall - before).replace(tzinfo=UTC)


def _skipped(wall: datetime, before: timedelta, after: timedelta, timezone: ZoneInfo) -> datetime:
    """The second at which the clocks pass `wall`, between its readings by the two offsets; zones don't tell it."""
    earliest = (wall - after).replace(tzinfo=UTC)

    def has_passed(second: int) -> bool:
        return (earliest + timedelta(seconds=second)).astimezone(timezone).replace(tzinfo=None) >= wall

    second = bisect_left(range((after - before) // timedelta(seconds=1)), True, key=has_passed)
    return earliest + timedelta(seconds=second)
