"""A server is killed: nothing is lost, and each refused event is in one report."""

import time
from signal import SIGKILL
from typing import Any

from tests.server.webhooks.receiver import Receiver, until
from tests.server.webhooks.served import new_endpoint, new_meter, quick_server, reported, sdk, stream, use

REPORT = "v1.billing.meter.error_report_triggered"


def bad(numbers: range) -> list[dict[str, Any]]:
    """Events that are refused, few enough for a report to tell of each."""
    return [use(f"bad {number:02}", customer="a", value="much") for number in numbers]


def test_between_the_refusal_and_its_report(ledger_url: str, key: str, receiver: Receiver) -> None:
    """Whoever comes next reports it, once."""
    with quick_server(ledger_url, window_seconds="2") as serving:
        client = sdk(serving, key)
        new_endpoint(client, receiver, "v1.billing.meter.error_report_triggered")
        new_meter(client)
        stream(serving, client, bad(range(4)))
        serving.stop(SIGKILL)
    assert receiver.received == []
    with quick_server(ledger_url) as serving:
        client = sdk(serving, key)
        stream(serving, client, bad(range(4, 6)))
        until(lambda: sum_of(client) == 6)
        receiver.wait(len(client.v2.core.events.list(params={"types": [REPORT]}).data))
        assert reported(client.v2.core.events.list(params={"types": [REPORT]}).data) == [
            f"bad {at:02}" for at in range(6)
        ]


def test_between_the_report_and_its_delivery(ledger_url: str, key: str, receiver: Receiver) -> None:
    """Whoever comes next delivers it."""
    receiver.statuses = [500]
    with quick_server(ledger_url, first_retry_seconds="2") as serving:
        client = sdk(serving, key)
        new_endpoint(client, receiver)
        new_meter(client)
        receiver.wait(1)
        serving.stop(SIGKILL)
    with quick_server(ledger_url):
        receiver.wait(2)
    first, second = receiver.events
    assert first["id"] == second["id"]


def test_again_and_again_while_usage_is_refused(ledger_url: str, key: str, receiver: Receiver) -> None:
    """Each event that was refused is in exactly one report, and each report is delivered."""
    quick = {"window_seconds": "0.1", "look_every_seconds": "0.02"}  # for reports with a sample of each event
    for turn in range(5):
        with quick_server(ledger_url, **quick) as serving:
            client = sdk(serving, key)
            if turn == 0:
                new_endpoint(client, receiver, REPORT)
                new_meter(client)
            for one in range(turn * 10, turn * 10 + 10):
                stream(serving, client, bad(range(one, one + 1)))
                time.sleep(0.03)
            serving.stop(SIGKILL)
    with quick_server(ledger_url, **quick) as serving:
        client = sdk(serving, key)
        until(lambda: sum_of(client) >= 50)
        reports = client.v2.core.events.list(params={"types": [REPORT], "limit": 100}).data
        assert reported(reports) == [f"bad {at:02}" for at in range(50)]
        until(lambda: {event["id"] for event in receiver.events} == {report.id for report in reports})


def sum_of(client: Any) -> int:
    """How many refused events all reports are of."""
    reports = client.v2.core.events.list(params={"types": [REPORT], "limit": 100}).data
    return sum(report.data.reason.error_count for report in reports)


def test_another_server_takes_over(ledger_url: str, key: str, receiver: Receiver) -> None:
    """Of two on one ledger one dispatches, and nothing is told twice; when it is killed, the other one does."""
    with quick_server(ledger_url) as first, quick_server(ledger_url) as second:
        client = sdk(second, key)
        new_endpoint(client, receiver)
        new_meter(client, "a")
        (told,) = receiver.wait(1)
        until(lambda: client.v1.events.retrieve(told.event["id"]).pending_webhooks == 0)
        first.stop(SIGKILL)
        new_meter(client, "b")
        receiver.wait(2)
        second.stop()
    assert [event["data"]["object"]["event_name"] for event in receiver.events] == ["a", "b"]
