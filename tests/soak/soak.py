"""A server under misbehaving clients: what two well-behaved clients measure, and its memory."""

import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import quantiles

import httpx2
import psutil

from tallybook import AcceptancePolicy, Metering
from tests.http.running_server import RunningServer, create_key, serve
from tests.soak import misbehaving_clients
from tests.soak.misbehaving_clients import METER_PATH, MISBEHAVIOURS

CUSTOMERS, EVENTS, LARGE_EVENTS = 500, 100_000, 9_000
RECORD_INTERVAL_SECONDS, READ_INTERVAL_SECONDS = 0.02, 0.05
TIMEOUT_SECONDS = 60


@dataclass(slots=True)
class Measurements:
    """What the well-behaved clients saw: durations in seconds, failures, and identifiers acknowledged as recorded."""

    record_seconds: list[float] = field(default_factory=list[float])
    read_seconds: list[float] = field(default_factory=list[float])
    failures: list[str] = field(default_factory=list[str])
    acknowledged: list[str] = field(default_factory=list[str])
    memory_bytes: list[int] = field(default_factory=list[int])
    missing: list[str] = field(default_factory=list[str])

    def summary(self) -> str:
        """Return the figures as text."""
        return (
            f"records: {len(self.record_seconds)}, p50 {percentile(self.record_seconds, 50) * 1e3:.0f} ms, "
            f"p99 {percentile(self.record_seconds, 99) * 1e3:.0f} ms, max {max(self.record_seconds) * 1e3:.0f} ms; "
            f"reads: {len(self.read_seconds)}, p50 {percentile(self.read_seconds, 50) * 1e3:.0f} ms, "
            f"p99 {percentile(self.read_seconds, 99) * 1e3:.0f} ms, max {max(self.read_seconds) * 1e3:.0f} ms; "
            f"memory: at most {max(self.memory_bytes) / 1e6:.0f} MB; failures: {len(self.failures)} "
            f"{self.failures[:3]}; acknowledged events that are missing: {len(self.missing)}"
        )


def percentile(values: list[float], percent: int) -> float:
    """Return a percentile of the values."""
    return quantiles(values, n=100)[percent - 1]


def run(seconds: float, round_seconds: float = 0.5) -> Measurements:
    """Let clients misbehave for some time, in rounds, and return what the well-behaved ones measured."""
    measurements = Measurements()
    with tempfile.TemporaryDirectory(prefix="tallybook-") as folder:
        url = f"sqlite:///{Path(folder, 'usage.db')}"
        fill_ledger(url)
        bad_keys = [create_key(url, "admin") for _ in MISBEHAVIOURS]
        good_keys = create_key(url, "record"), create_key(url, "read")
        with serve(url, TALLYBOOK_ACCESS_LOG="false") as server:
            arguments = str(server.port), json.dumps(bad_keys), str(round_seconds)
            with subprocess.Popen([sys.executable, "-m", misbehaving_clients.__name__, *arguments]) as misbehaving:
                try:
                    behave_well(server, good_keys, seconds, measurements)
                    assert misbehaving.poll() is None, "the misbehaving clients have ended"
                finally:
                    misbehaving.kill()
            assert server.process.poll() is None, server.log_text[-2_000:]
        with Metering.open(url) as metering:
            recorded = recorded_identifiers(metering)
        measurements.missing = [name for name in measurements.acknowledged if name not in recorded]
    return measurements


def fill_ledger(url: str) -> None:
    """Create a ledger with usage of many customers, and much of one customer."""
    policy, now, rng = AcceptancePolicy(), datetime.now(UTC), random.Random(1)
    with closing(Metering.open(url, policy=policy)) as metering:
        metering.meters.configure("tokens")
        for first in range(0, EVENTS, 5_000):
            metering.record_many(
                {
                    "event_name": "tokens",
                    "payload": {"stripe_customer_id": f"cus_{rng.randrange(CUSTOMERS)}", "value": str(number % 1_000)},
                    "timestamp": now - timedelta(minutes=rng.randrange(40_000)),
                }
                for number in range(first, first + 5_000)
            )
        metering.record_many(
            {"event_name": "tokens", "payload": {"stripe_customer_id": "large", "value": "1", "note": "x" * 700}}
            for _ in range(LARGE_EVENTS)
        )
        metering.catch_up()


def behave_well(server: RunningServer, keys: tuple[str, str], seconds: float, measurements: Measurements) -> None:
    """Record and read in two threads, each request after the one before, and watch the server's memory."""
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(target=record, args=(server, keys[0], until, measurements)),
        threading.Thread(target=read, args=(server, keys[1], until, measurements)),
    ]
    for thread in threads:
        thread.start()
    process = psutil.Process(server.process.pid)
    while any(thread.is_alive() for thread in threads):
        measurements.memory_bytes.append(process.memory_info().rss)
        threads[0].join(0.5)


def record(server: RunningServer, key: str, until: float, measurements: Measurements) -> None:
    """Record an event at a time."""
    with client_of(server, key) as client:
        number = 0
        while time.monotonic() < until:
            number += 1
            identifier = f"good-{number}"
            body = {"event_name": "tokens", "payload[stripe_customer_id]": "good", "payload[value]": "1"}
            started = time.monotonic()
            response = client.post("/v1/billing/meter_events", data={**body, "identifier": identifier})
            measurements.record_seconds.append(time.monotonic() - started)
            if response.is_success:
                measurements.acknowledged.append(identifier)
            else:
                measurements.failures.append(f"{response.status_code} {response.text[:200]}")
            time.sleep(RECORD_INTERVAL_SECONDS)


def read(server: RunningServer, key: str, until: float, measurements: Measurements) -> None:
    """Read the total of a customer at a time."""
    rng, now = random.Random(2), int(time.time()) // 60 * 60
    with client_of(server, key) as client:
        while time.monotonic() < until:
            params = {"customer": f"cus_{rng.randrange(CUSTOMERS)}", "start_time": now - 30 * 86_400, "end_time": now}
            started = time.monotonic()
            response = client.get(f"{METER_PATH}/event_summaries", params=params)
            measurements.read_seconds.append(time.monotonic() - started)
            if not response.is_success:
                measurements.failures.append(f"{response.status_code} {response.text[:200]}")
            time.sleep(READ_INTERVAL_SECONDS)


def client_of(server: RunningServer, key: str) -> httpx2.Client:
    """Return a client with a key."""
    headers = {"Authorization": f"Bearer {key}"}
    return httpx2.Client(base_url=server.url, headers=headers, timeout=TIMEOUT_SECONDS)


def recorded_identifiers(metering: Metering) -> set[str]:
    """Return the identifiers of all events of the well-behaved client."""
    identifiers: set[str] = set()
    last: str | None = None
    while page := metering.events("tokens", customer="good", limit=10_000, starting_after=last):
        identifiers.update(event.identifier for event in page)
        last = page[-1].identifier
    return identifiers
