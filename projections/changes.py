"""Spans of changes: the events that the totals of a bucket or a block were computed from."""

from collections.abc import Sequence

import msgspec

from ..domain.counting import UsageRecord


class ChangeSpan(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The first and the last position and time of recording of the events that changed something.

    These events are recorded meter events, also superseded ones, cancellations and their revocations. Times are
    microseconds since 1970 UTC. If the clock moved backwards, the event at the first position isn't the
    one with the first time.
    """

    first_position: int
    last_position: int
    first_recorded_at: int
    last_recorded_at: int

    @classmethod
    def from_usage(cls, records: Sequence[UsageRecord]) -> "ChangeSpan":
        """Return the span of at least one record, in ledger order, of their cancellations and of revocations."""
        times = [record.recorded_at for record in records]
        recorded = cls(records[0].position, records[-1].position, min(times), max(times))
        cancellations = [
            cls(record.cancelled_position, record.cancelled_position, record.cancelled_at, record.cancelled_at)
            for record in records
            if record.cancelled_position is not None and record.cancelled_at is not None
        ]
        revoked = [
            cls(position, position, at, at)
            for record in records
            for span in record.revoked
            for at, position in (span[:2], span[2:])
        ]
        return cls.merge_all([recorded, *cancellations, *revoked]) if cancellations or revoked else recorded

    @classmethod
    def merge_all(cls, spans: Sequence["ChangeSpan"]) -> "ChangeSpan":
        """Return the span of the changes of at least one span."""
        return cls(
            min([span.first_position for span in spans]),
            max([span.last_position for span in spans]),
            min([span.first_recorded_at for span in spans]),
            max([span.last_recorded_at for span in spans]),
        )

    def merge(self, other: "ChangeSpan") -> "ChangeSpan":
        """Return the span of the changes of both."""
        return ChangeSpan(
            min(self.first_position, other.first_position),
            max(self.last_position, other.last_position),
            min(self.first_recorded_at, other.first_recorded_at),
            max(self.last_recorded_at, other.last_recorded_at),
        )
