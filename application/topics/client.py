"""The messages of one topic, through the package confluent-kafka: all of its partitions, from given offsets."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from ...domain.errors import InvalidUsageSource, UsageSourceUnavailable
from .messages import Message

MAX_BATCH_MESSAGES = 5_000
_TIMEOUT_SECONDS = 10.0
_LOG_LEVEL = {"log_level": 2}
_SETTINGS = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "queued.max.messages.kbytes": 16_384,
    **_LOG_LEVEL,
}
_NO_ID = "A" * 22
"""The topic id, in base64, of a broker that has none: Kafka before 2.8."""
_LOST = {KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET}  # noqa: SLF001 - the library has no other name


class Fetched(NamedTuple):
    """The messages that were read at once, and the partitions of which there are none left at the moment."""

    messages: Sequence[Message]
    ended: frozenset[int]


class TopicClient:
    """Reads all partitions of a topic. There are no groups to join: the caller states the offsets."""

    def __init__(
        self, topic: str, brokers: str, group: str, settings: Mapping[str, str], *, skip_lost: bool = False
    ) -> None:
        """Raise InvalidUsageSource for unknown settings. With `skip_lost`, messages that were deleted are skipped."""
        self.topic = topic
        self.brokers = brokers
        try:
            self._consumer: Any = Consumer(
                {
                    **settings, "bootstrap.servers": brokers, "group.id": group, **_SETTINGS,
                    "auto.offset.reset": "earliest" if skip_lost else "error",
                }
            )  # fmt: skip
            self._admin: Any = AdminClient({**settings, "bootstrap.servers": brokers, **_LOG_LEVEL})
        except (KafkaException, ValueError, TypeError) as error:
            raise InvalidUsageSource(
                f"The settings of the broker can't be used: {_reason(error)}.", field="brokers", value=brokers
            ) from error
        self._partitions: list[int] = []

    def partitions(self) -> list[int]:
        """Return the numbers of the partitions. Raise UsageSourceUnavailable."""
        try:
            found: Any = self._consumer.list_topics(self.topic, timeout=_TIMEOUT_SECONDS).topics[self.topic]
        except KafkaException as error:
            raise self.unavailable(_reason(error)) from error
        if found.error is not None:
            raise self.unavailable(_reason(KafkaException(found.error)))
        return sorted(found.partitions)

    def topic_id(self) -> str | None:
        """Return the id that the topic got when it was created, which no other topic has; None if the broker has none.

        Raise UsageSourceUnavailable.
        """
        described = self._admin.describe_topics(TopicCollection([self.topic]), request_timeout=_TIMEOUT_SECONDS)
        try:
            topic_id = str(described[self.topic].result().topic_id)
        except KafkaException as error:
            raise self.unavailable(_reason(error)) from error
        return None if topic_id == _NO_ID else topic_id

    def assign(self, offsets: Mapping[int, int | None]) -> None:
        """Read from these offsets of the partitions on; from the first message that the broker has if None."""
        self._partitions = list(offsets)
        self._consumer.assign(
            [
                TopicPartition(self.topic, partition, OFFSET_BEGINNING if offset is None else offset)
                for partition, offset in offsets.items()
            ]
        )

    def fetch(self, timeout_seconds: float) -> Fetched:
        """Return the next messages. Raise UsageSourceUnavailable, or InvalidUsageSource if messages are lost."""
        messages: list[Message] = []
        ended: set[int] = set()
        for message in self._consumer.consume(MAX_BATCH_MESSAGES, timeout=timeout_seconds):
            error = message.error()
            if error is None:
                messages.append(Message.of(message))
                ended.discard(message.partition())
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - the library has no other name
                ended.add(message.partition())
            elif error.code() in _LOST:
                raise InvalidUsageSource(
                    f"The broker no longer has the next messages of partition {message.partition()} of the topic "
                    f"{self.topic!r}: they were deleted before they were read, or the topic was created again. Use "
                    "accept_loss to go on with the first message that the broker has.",
                    field="topic",
                    value=self.topic,
                )
            elif not error.retriable():
                raise self.unavailable(_reason(KafkaException(error)))
        return Fetched(messages, frozenset(ended))

    def ends(self) -> dict[int, int]:
        """Return the offsets after the last messages, as far as they are known."""
        ends: dict[int, int] = {}
        for partition in self._partitions:
            _, high = self._consumer.get_watermark_offsets(TopicPartition(self.topic, partition), cached=True)
            if high >= 0:
                ends[partition] = high
        return ends

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Tell the broker the offsets, for its own tools. It is not waited for, and nothing depends on it."""
        self._consumer.commit(
            offsets=[TopicPartition(self.topic, partition, offset) for partition, offset in offsets.items()],
            asynchronous=True,
        )

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()

    def unavailable(self, reason: str) -> UsageSourceUnavailable:
        """Return the error for a broker that can't be read for this reason."""
        return UsageSourceUnavailable(
            f"The topic {self.topic!r} can't be read from {self.brokers}: {reason}.",
            field="brokers",
            value=self.brokers,
        )


def _reason(error: Exception) -> str:
    first: Any = error.args[0] if error.args else error
    return str(first.str() if isinstance(first, KafkaError) else first).rstrip(".")
