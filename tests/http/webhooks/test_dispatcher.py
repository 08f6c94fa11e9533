"""The dispatcher survives errors of the ledger, and stops on request."""

import logging
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from tallybook.application import AcceptancePolicy
from tallybook.application.clock import utc_now
from tallybook.application.interfaces.http.ledgers import LedgerRegistry
from tallybook.application.interfaces.http.server_jobs import ServerJobs
from tallybook.application.interfaces.http.settings import ServerSettings, WebhookSettings
from tallybook.application.interfaces.http.webhooks.endpoints import Endpoint, EndpointStore
from tallybook.application.storage.sqlite.key_value import SQLiteKeyValueStore
from tallybook.domain.errors import LedgerUnavailable

from tests.http.webhooks.receiver import Receiver
from tests.waiting import wait_until

QUICK_SETTINGS = ServerSettings(
    webhooks=WebhookSettings(
        window_seconds=0.2,
        poll_interval_seconds=0.05,
        leader_check_interval_seconds=0.1,
        initial_retry_seconds=0.1,
        allowed_networks=(IPv4Network("127.0.0.0/8"),),
    )
)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[LedgerRegistry]:
    """The ledgers of a ledger file."""
    opened = LedgerRegistry(f"sqlite:///{tmp_path / 'usage.db'}", AcceptancePolicy(), utc_now)
    yield opened
    opened.close()


def subscribe_receiver(registry: LedgerRegistry, receiver: Receiver, *, livemode: bool = True) -> None:
    """Subscribe a receiver to all events."""
    EndpointStore(registry.for_mode(livemode=livemode).key_values).add(
        Endpoint(id="we_1", url=receiver.url, enabled_events=("*",), created=0, secret="whsec_1")
    )


def test_it_continues_when_the_ledger_is_available_again(
    registry: LedgerRegistry, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The ledger is unavailable for a while, which is logged; then all events are delivered."""
    subscribe_receiver(registry, receiver)
    due_before, is_away = SQLiteKeyValueStore.due_before, threading.Event()
    failures: list[object] = []

    def failing(*args: Any, **kwargs: Any) -> Any:
        if is_away.is_set():
            failures.append(args)
            raise LedgerUnavailable("The disk is gone.")
        return due_before(*args, **kwargs)

    monkeypatch.setattr(SQLiteKeyValueStore, "due_before", failing)
    webhooks = ServerJobs(registry, QUICK_SETTINGS, list[str]().append)
    try:
        registry.for_mode(livemode=True).metering.meters.configure("before")
        receiver.wait(1)
        is_away.set()
        wait_until(lambda: "The disk is gone." in caplog.text)
        registry.for_mode(livemode=True).metering.meters.configure("meanwhile")
        failures.clear()
        wait_until(lambda: len(failures) >= 3)
        assert all(record.levelno == logging.WARNING for record in caplog.records)
        is_away.clear()
        receiver.wait(2)
        assert receiver.events[-1]["data"]["object"]["event_name"] == "meanwhile"
    finally:
        webhooks.close()


def test_it_continues_after_an_unexpected_error(
    registry: LedgerRegistry, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The error is logged with a traceback."""
    subscribe_receiver(registry, receiver)
    rows, failures = EndpointStore.all_including_deleted, [RuntimeError("one"), RuntimeError("two")]

    def failing(endpoints: EndpointStore) -> list[Endpoint]:
        if failures:
            raise failures.pop()
        return rows(endpoints)

    monkeypatch.setattr(EndpointStore, "all_including_deleted", failing)
    webhooks = ServerJobs(registry, QUICK_SETTINGS, list[str]().append)
    try:
        registry.for_mode(livemode=True).metering.meters.configure("tokens")
        receiver.wait(1)
        assert caplog.text.count("RuntimeError") >= 2
    finally:
        webhooks.close()


def test_it_creates_no_test_ledger(registry: LedgerRegistry, receiver: Receiver, tmp_path: Path) -> None:
    """A test ledger that is opened later is dispatched."""
    webhooks = ServerJobs(registry, QUICK_SETTINGS, list[str]().append)
    try:
        time.sleep(0.3)  # several times the interval in which it looks for the ledger
        assert not registry.exists(livemode=False)
        subscribe_receiver(registry, receiver, livemode=False)
        registry.for_mode(livemode=False).metering.meters.configure("tokens")
        receiver.wait(1)
        assert receiver.events[0]["livemode"] is False
    finally:
        webhooks.close()


def test_an_existing_test_ledger_is_dispatched(registry: LedgerRegistry, receiver: Receiver, tmp_path: Path) -> None:
    """Also without a request since the start."""
    subscribe_receiver(registry, receiver, livemode=False)
    registry.for_mode(livemode=False).metering.meters.configure("tokens")
    registry.close()
    reopened = LedgerRegistry(f"sqlite:///{tmp_path / 'usage.db'}", AcceptancePolicy(), utc_now)
    webhooks = ServerJobs(reopened, QUICK_SETTINGS, list[str]().append)
    try:
        receiver.wait(1)
    finally:
        webhooks.close()
        reopened.close()


def test_it_stops_immediately(registry: LedgerRegistry) -> None:
    """Without remaining threads."""
    webhooks = ServerJobs(registry, ServerSettings(), list[str]().append)
    wait_until(webhook_threads)
    started_at = time.monotonic()
    webhooks.close()
    assert time.monotonic() - started_at < 3
    assert not webhook_threads()


def webhook_threads() -> list[str]:
    """Return the names of the threads that deliver webhooks."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("tallybook-job")]


def test_leadership_expires_and_is_renewed(
    registry: LedgerRegistry, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process leads for a limited time and finishes its deliveries before another one leads."""
    monkeypatch.setattr("tallybook.application.interfaces.http.webhooks.dispatcher.LEADERSHIP_SECONDS", 0.2)
    subscribe_receiver(registry, receiver)
    receiver.pause_seconds = 0.4
    webhooks = ServerJobs(registry, QUICK_SETTINGS, list[str]().append)
    try:
        for number in range(4):
            registry.for_mode(livemode=True).metering.meters.configure(f"meter {number}")
        receiver.wait(4)
        time.sleep(0.6)  # a second delivery of an event would arrive
        assert [event["data"]["object"]["event_name"] for event in receiver.events] == [
            f"meter {at}" for at in range(4)
        ]
    finally:
        webhooks.close()
