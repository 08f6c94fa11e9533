"""What a consumer of a topic returns. The values are immutable."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ConsumedMessages:
    """The messages of one or more batches by outcome. `rejected` includes conflicts."""

    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0

    @property
    def messages(self) -> int:
        """The number of messages that were read."""
        return self.accepted + self.duplicates + self.rejected

    def __add__(self, other: "ConsumedMessages") -> "ConsumedMessages":
        return ConsumedMessages(
            self.accepted + other.accepted, self.duplicates + other.duplicates, self.rejected + other.rejected
        )


@dataclass(frozen=True, slots=True)
class TopicLag:
    """How far the messages of a partition were recorded.

    `next_offset` is that of the next message to record, and `lag` the number of messages from it to the end of the
    partition, which was read at `read_at`. The other numbers are those of all messages that the group has recorded.
    """

    topic: str
    group: str
    partition: int
    next_offset: int
    lag: int
    read_at: datetime
    accepted: int
    duplicates: int
    rejected: int


@dataclass(frozen=True, slots=True)
class RejectedMessage:
    """A message that was not recorded, with the error. `value` has its first 10,000 characters."""

    topic: str
    group: str
    partition: int
    offset: int
    published_at: datetime | None
    rejected_at: datetime
    identifier: str | None
    code: str
    message: str
    value: str
