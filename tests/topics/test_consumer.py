"""Messages of a topic are recorded once each, with their offsets, and one that is rejected holds up no other."""

import json
import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tallybook.application import (
    InvalidUsageSource,
    LedgerCorrupted,
    LedgerUnavailable,
    Metering,
    UsageSourceUnavailable,
)
from tallybook.application.topics import consumer as consumer_module
from tallybook.application.topics.client import Fetched, TopicClient
from tallybook.application.topics.consumer import TopicConsumer
from tallybook.application.topics.messages import Message
from tallybook.application.topics.offset_log import MAX_REJECTED_PER_DAY
from tallybook.application.topics.results import ConsumedMessages

from ..contract.persistent_stores import PersistentStore
from ..waiting import wait_until
from .broker import NOW, Broker
from .conftest import configure

MONTH = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)


def event(identifier: str | None, tokens: object = 1, **more: object) -> bytes:
    """Return a message."""
    fields: dict[str, object] = {"event_name": "tokens", "payload": {"customer": "acme", "tokens": tokens}, **more}
    return json.dumps(fields if identifier is None else {"identifier": identifier, **fields}).encode()


def events(*identifiers: str) -> Iterable[bytes]:
    return (event(identifier) for identifier in identifiers)


def counted(metering: Metering) -> int:
    """Return the number of meter events, which is the sum of their values too."""
    total = metering.total("tokens", "acme", *MONTH)
    assert total.count == total.sum
    return total.count


def test_each_message_is_recorded_once(persistent_store: PersistentStore, broker: Broker, topic: str) -> None:
    """The next run begins after the last one, in each partition. On both stores."""
    broker.create(topic, 2)
    broker.publish(topic, events("r1", "r2", "r3"), 2)
    with Metering.open(persistent_store.url, clock=lambda: NOW) as metering:
        configure(metering)
        consumer = TopicConsumer(metering, topic, broker.address)
        assert consumer.consume() == ConsumedMessages(accepted=3)
        broker.publish(topic, events("r4", "r1"), 2)
        assert TopicConsumer(metering, topic, broker.address).consume() == ConsumedMessages(accepted=1, duplicates=1)
        assert consumer.consume() == ConsumedMessages()
        assert counted(metering) == 4
        lags = [(lag.partition, lag.next_offset, lag.lag, lag.accepted, lag.duplicates) for lag in consumer.lag()]
        assert lags == [(0, 3, 0, 3, 0), (1, 2, 0, 1, 1)]


CLOUD_EVENT = {"specversion": "1.0", "id": "1", "source": "/gateway", "type": "tokens", "subject": "acme"}


def test_messages_of_other_forms(metering: Metering, broker: Broker, topic: str) -> None:
    """CloudEvents in both modes; and without an identifier and a time, those of the message."""
    broker.create(topic)
    broker.publish(topic, [json.dumps({**CLOUD_EVENT, "data": {"tokens": 1}}).encode()])
    headers = {f"ce_{name}": text for name, text in {**CLOUD_EVENT, "id": "2"}.items()}
    broker.publish(topic, [b'{"tokens": 1.0}'], headers=headers)
    broker.publish(topic, [event(None), event(None)])
    assert TopicConsumer(metering, topic, broker.address).consume() == ConsumedMessages(accepted=4)
    recorded = {event.identifier: event.payload for event in metering.events("tokens")}
    assert recorded["/gateway#1"] == {"tokens": "1", "customer": "acme"}
    assert recorded["/gateway#2"] == {"tokens": "1.0", "customer": "acme"}
    milliseconds = int(NOW.timestamp() * 1_000)
    assert {f"{topic}/0/2/{milliseconds}", f"{topic}/0/3/{milliseconds}"} < recorded.keys()
    assert {event.occurred_at for event in metering.events("tokens")} == {NOW}
    other_group = TopicConsumer(metering, topic, broker.address, group="other")
    assert other_group.consume() == ConsumedMessages(duplicates=4)


POISON = {
    b"": "invalid_import_file",
    b"not JSON": "invalid_import_file",
    b"\xff": "invalid_meter_event",
    b"[1]": "invalid_import_file",
    b"[" * 100_000: "invalid_import_file",
    event("p1", "many"): "payload_invalid_value",
    event("p2", event_name="unknown"): "no_meter",
    event("p3", timestamp="yesterday"): "invalid_timestamp",
    event("r1", 7): "duplicate_meter_event",
    event("x" * 101): "invalid_identifier",
}


def test_poison_messages_hold_up_no_others(metering: Metering, broker: Broker, topic: str) -> None:
    """They are stored with the reason and what they contain."""
    broker.create(topic)
    broker.publish(topic, [event("r1"), *POISON, None, event("r2")])
    consumer = TopicConsumer(metering, topic, broker.address)
    assert consumer.consume() == ConsumedMessages(accepted=2, rejected=len(POISON) + 1)
    rejected = consumer.rejected()
    assert [(message.offset, message.code) for message in rejected] == [
        (offset, code) for offset, code in enumerate([*POISON.values(), "invalid_meter_event"], 1)
    ]
    assert (rejected[5].value, rejected[5].published_at) == (event("p1", "many").decode(), NOW)
    assert len(rejected[4].value) == 10_000
    assert counted(metering) == 2


def test_a_flood_of_rejected_messages_is_counted_but_not_stored(metering: Metering, broker: Broker, topic: str) -> None:
    """Up to a limit for each day."""
    broker.create(topic)
    broker.publish(topic, [b"x"] * (MAX_REJECTED_PER_DAY + 5))
    consumer = TopicConsumer(metering, topic, broker.address)
    assert consumer.consume().rejected == MAX_REJECTED_PER_DAY + 5
    broker.publish(topic, [b"x", event("r1")])
    consumer.consume()
    assert len(consumer.rejected()) == MAX_REJECTED_PER_DAY
    assert [(lag.accepted, lag.rejected) for lag in consumer.lag()] == [(1, MAX_REJECTED_PER_DAY + 6)]


def test_a_second_consumer_of_the_same_batch_stores_nothing(metering: Metering, broker: Broker, topic: str) -> None:
    """Also if the lock of the first one was lost, and the batches are of different sizes."""
    broker.create(topic)
    broker.publish(topic, [event(None) for _ in range(10)])
    first, second = (TopicConsumer(metering, topic, broker.address) for _ in range(2))
    fetch = TopicClient.fetch

    def fetch_while_another_consumes(client: TopicClient, seconds: float) -> Any:
        fetched = fetch(client, seconds)
        if fetched.messages:
            TopicClient.fetch = fetch
            consumed = second._read(threading.Event(), None, until_end=True)  # pyright: ignore[reportPrivateUsage]
            assert consumed.accepted == 10
        return fetched._replace(messages=fetched.messages[:5])

    TopicClient.fetch = fetch_while_another_consumes  # pyright: ignore[reportAttributeAccessIssue]
    try:
        assert first.consume() == ConsumedMessages()
    finally:
        TopicClient.fetch = fetch
    assert counted(metering) == 10
    assert first.lag()[0].accepted == 10


def test_one_consumer_is_active_and_another_takes_over(metering: Metering, broker: Broker, topic: str) -> None:
    """When the first one is stopped."""
    broker.create(topic)
    stops = [threading.Event(), threading.Event()]
    batches: list[list[ConsumedMessages]] = [[], []]
    consumers = [TopicConsumer(metering, topic, broker.address) for _ in stops]
    threads = [
        threading.Thread(target=consumer.run, args=(stop,), kwargs={"on_batch": done.append})
        for consumer, stop, done in zip(consumers, stops, batches, strict=True)
    ]
    try:
        threads[0].start()
        broker.publish(topic, events("r1"))
        wait_until(lambda: batches[0])
        threads[1].start()
        broker.publish(topic, events("r2"))
        wait_until(lambda: len(batches[0]) == 2)
        stops[0].set()
        threads[0].join()
        broker.publish(topic, events("r3"))
        wait_until(lambda: batches[1])
    finally:
        for stop in stops:
            stop.set()
        for thread in threads:
            thread.join()
    assert counted(metering) == 3


def test_a_message_that_the_database_rejects_is_found(
    metering: Metering, broker: Broker, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others of its batch are recorded. If the ledger can't be used or read, no message is to blame."""
    broker.create(topic)
    broker.publish(topic, events("r1", "r2", "bad", "r3"))
    record_many = metering.record_many

    def reject_bad(meter_events: Any, **options: Any) -> Any:
        if any(meter_event["identifier"] == "bad" for meter_event in meter_events):
            raise error
        return record_many(meter_events, **options)

    def unavailable(*_: object, **__: object) -> Any:
        raise LedgerUnavailable("locked")

    consumer = TopicConsumer(metering, topic, broker.address)
    monkeypatch.setattr(metering, "record_many", unavailable)
    with pytest.raises(LedgerUnavailable):
        consumer.consume()
    monkeypatch.setattr(metering, "record_many", reject_bad)
    error: Exception = LedgerCorrupted("a newer version has changed the rules")
    with pytest.raises(LedgerCorrupted):
        consumer.consume()
    assert (counted(metering), [lag.next_offset for lag in consumer.lag()]) == (2, [2])
    error = InvalidUsageSource("rejected by a trigger")
    assert consumer.consume() == ConsumedMessages(accepted=1, rejected=1)
    assert [(message.offset, message.message) for message in consumer.rejected()] == [(2, "rejected by a trigger")]


def test_old_offsets_are_deleted_except_the_last(metering: Metering, broker: Broker, topic: str) -> None:
    """By each run, so that the table doesn't grow; and a topic without messages for long isn't read again."""
    broker.create(topic)
    consumer = TopicConsumer(metering, topic, broker.address)
    for identifier in ("r1", "r2", "r3"):
        broker.publish(topic, events(identifier))
        consumer.consume()
    assert len(metering.key_value_store().scan("topic_offset", limit=10)) == 3
    metering.clock = lambda: NOW + timedelta(days=2)
    assert consumer.consume() == ConsumedMessages()
    assert len(metering.key_value_store().scan("topic_offset", limit=10)) == 1
    assert consumer.consume() == ConsumedMessages()


def test_sources_that_cannot_be_used(metering: Metering, broker: Broker) -> None:
    """The errors name the topic and the broker."""
    with pytest.raises(UsageSourceUnavailable, match="The topic 'none' can't be read from 127"):
        TopicConsumer(metering, "none", broker.address).consume()
    with pytest.raises(InvalidUsageSource, match="The settings of the broker can't be used: No such"):
        TopicConsumer(metering, "x", broker.address, settings={"no.such": "1"}).consume()


def test_long_names_of_topics_become_digests() -> None:
    """An identifier has at most 100 characters."""
    message = Message("t" * 249, 0, 7, 1_000, b"", {})
    assert len(message.identifier) == 64
    assert message.identifier != message._replace(offset=8).identifier


def fetch_nothing(*_: object) -> Fetched:
    """Return what a client returns whose partitions don't answer."""
    return Fetched([], frozenset())


def test_a_partition_that_does_not_answer_is_an_error(
    metering: Metering, broker: Broker, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker can name an address for its partitions that can't be reached; waiting for them would never end."""
    broker.create(topic)
    broker.publish(topic, events("r1"))
    monkeypatch.setattr(consumer_module, "_ANSWER_SECONDS", 0.1)
    with monkeypatch.context() as patch:
        patch.setattr(TopicClient, "fetch", fetch_nothing)
        with pytest.raises(UsageSourceUnavailable, match=r"no partition has answered for 0\.1 seconds"):
            TopicConsumer(metering, topic, broker.address).consume()
    monkeypatch.undo()
    assert TopicConsumer(metering, topic, broker.address).consume() == ConsumedMessages(accepted=1)
