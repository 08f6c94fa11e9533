"""Ranges of positions that a stream takes note of: the events that its own events were stored with.

An event with a `count` is stored as the last one of a transaction, directly after as many others. So the stream knows
which events belong to it, and these don't need a field that names the stream.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator

import msgspec
from eventsourcing.persistence import Notification


class PositionRanges:
    """Ranges of positions, in order."""

    def __init__(self, ranges: Iterable[range] = ()) -> None:
        self._ranges = [positions for positions in ranges if positions]
        self._starts = [positions.start for positions in self._ranges]

    @classmethod
    def before(cls, stored_events: Iterable[Notification], topics: Collection[str]) -> "PositionRanges":
        """Return the positions of the events before each event of these topics, as many as its `count`."""
        counts = ((event.id, _decode(event.state).count) for event in stored_events if event.topic in topics)
        return cls(range(position - count, position) for position, count in counts)

    def __contains__(self, position: int) -> bool:
        index = bisect_right(self._starts, position) - 1
        return index >= 0 and position in self._ranges[index]

    def __iter__(self) -> Iterator[range]:
        return iter(self._ranges)


class _Counted(msgspec.Struct):
    count: int


_decode = msgspec.json.Decoder(_Counted).decode
