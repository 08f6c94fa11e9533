"""Spans of changes: the events that the totals of a bucket or a block were computed from."""

from collections.abc import Sequence

import msgspec

from ..domain.counting import UsageRecord


class ChangeSpan(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The first and the last position of the events that changed something.

    These events are recorded meter events, also superseded ones, cancellations and their revocations.
    """

    first_position: int
    last_position: int

    @classmethod
    def from_usage(cls, records: Sequence[UsageRecord]) -> "ChangeSpan":
        """Return the span of at least one record, in ledger order, of their cancellations and of revocations."""
        cancelled = [record.cancelled_position for record in records if record.cancelled_position is not None]
        revoked = [span.revoked_position for record in records for span in record.revoked]
        return cls(records[0].position, max([records[-1].position, *cancelled, *revoked]))

    @classmethod
    def merge_all(cls, spans: Sequence["ChangeSpan"]) -> "ChangeSpan":
        """Return the span of the changes of at least one span."""
        return cls(min([span.first_position for span in spans]), max([span.last_position for span in spans]))

    def merge(self, other: "ChangeSpan") -> "ChangeSpan":
        """Return the span of the changes of both."""
        # Conditions instead of `min` and `max`, because this runs for every bucket and block that a page changes.
        first, last = self.first_position, self.last_position
        return ChangeSpan(
            first if first < other.first_position else other.first_position,  # noqa: FURB136
            last if last > other.last_position else other.last_position,  # noqa: FURB136
        )
