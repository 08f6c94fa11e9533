"""A server is killed: nothing is lost, and each rejected event is in one report."""

import time
from signal import SIGKILL
from typing import Any

from tests.http.webhooks.receiver import Receiver
from tests.http.webhooks.webhook_server import (
    event_params,
    new_endpoint,
    new_meter,
    quick_server,
    reported_identifiers,
    stream,
    stripe_client,
)
from tests.waiting import wait_until

ERROR_REPORT = "v1.billing.meter.error_report_triggered"


def invalid_events(numbers: range) -> list[dict[str, Any]]:
    """Return invalid events, few enough that the samples of a report contain all."""
    return [event_params(f"bad {number:02}", customer="a", value="much") for number in numbers]


def test_killed_between_the_rejection_and_its_report(ledger_url: str, key: str, receiver: Receiver) -> None:
    """The next process reports it, once. A report has up to five samples, and it may report all of them in one."""
    with quick_server(ledger_url, window_seconds="2") as server:
        client = stripe_client(server, key)
        new_endpoint(client, receiver, "v1.billing.meter.error_report_triggered")
        new_meter(client)
        stream(server, client, invalid_events(range(3)))
        server.stop(SIGKILL)
    assert receiver.received == []
    with quick_server(ledger_url) as server:
        client = stripe_client(server, key)
        stream(server, client, invalid_events(range(3, 5)))
        wait_until(lambda: reported_error_count(client) == 5)
        receiver.wait(len(client.v2.core.events.list(params={"types": [ERROR_REPORT]}).data))
        assert reported_identifiers(client.v2.core.events.list(params={"types": [ERROR_REPORT]}).data) == [
            f"bad {at:02}" for at in range(5)
        ]


def test_killed_between_the_report_and_its_delivery(ledger_url: str, key: str, receiver: Receiver) -> None:
    """The next process delivers it."""
    receiver.statuses = [500]
    with quick_server(ledger_url, initial_retry_seconds="2") as server:
        client = stripe_client(server, key)
        new_endpoint(client, receiver)
        new_meter(client)
        receiver.wait(1)
        server.stop(SIGKILL)
    with quick_server(ledger_url):
        receiver.wait(2)
    first, second = receiver.events
    assert first["id"] == second["id"]


def test_killed_repeatedly_while_usage_is_rejected(ledger_url: str, key: str, receiver: Receiver) -> None:
    """Each rejected event is in exactly one report, and each report is delivered."""
    quick = {"window_seconds": "0.1", "poll_interval_seconds": "0.02"}  # reports contain a sample of each event
    for round_number in range(5):
        with quick_server(ledger_url, **quick) as server:
            client = stripe_client(server, key)
            if round_number == 0:
                new_endpoint(client, receiver, ERROR_REPORT)
                new_meter(client)
            for number in range(round_number * 10, round_number * 10 + 10):
                stream(server, client, invalid_events(range(number, number + 1)))
                time.sleep(0.03)
            server.stop(SIGKILL)
    with quick_server(ledger_url, **quick) as server:
        client = stripe_client(server, key)
        wait_until(lambda: reported_error_count(client) >= 50)
        error_reports = client.v2.core.events.list(params={"types": [ERROR_REPORT], "limit": 100}).data
        assert reported_identifiers(error_reports) == [f"bad {at:02}" for at in range(50)]
        wait_until(
            lambda: {event["id"] for event in receiver.events} == {error_report.id for error_report in error_reports}
        )


def reported_error_count(client: Any) -> int:
    """Return the number of rejected events in all reports."""
    error_reports = client.v2.core.events.list(params={"types": [ERROR_REPORT], "limit": 100}).data
    return sum(error_report.data.reason.error_count for error_report in error_reports)


def test_another_server_takes_over(ledger_url: str, key: str, receiver: Receiver) -> None:
    """One of two servers of a ledger dispatches; when it is killed, the other one does, without duplicates."""
    with quick_server(ledger_url) as first, quick_server(ledger_url) as second:
        client = stripe_client(second, key)
        new_endpoint(client, receiver)
        new_meter(client, "a")
        (delivered,) = receiver.wait(1)
        wait_until(lambda: client.v1.events.retrieve(delivered.event["id"]).pending_webhooks == 0)
        first.stop(SIGKILL)
        new_meter(client, "b")
        receiver.wait(2)
        second.stop()
    assert [event["data"]["object"]["event_name"] for event in receiver.events] == ["a", "b"]
