"""A consumer that is killed by SIGKILL at any moment: no message is missing or double after the next one.

TALLYBOOK_TEST_KILL_MOMENTS sets the number of kills for each store, which is 2 by default.
"""

import json
import os
import random
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from subprocess import PIPE, Popen

from tallybook.application import Metering
from tallybook.application.topics.consumer import TopicConsumer

from ..contract.persistent_stores import PersistentStore
from .broker import NOW, Broker
from .conftest import configure

KILL_COUNT = int(os.environ.get("TALLYBOOK_TEST_KILL_MOMENTS", "2"))
MESSAGES = 6_000
MAX_SECONDS = 1.0
MONTH = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
PROGRAM = """
import sys
import threading
from tests.topics.broker import NOW
from tallybook.application import Metering
from tallybook.application.topics.consumer import TopicConsumer
with Metering.open(sys.argv[1], clock=lambda: NOW) as metering:
    print("ready", flush=True)
    TopicConsumer(metering, sys.argv[2], sys.argv[3]).run(threading.Event())
"""


def test_a_killed_consumer_goes_on(persistent_store: PersistentStore, broker: Broker, topic: str) -> None:
    """Messages without identifiers arrive all the time; each tenth is rejected, and listed once."""
    rng = random.Random(0)
    value = json.dumps({"event_name": "tokens", "payload": {"customer": "acme", "tokens": 1}}).encode()
    broker.create(topic, 2)
    with Metering.open(persistent_store.url, clock=lambda: NOW) as metering:
        configure(metering)
        for _ in range(KILL_COUNT):
            broker.publish(topic, (b"poison" if number % 10 == 0 else value for number in range(MESSAGES)), 2)
            arguments = ["-c", PROGRAM, persistent_store.url, topic, broker.address]
            with Popen([sys.executable, *arguments], stdout=PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                time.sleep(rng.random() * MAX_SECONDS)  # the kill comes at any moment
                process.kill()
        consumer = TopicConsumer(metering, topic, broker.address)
        consumer.consume()
        total = metering.total("tokens", "acme", *MONTH)
        rejected = KILL_COUNT * MESSAGES // 10
        assert total.count == total.sum == KILL_COUNT * MESSAGES - rejected
        lags = consumer.lag()
        assert sum(lag.next_offset for lag in lags) == KILL_COUNT * MESSAGES
        assert sum(lag.accepted for lag in lags) == total.count
        assert (sum(lag.duplicates for lag in lags), sum(lag.rejected for lag in lags)) == (0, rejected)
        assert len(consumer.rejected()) == min(rejected, 1_000)
