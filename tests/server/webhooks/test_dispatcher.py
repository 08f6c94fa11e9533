"""A dispatcher goes on whatever happens to the ledger, and ends when it is told to."""

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tallybook.application import AcceptancePolicy
from tallybook.application.metering import utc_now
from tallybook.application.server.desks import Desks
from tallybook.application.server.webhooks.dispatcher import Webhooks
from tallybook.application.server.webhooks.endpoints import Endpoint, Endpoints
from tallybook.application.server.webhooks.settings import WebhookSettings
from tallybook.application.stores.sqlite_kept import SQLiteKeeper
from tallybook.domain.errors import LedgerUnavailable

from tests.server.webhooks.receiver import Receiver, until

QUICK = WebhookSettings(window_seconds=0.2, look_every_seconds=0.05, take_over_seconds=0.1, first_retry_seconds=0.1)


@pytest.fixture
def desks(tmp_path: Path) -> Iterator[Desks]:
    """The desks of a ledger in a file."""
    opened = Desks(f"sqlite:///{tmp_path / 'usage.db'}", AcceptancePolicy(), utc_now)
    yield opened
    opened.close()


def tell(desks: Desks, receiver: Receiver, *, livemode: bool = True) -> None:
    """Let a receiver be told of everything."""
    Endpoints(desks.of(livemode=livemode).keeper).add(
        Endpoint(id="we_1", url=receiver.url, enabled_events=("*",), created=0, secret="whsec_1")
    )


def test_it_goes_on_when_the_ledger_is_there_again(
    desks: Desks, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The ledger can't be asked for a while, which the log tells; then all is delivered."""
    tell(desks, receiver)
    due, is_away = SQLiteKeeper.due, threading.Event()

    def failing(*args: Any, **kwargs: Any) -> Any:
        if is_away.is_set():
            raise LedgerUnavailable("The disk is gone.")
        return due(*args, **kwargs)

    monkeypatch.setattr(SQLiteKeeper, "due", failing)
    webhooks = Webhooks(desks, QUICK, list[str]().append)
    try:
        desks.of(livemode=True).metering.configure_meter("before")
        receiver.wait(1)
        is_away.set()
        until(lambda: "The disk is gone." in caplog.text)
        desks.of(livemode=True).metering.configure_meter("meanwhile")
        time.sleep(0.5)
        assert all(record.levelno == logging.WARNING for record in caplog.records)
        is_away.clear()
        receiver.wait(2)
        assert receiver.events[-1]["data"]["object"]["event_name"] == "meanwhile"
    finally:
        webhooks.close()


def test_it_goes_on_after_what_nobody_thought_of(
    desks: Desks, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Which the log tells, with where it was."""
    tell(desks, receiver)
    rows, failures = Endpoints.rows, [RuntimeError("one"), RuntimeError("two")]

    def failing(endpoints: Endpoints) -> list[Endpoint]:
        if failures:
            raise failures.pop()
        return rows(endpoints)

    monkeypatch.setattr(Endpoints, "rows", failing)
    webhooks = Webhooks(desks, QUICK, list[str]().append)
    try:
        desks.of(livemode=True).metering.configure_meter("tokens")
        receiver.wait(1)
        assert caplog.text.count("RuntimeError") >= 2
    finally:
        webhooks.close()


def test_no_ledger_for_tests_is_begun_for_it(desks: Desks, receiver: Receiver, tmp_path: Path) -> None:
    """One that is opened meanwhile is dispatched for."""
    webhooks = Webhooks(desks, QUICK, list[str]().append)
    try:
        time.sleep(0.3)
        assert not desks.is_there(livemode=False)
        tell(desks, receiver, livemode=False)
        desks.of(livemode=False).metering.configure_meter("tokens")
        receiver.wait(1)
        assert receiver.events[0]["livemode"] is False
    finally:
        webhooks.close()


def test_a_ledger_for_tests_that_is_there_is_dispatched_for(desks: Desks, receiver: Receiver, tmp_path: Path) -> None:
    """Though nobody has asked for it since the start."""
    tell(desks, receiver, livemode=False)
    desks.of(livemode=False).metering.configure_meter("tokens")
    desks.close()
    again = Desks(f"sqlite:///{tmp_path / 'usage.db'}", AcceptancePolicy(), utc_now)
    webhooks = Webhooks(again, QUICK, list[str]().append)
    try:
        receiver.wait(1)
    finally:
        webhooks.close()
        again.close()


def test_it_ends_at_once(desks: Desks) -> None:
    """Without threads left behind."""
    webhooks = Webhooks(desks, WebhookSettings(), list[str]().append)
    time.sleep(0.3)
    began = time.monotonic()
    webhooks.close()
    assert time.monotonic() - began < 3
    assert not [one.name for one in threading.enumerate() if one.name.startswith("tallybook-webhooks")]


def test_terms_end_and_go_on(desks: Desks, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process dispatches for a while, then another may; what is being delivered is finished first."""
    monkeypatch.setattr("tallybook.application.server.webhooks.dispatching.TERM_SECONDS", 0.2)
    tell(desks, receiver)
    receiver.pause_seconds = 0.4
    webhooks = Webhooks(desks, QUICK, list[str]().append)
    try:
        for number in range(4):
            desks.of(livemode=True).metering.configure_meter(f"meter {number}")
        receiver.wait(4)
        time.sleep(0.6)
        assert [event["data"]["object"]["event_name"] for event in receiver.events] == [
            f"meter {at}" for at in range(4)
        ]
    finally:
        webhooks.close()
