"""A topic that was created again, whose offsets begin at 0 again: with accept_loss the consumer goes on.

The broker is a list of values in this process, except in the last test.
"""

import json
from collections.abc import Mapping, Sequence

import pytest
from tallybook.application import InvalidUsageSource, Metering
from tallybook.application.topics.client import Fetched
from tallybook.application.topics.consumer import TopicConsumer
from tallybook.application.topics.messages import Message
from tallybook.application.topics.results import ConsumedMessages

from .broker import NOW, Broker

TOPIC = "usage"
MAX_FETCHES = 50


class ListClient:
    """Reads the values of a topic with one partition, as TopicClient does with accept_loss."""

    def __init__(self, values: Sequence[bytes], batch_size: int) -> None:
        self._values = values
        self._batch_size = batch_size
        self._next = self._fetches = 0

    def partitions(self) -> list[int]:
        return [0]

    def topic_id(self) -> str | None:
        return None

    def assign(self, offsets: Mapping[int, int | None]) -> None:
        offset = offsets[0] or 0
        self._next = 0 if offset > len(self._values) else offset

    def fetch(self, _timeout_seconds: float) -> Fetched:
        self._fetches += 1
        assert self._fetches <= MAX_FETCHES, "the consumer makes no progress"
        first, self._next = self._next, min(self._next + self._batch_size, len(self._values))
        at = int(NOW.timestamp() * 1_000)
        messages = [Message(TOPIC, 0, offset, at, self._values[offset], {}) for offset in range(first, self._next)]
        return Fetched(messages, frozenset({0} if self._next == len(self._values) else ()))

    def ends(self) -> dict[int, int]:
        return {0: len(self._values)}

    def commit(self, offsets: Mapping[int, int]) -> None:
        pass

    def close(self) -> None:
        pass


def events(*identifiers: str) -> list[bytes]:
    """Return a message for each identifier. Those that begin with `bad` are rejected."""
    return [
        json.dumps(
            {
                "event_name": "tokens",
                "identifier": identifier,
                "payload": {"customer": "acme", "tokens": "many" if identifier.startswith("bad") else 1},
            }
        ).encode()
        for identifier in identifiers
    ]


def consume(
    metering: Metering, monkeypatch: pytest.MonkeyPatch, values: Sequence[bytes], batch_size: int = 10
) -> ConsumedMessages:
    """Start a consumer that reads up to the end of the values."""

    def open_client(_: TopicConsumer) -> ListClient:
        return ListClient(values, batch_size)

    monkeypatch.setattr(TopicConsumer, "_open_client", open_client)
    return TopicConsumer(metering, TOPIC, "", accept_loss=True).consume()


def test_every_restart_goes_on_after_the_last_message(metering: Metering, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each of several lives of the topic, of which each is shorter than the one before."""
    accepted = 0
    for size in (30, 15, 7):
        values = events(*(f"{size}-{number}" for number in range(size)))
        assert consume(metering, monkeypatch, values) == ConsumedMessages(accepted=size)
        assert consume(metering, monkeypatch, values) == ConsumedMessages()
        values += events(*(f"{size}-new-{number}" for number in range(5)))
        assert consume(metering, monkeypatch, values, 2) == ConsumedMessages(accepted=5)
        accepted += size + 5
        (lag,) = TopicConsumer(metering, TOPIC, "").lag()
        assert (lag.next_offset, lag.lag, lag.accepted) == (size + 5, 0, accepted)


def test_messages_rejected_at_the_same_offset_are_all_listed(
    metering: Metering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order in which they were read."""
    for life, size in (("first", 12), ("second", 6)):
        values = events(f"{life}-0", f"bad-{life}", *(f"{life}-{number}" for number in range(2, size)))
        assert consume(metering, monkeypatch, values, 3).rejected == 1
    rejected = TopicConsumer(metering, TOPIC, "").rejected()
    assert [(message.offset, message.identifier) for message in rejected] == [(1, "bad-first"), (1, "bad-second")]


def test_a_topic_with_more_messages_than_were_read_is_noticed(metering: Metering, broker: Broker, topic: str) -> None:
    """Its messages before the old offset would be skipped. The error says so; accept_loss reads all of them."""
    broker.create(topic)
    broker.publish(topic, events("first-0", "first-1"))
    assert TopicConsumer(metering, topic, broker.address).consume().accepted == 2
    broker.create_again(topic)
    broker.publish(topic, events(*(f"second-{number}" for number in range(5))))
    with pytest.raises(InvalidUsageSource, match="it was created again, or is in another cluster"):
        TopicConsumer(metering, topic, broker.address).consume()
    assert TopicConsumer(metering, topic, broker.address, group="other").consume().accepted == 5
    accepting = TopicConsumer(metering, topic, broker.address, accept_loss=True)
    assert accepting.consume() == ConsumedMessages(duplicates=5)
    assert TopicConsumer(metering, topic, broker.address).consume() == ConsumedMessages()
