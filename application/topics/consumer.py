"""TopicConsumer: records the messages of a topic, with their offsets in the transaction of the meter events."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING

from msgspec.structs import replace

from ...domain.errors import Corrupted, InvalidUsageSource, TallybookError, Unavailable
from ...domain.timestamps import ensure_utc
from ..commands.group_commit import may_be_caused_by_one
from ..metering import Metering
from ..results import Outcome, Receipt
from ..storage.key_value import EntryExists, KeyValueEntry
from ..usage_import.meter_lookup import MeterLookup
from ..usage_import.row_mapper import RowFormat
from .messages import Message, MessageMapper
from .offset_log import OffsetLog, PartitionOffset, day_of, read_lags, read_rejected
from .results import ConsumedMessages, RejectedMessage, TopicLag

if TYPE_CHECKING:
    from .client import TopicClient

OnBatch = Callable[[ConsumedMessages], object]
"""Called with the outcomes of each batch."""
OnUnavailable = Callable[[Unavailable], object]
MAX_VALUE_CHARACTERS = 10_000
_FETCH_SECONDS = 0.5
_STATUS_SECONDS, _PARTITIONS_SECONDS, _DELETE_SECONDS = 5.0, 60.0, 3_600.0
_STANDBY_SECONDS = 1.0
_ANSWER_SECONDS = 30.0
"""How long partitions that have not ended may send nothing. Longer than a broker takes to replace another."""


class TopicConsumer:
    """Records the usage in the messages of a topic, exactly once, and their offsets with it.

    A message is an object in JSON, as a line of a JSONL file: the default fields are `identifier`, `timestamp`,
    `event_name` and `payload`. Or it is a CloudEvent, in structured or binary mode. Without an identifier it is named
    by its topic, partition, offset and time; without a timestamp it has the time of the message. `group` names the
    offsets. One consumer of a group and topic is active at a time; others wait to take over. What is rejected is
    stored with the reason, and holds up no other message.
    """

    def __init__(
        self,
        metering: Metering,
        topic: str,
        brokers: str,
        *,
        group: str = "tallybook",
        row_format: RowFormat | None = None,
        settings: Mapping[str, str] | None = None,
        accept_loss: bool = False,
    ) -> None:
        """`settings` are those of librdkafka, such as security.protocol.

        With `accept_loss`, messages that the broker has deleted before they were read are skipped, and a topic that
        was created again is read from its first message.
        """
        self.topic = topic
        self.group = group
        self._metering = metering
        self._brokers = brokers
        self._row_format = row_format or RowFormat()
        self._settings = settings or {}
        self._accept_loss = accept_loss
        self._key_values = metering.key_value_store()
        self._log = OffsetLog(self._key_values, topic, group)

    def consume(self, *, stop: threading.Event | None = None, on_batch: OnBatch | None = None) -> ConsumedMessages:
        """Record the messages up to the present end of the topic. Nothing is done while another process consumes it.

        Raises UsageSourceUnavailable, InvalidUsageSource, and the errors of the ledger.
        """
        with self._key_values.try_lock(f"consume {self._log.scope}") as is_locked:
            return self._read(stop or threading.Event(), on_batch, until_end=True) if is_locked else ConsumedMessages()

    def run(
        self, stop: threading.Event, *, on_batch: OnBatch | None = None, on_unavailable: OnUnavailable | None = None
    ) -> None:
        """Record messages as they come, until `stop` is set. Another process takes over if this one ends.

        If the broker or the ledger is unavailable, it is tried again after a second, after `on_unavailable` is called.
        """
        while not stop.is_set():
            try:
                with self._key_values.try_lock(f"consume {self._log.scope}") as is_locked:
                    if is_locked:
                        self._read(stop, on_batch, until_end=False)
            except Unavailable as error:
                if on_unavailable is not None:
                    on_unavailable(error)
            stop.wait(_STANDBY_SECONDS)

    def lag(self) -> list[TopicLag]:
        """Return how far each partition was recorded."""
        return [lag for lag in read_lags(self._key_values) if (lag.topic, lag.group) == (self.topic, self.group)]

    def rejected(self) -> list[RejectedMessage]:
        """Return the messages that were not recorded: of each partition and UTC day the first 1,000, for 35 days."""
        messages = read_rejected(self._key_values)
        return [message for message in messages if (message.topic, message.group) == (self.topic, self.group)]

    def _read(self, stop: threading.Event, on_batch: OnBatch | None, *, until_end: bool) -> ConsumedMessages:
        """Read and record batches, until `stop` is set, or until all partitions have ended."""
        total = ConsumedMessages()
        with closing(self._open_client()) as client:
            offsets = self._assign(client, {})
            ended: set[int] = set()
            status_at = partitions_at = answered_at = time.monotonic()
            deleted_at = -_DELETE_SECONDS
            while not stop.is_set() and not (until_end and ended.issuperset(offsets)):
                fetched = client.fetch(_FETCH_SECONDS)
                ended = (ended - {message.partition for message in fetched.messages}) | fetched.ended
                if fetched.messages:
                    try:
                        consumed, recorded = self._record(fetched.messages, offsets)
                    except EntryExists:  # another consumer has recorded these messages: go on after them
                        offsets = self._assign(client, {})
                        continue
                    offsets |= recorded
                    total += consumed
                    client.commit({partition: offset.next_offset for partition, offset in recorded.items()})
                    if on_batch is not None:
                        on_batch(consumed)
                now = time.monotonic()
                if fetched.messages or fetched.ended or ended.issuperset(offsets):
                    answered_at = now
                elif now - answered_at >= _ANSWER_SECONDS:
                    raise client.unavailable(f"no partition has answered for {_ANSWER_SECONDS:g} seconds")
                if now - status_at >= _STATUS_SECONDS:
                    status_at = now
                    self._log.set_ends(client.ends(), self._now())
                if now - partitions_at >= _PARTITIONS_SECONDS:
                    partitions_at = now
                    offsets = self._assign(client, offsets)
                if now - deleted_at >= _DELETE_SECONDS:
                    deleted_at = now
                    self._log.delete_old(list(offsets), self._now())
            self._log.set_ends(client.ends(), self._now())
        return total

    def _open_client(self) -> "TopicClient":
        try:
            from .client import TopicClient  # noqa: PLC0415 - an extra
        except ImportError as error:
            message = f"A topic needs an extra ({error}): pip install 'tallybook[kafka]'."
            raise InvalidUsageSource(message, field="topic", value=self.topic) from None
        return TopicClient(self.topic, self._brokers, self.group, self._settings, skip_lost=self._accept_loss)

    def _assign(self, client: "TopicClient", known: Mapping[int, PartitionOffset]) -> dict[int, PartitionOffset]:
        """Return the offsets of all partitions, and read from there, if there are others than the known ones.

        A topic that was created again is read from its first message with `accept_loss`; otherwise InvalidUsageSource
        is raised.
        """
        partitions, topic_id = client.partitions(), client.topic_id()
        if known and set(partitions) <= set(known) and all(self._is_of(known[one], topic_id) for one in partitions):
            return dict(known)
        stored = {partition: self._log.read(partition) for partition in partitions}
        same = {partition: offset for partition, offset in stored.items() if offset and self._is_of(offset, topic_id)}
        if len(same) < sum(offset is not None for offset in stored.values()) and not self._accept_loss:
            raise InvalidUsageSource(
                f"The topic {self.topic!r} at {self._brokers} is another one than the group {self.group!r} has read: "
                "it was created again, or is in another cluster. For another cluster, name another group. Use "
                "accept_loss to go on with the first message that the broker has.",
                field="topic",
                value=self.topic,
            )
        client.assign(
            {partition: same[partition].next_offset if partition in same else None for partition in partitions}
        )
        return {
            partition: replace(
                stored[partition] or PartitionOffset(topic=self.topic, group=self.group, partition=partition),
                topic_id=topic_id,
            )
            for partition in partitions
        }

    @staticmethod
    def _is_of(offset: PartitionOffset, topic_id: str | None) -> bool:
        """Return whether an offset is one of the topic with this id, as far as the broker has ids."""
        return None in (topic_id, offset.topic_id) or offset.topic_id == topic_id

    def _record(
        self, messages: Sequence[Message], offsets: Mapping[int, PartitionOffset]
    ) -> tuple[ConsumedMessages, dict[int, PartitionOffset]]:
        """Record messages and the offsets after them. Raise EntryExists if another consumer has recorded some.

        If one of them may be why none can be recorded, the halves are recorded separately, until it is alone. Raise
        Corrupted if what is stored for it can't be read: nothing is wrong with the message.
        """
        try:
            return self._record_batch(messages, offsets)
        except TallybookError as error:
            if not may_be_caused_by_one(error) or (len(messages) == 1 and isinstance(error, Corrupted)):
                raise
            if len(messages) == 1:
                return self._record_batch(messages, offsets, error)
        middle = len(messages) // 2
        first, first_offsets = self._record(messages[:middle], offsets)
        second, second_offsets = self._record(messages[middle:], {**offsets, **first_offsets})
        return first + second, {**first_offsets, **second_offsets}

    def _record_batch(
        self, messages: Sequence[Message], offsets: Mapping[int, PartitionOffset], error: TallybookError | None = None
    ) -> tuple[ConsumedMessages, dict[int, PartitionOffset]]:
        """Record messages in one transaction, or only that the first of them is rejected with an error."""
        mapper = MessageMapper(self._row_format, MeterLookup(self._metering).schedule)
        mapped = [mapper.map(message) for message in messages] if error is None else [error]
        meter_events = [meter_event for meter_event in mapped if not isinstance(meter_event, TallybookError)]
        result: dict[int, PartitionOffset] = {}
        consumed = ConsumedMessages()

        def attach(receipts: Sequence[Receipt], at: datetime) -> Sequence[KeyValueEntry]:
            nonlocal consumed
            remaining = iter(receipts)
            outcomes = [
                Receipt(None, None, Outcome.REJECTED, event) if isinstance(event, TallybookError) else next(remaining)
                for event in mapped
            ]
            consumed = _count(outcomes)
            entries: list[KeyValueEntry] = []
            by_partition: dict[int, list[tuple[Message, Receipt]]] = {}
            for message, receipt in zip(messages, outcomes, strict=True):
                by_partition.setdefault(message.partition, []).append((message, receipt))
            for partition, own in by_partition.items():
                start, day = offsets[partition], day_of(at)
                rejected = [
                    (number, message, receipt)
                    for number, (message, receipt) in enumerate(own, start.messages)
                    if receipt.error is not None
                ]
                stored = rejected[: max(0, start.room_for_rejected(day))]
                counted = _count([receipt for _, receipt in own])
                result[partition] = start.after(own[-1][0].offset + 1, counted, day, len(stored))
                entries.append(self._log.entry(start, result[partition], at))
                entries += (
                    self._log.rejected_entry(self._rejected(message, receipt, at), number)
                    for number, message, receipt in stored
                )
            return entries

        self._metering.record_many(meter_events, attach=attach)
        return consumed, result

    def _rejected(self, message: Message, receipt: Receipt, at: datetime) -> RejectedMessage:
        assert receipt.error is not None
        return RejectedMessage(
            self.topic, self.group, message.partition, message.offset, message.published_at, at, receipt.identifier,
            receipt.error.code, receipt.error.message, message.text[:MAX_VALUE_CHARACTERS],
        )  # fmt: skip

    def _now(self) -> datetime:
        return ensure_utc(self._metering.clock(), "clock")


def _count(receipts: Sequence[Receipt]) -> ConsumedMessages:
    outcomes = [receipt.outcome for receipt in receipts]
    accepted, duplicates = outcomes.count(Outcome.ACCEPTED), outcomes.count(Outcome.DUPLICATE)
    return ConsumedMessages(accepted, duplicates, len(outcomes) - accepted - duplicates)
