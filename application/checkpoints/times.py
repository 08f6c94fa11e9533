"""Compares the times of recording with the times of the checkpoints, which a clock that was put back contradicts."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from ..storage.recorded_time import MAX_CLOCK_DELAY, recorded_at_of
from .checkpoint import Checkpoint
from .comparison import CheckpointDifference
from .leaves import RawRowReader, row_pages


def check_times(ledger: RawRowReader, checkpoints: Sequence[Checkpoint], head: int) -> CheckpointDifference | None:
    """Return the first event whose time of recording can't be true, given the checkpoints before and after it.

    An event is not recorded earlier than a checkpoint that doesn't cover it, nor later than one that does, but for the
    difference of two clocks. Events without a time are left to the other checks. The positions must be those expected.
    """
    ends = [0, *(checkpoint.size for checkpoint in checkpoints), head]
    times = [None, *(checkpoint.time for checkpoint in checkpoints), None]
    for index in range(len(ends) - 1):
        earliest, latest = _text(times[index], -MAX_CLOCK_DELAY), _text(times[index + 1], MAX_CLOCK_DELAY)
        for rows in row_pages(ledger, ends[index] + 1, ends[index + 1]) if ends[index] < ends[index + 1] else ():
            for position, _stream, _version, _topic, state, _types in rows:
                recorded_at = recorded_at_of(state)
                if recorded_at is None:
                    continue
                if earliest is not None and recorded_at < earliest:
                    return _difference(position, recorded_at, "earlier than the checkpoint before it", times[index])
                if latest is not None and recorded_at > latest:
                    return _difference(position, recorded_at, "later than a checkpoint that has it", times[index + 1])
    return None


def _text(at: datetime | None, margin: timedelta) -> bytes | None:
    """Return a time as `recorded_at_of` does."""
    return None if at is None else (at + margin).strftime("%Y-%m-%dT%H:%M:%S").encode()


def _difference(position: int, recorded_at: bytes, relation: str, at: datetime | None) -> CheckpointDifference:
    message = f"The event at position {position} was recorded at {recorded_at.decode()}Z, {relation}, of {at}."
    return CheckpointDifference(position, position, message)
