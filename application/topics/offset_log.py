"""Offsets and rejected messages of a topic: entries of the key-value store, in the transactions of the meter events.

The entry of a batch is added, never replaced, under the number of messages that were read before the batch. A batch
starts where the one before has ended. So of two consumers that read the same messages, one stores them, and the other
stores nothing, also if their batches have different sizes. Unlike the offset, this number grows also after the topic
was created again, so that the entry with the largest one is the newest.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from hashlib import sha256

import msgspec

from ...domain.timestamps import from_microseconds, to_microseconds
from ..storage.key_value import KeyValueEntry, KeyValueStore
from .results import ConsumedMessages, RejectedMessage, TopicLag

OFFSET_KIND, END_KIND, REJECTED_KIND = "topic_offset", "topic_end", "topic_rejected"
MAX_REJECTED_PER_DAY = 1_000
"""How many rejected messages of a partition are stored for each UTC day. All are counted."""
OFFSET_RETENTION_MICROSECONDS = 86_400_000_000
"""Offsets of earlier batches are deleted after a day: no consumer that began before them is still alive."""
REJECTED_RETENTION_MICROSECONDS = 35 * OFFSET_RETENTION_MICROSECONDS
_NUMBER_DIGITS = 20
_PAGE_ENTRIES = 1_000


class PartitionOffset(msgspec.Struct, frozen=True, kw_only=True):
    """Where the next batch of a partition starts, with the numbers of all messages before it.

    `rejected_day` is the day of `stored_rejected`, the number of rejected messages that are stored for that day.
    `topic_id` is the broker's id of the topic, None if it has none.
    """

    topic: str
    group: str
    partition: int
    topic_id: str | None = None
    next_offset: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    rejected_day: int = 0
    stored_rejected: int = 0

    @property
    def messages(self) -> int:
        """The number of messages before the next batch."""
        return self.accepted + self.duplicates + self.rejected

    def after(self, next_offset: int, consumed: ConsumedMessages, day: int, stored_rejected: int) -> "PartitionOffset":
        """Return the offset after a batch that was recorded on a day."""
        stored_before = self.stored_rejected if day == self.rejected_day else 0
        return msgspec.structs.replace(
            self, next_offset=next_offset, accepted=self.accepted + consumed.accepted,
            duplicates=self.duplicates + consumed.duplicates, rejected=self.rejected + consumed.rejected,
            rejected_day=day, stored_rejected=stored_before + stored_rejected,
        )  # fmt: skip

    def room_for_rejected(self, day: int) -> int:
        """Return how many more rejected messages may be stored on a day."""
        return MAX_REJECTED_PER_DAY - (self.stored_rejected if day == self.rejected_day else 0)


class OffsetLog:
    """The offsets of one topic for one group."""

    def __init__(self, key_values: KeyValueStore, topic: str, group: str) -> None:
        self._key_values = key_values
        self.topic = topic
        self.group = group
        self.scope = sha256(f"{group}\n{topic}".encode()).hexdigest()[:32]

    def read(self, partition: int) -> PartitionOffset | None:
        """Return where the next batch of a partition starts; None if nothing of it was recorded."""
        prefix = self._prefix(partition)
        newest = self._key_values.scan(OFFSET_KIND, after=f"{prefix}~", limit=1, newest_first=True)
        return _decode_offset(newest[0].body) if newest and newest[0].key.startswith(prefix) else None

    def entry(self, start: PartitionOffset, end: PartitionOffset, at: datetime) -> KeyValueEntry:
        """Return the entry to add with a batch."""
        key = self._key(start.partition, start.messages)
        return KeyValueEntry(OFFSET_KIND, key, to_microseconds(at), msgspec.json.encode(end))

    def rejected_entry(self, rejected: RejectedMessage, messages_before: int) -> KeyValueEntry:
        """Return the entry of a rejected message, to add with its batch, given the number of messages before it."""
        key = self._key(rejected.partition, messages_before)
        return KeyValueEntry(REJECTED_KIND, key, to_microseconds(rejected.rejected_at), msgspec.json.encode(rejected))

    def set_ends(self, ends: dict[int, int], at: datetime) -> None:
        """Store the offsets after the last messages of partitions, as they are known now."""
        self._key_values.apply(
            upsert=[
                KeyValueEntry(END_KIND, self._prefix(partition), to_microseconds(at), str(end).encode())
                for partition, end in ends.items()
            ]
        )

    def delete_old(self, partitions: Sequence[int], at: datetime) -> None:
        """Delete the offsets of batches before the last day, except the newest, and rejected messages after 35 days."""
        now = to_microseconds(at)
        for partition in partitions:
            while self._delete_old_offsets(partition, now - OFFSET_RETENTION_MICROSECONDS):
                pass
        until = now - REJECTED_RETENTION_MICROSECONDS
        while self._key_values.delete_due_before(REJECTED_KIND, until, _PAGE_ENTRIES) == _PAGE_ENTRIES:
            pass

    def _delete_old_offsets(self, partition: int, until: int) -> bool:
        """Delete the oldest offsets before a time, except the newest. Return whether there may be more of them."""
        prefix = self._prefix(partition)
        entries = self._key_values.scan(OFFSET_KIND, after=prefix, limit=_PAGE_ENTRIES)
        own = [entry for entry in entries if entry.key.startswith(prefix)]
        old = [(OFFSET_KIND, entry.key) for entry in own[:-1] if entry.at < until]
        self._key_values.apply(delete=old)
        return len(old) == _PAGE_ENTRIES - 1

    def _prefix(self, partition: int) -> str:
        return f"{self.scope}/{partition:010d}/"

    def _key(self, partition: int, messages_before: int) -> str:
        return f"{self._prefix(partition)}{messages_before:0{_NUMBER_DIGITS}d}"


def read_lags(key_values: KeyValueStore) -> list[TopicLag]:
    """Return how far all partitions of all topics and groups were recorded."""
    ends = {entry.key: entry for entry in _scan(key_values, END_KIND)}
    lags: list[TopicLag] = []
    for prefix, entry in _newest_offsets(key_values):
        offset = _decode_offset(entry.body)
        end = ends.get(prefix)
        last = offset.next_offset if end is None else int(end.body)
        read_at = from_microseconds(max(entry.at, end.at) if end is not None else entry.at)
        lags.append(
            TopicLag(
                offset.topic, offset.group, offset.partition, offset.next_offset, max(0, last - offset.next_offset),
                read_at, offset.accepted, offset.duplicates, offset.rejected,
            )
        )  # fmt: skip
    return sorted(lags, key=lambda lag: (lag.topic, lag.group, lag.partition))


def read_rejected(key_values: KeyValueStore) -> list[RejectedMessage]:
    """Return the rejected messages that are stored, by topic, group and partition, in the order they were read in."""
    rejected = [_decode_rejected(entry.body) for entry in _scan(key_values, REJECTED_KIND)]
    return sorted(rejected, key=lambda message: (message.topic, message.group, message.partition))


def day_of(at: datetime) -> int:
    """Return the number of the UTC day of a time."""
    return at.astimezone(UTC).toordinal()


def _newest_offsets(key_values: KeyValueStore) -> Iterator[tuple[str, KeyValueEntry]]:
    """Yield the newest entry of each partition with the prefix of its key: one read each, whatever the number."""
    before: str | None = None
    while newest := key_values.scan(OFFSET_KIND, after=before, limit=1, newest_first=True):
        before = newest[0].key.rpartition("/")[0] + "/"
        yield before, newest[0]


def _scan(key_values: KeyValueStore, kind: str) -> Iterator[KeyValueEntry]:
    after: str | None = None
    while entries := key_values.scan(kind, after=after, limit=_PAGE_ENTRIES):
        yield from entries
        after = entries[-1].key


_decode_offset: Callable[[bytes], PartitionOffset] = msgspec.json.Decoder(PartitionOffset).decode
_decode_rejected: Callable[[bytes], RejectedMessage] = msgspec.json.Decoder(RejectedMessage).decode
