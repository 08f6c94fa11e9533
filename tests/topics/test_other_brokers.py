"""The programs of the guide on other brokers, with real servers. A broker that isn't installed is skipped."""

import json
import os
import random
import shutil
import socket
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from subprocess import DEVNULL, Popen, run
from typing import Any

import pytest
from tallybook.application import Metering

from ..docs.documents import OTHER_BROKERS, files, section
from ..docs.test_documents import follow_blocks
from ..object_server import CREDENTIALS, object_server
from ..waiting import wait_until
from .conftest import configure

boto3: Any = import_module("boto3")
redis: Any = import_module("redis")
RECORDER = section(OTHER_BROKERS, "Record messages with how far they were read")
KILL_COUNT = int(os.environ.get("TALLYBOOK_TEST_KILL_MOMENTS", "1"))
MESSAGES = 3_000
EVER = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


@contextmanager
def running(program: str, *arguments: str) -> Generator[int]:
    """Start a server on a free port, and yield the port. Skip the test if the program isn't installed."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    if path is None:
        pytest.skip(f"{program} IS NOT INSTALLED: apt-get install {program}")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with Popen([path, *arguments, str(port)], stdout=DEVNULL, stderr=DEVNULL) as process:
        try:
            wait_until(lambda: is_open(port))
            yield port
        finally:
            process.kill()


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def nats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A NATS server."""
    with running("nats-server", "-js", "-sd", str(tmp_path / "nats"), "-a", "127.0.0.1", "-p") as port:
        monkeypatch.setenv("NATS_URL", f"nats://127.0.0.1:{port}")
        yield


@pytest.fixture
def redis_url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Redis server in memory."""
    with running("redis-server", "--save", "", "--appendonly", "no", "--port") as port:
        monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{port}")
        yield f"redis://127.0.0.1:{port}"


@pytest.fixture
def sqs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A queue at moto's server."""
    with object_server() as url:
        for name, value in {**CREDENTIALS, "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": url}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("SQS_URL", boto3.client("sqs").create_queue(QueueName="usage")["QueueUrl"])
        yield


@pytest.mark.parametrize(
    ("heading", "broker"), [("NATS JetStream", "nats"), ("Redis Streams", "redis_url"), ("Amazon SQS", "sqs")]
)
def test_the_programs_of_the_guide(heading: str, broker: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A reader saves them, publishes messages and consumes them."""
    request.getfixturevalue(broker)
    start = section(OTHER_BROKERS, "")
    follow_blocks([(OTHER_BROKERS, [*start, *RECORDER, *section(OTHER_BROKERS, heading)])], tmp_path)


def test_a_killed_program_goes_on(redis_url: str, tmp_path: Path) -> None:
    """Messages without identifiers arrive all the time; two consumers at once do no harm. Each counts once."""
    for name, text in files([*RECORDER, *section(OTHER_BROKERS, "Redis Streams")]).items():
        (tmp_path / name).write_text(text)
    url = f"sqlite:///{tmp_path / 'usage.db'}"
    environment = {**os.environ, "TALLYBOOK_LEDGER": url}
    command = [sys.executable, "redis_consumer.py"]
    value = json.dumps({"event_name": "tokens", "payload": {"customer": "acme", "tokens": "1"}})
    rng, client = random.Random(0), redis.Redis.from_url(redis_url)
    with Metering.open(url) as metering:
        configure(metering)
        for _ in range(KILL_COUNT):
            with client.pipeline() as pipeline:
                for number in range(MESSAGES):
                    pipeline.xadd("usage", {"event": "poison" if number % 10 == 0 else value})
                pipeline.execute()
            with ExitStack() as stack:
                processes = [
                    stack.enter_context(Popen(command, cwd=tmp_path, env=environment, stderr=DEVNULL)) for _ in range(2)
                ]
                time.sleep(0.5 + 2 * rng.random())  # the kill comes at any moment
                for process in processes:
                    process.kill()
        finished = run([*command, "--once"], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
        rejected = KILL_COUNT * MESSAGES // 10
        assert finished.stdout == f"{KILL_COUNT * MESSAGES} messages read, {min(rejected, 1_000)} rejected\n"
        assert metering.total("tokens", "acme", *EVER).count == KILL_COUNT * MESSAGES - rejected
