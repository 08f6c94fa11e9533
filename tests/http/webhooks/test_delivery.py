"""Deliveries are retried until they are accepted, and endpoints do not block each other."""

import time

import pytest
from stripe import StripeClient

from tests.http.running_server import RunningServer, create_key
from tests.http.webhooks.receiver import Receiver
from tests.http.webhooks.webhook_server import new_endpoint, new_meter, quick_server, stripe_client
from tests.waiting import wait_until


@pytest.mark.parametrize("status", [500, 404, 302])
def test_an_undelivered_event_is_retried(
    server: RunningServer, key: str, client: StripeClient, receiver: Receiver, status: int
) -> None:
    """The same event with a new signature, with increasing delays; redirects are not followed."""
    receiver.statuses = [status, status]
    receiver.headers = {"Location": "/elsewhere"}
    new_endpoint(client, receiver)
    new_meter(client)
    first, second, third = receiver.wait(3)
    assert first.body == second.body == third.body
    assert second.at - first.at >= 0.2 * 0.8
    assert third.at - second.at >= 0.4 * 0.8
    event: str = first.event["id"]
    wait_until(lambda: client.v1.events.retrieve(event).pending_webhooks == 0)
    time.sleep(0.5)  # another retry would arrive
    assert len(receiver.received) == 3
    measured = server.get("/metrics", key).text
    assert 'tallybook_webhook_deliveries_total{outcome="failed"} 2.0' in measured
    assert 'tallybook_webhook_deliveries_total{outcome="delivered"} 1.0' in measured


def test_a_slow_endpoint_does_not_block_others(
    client: StripeClient, receiver: Receiver, another_receiver: Receiver
) -> None:
    """And a request to it has a timeout."""
    receiver.pause_seconds = 5
    new_endpoint(client, receiver)
    new_endpoint(client, another_receiver)
    started_at = time.time()
    for name in ("a", "b", "c"):
        new_meter(client, name)
    another_receiver.wait(3)
    assert time.time() - started_at < 4  # without the timeout it would have waited for 5 seconds
    receiver.wait(2)
    assert 0.5 < receiver.received[1].at - receiver.received[0].at < 4


def test_a_disabled_endpoint_gets_nothing(
    ledger_url: str, key: str, receiver: Receiver, another_receiver: Receiver
) -> None:
    """Neither new events nor retries; when it is enabled, it gets later events."""
    with quick_server(ledger_url, initial_retry_seconds="1") as server:
        client = stripe_client(server, key)
        endpoint, _ = new_endpoint(client, receiver)
        new_endpoint(client, another_receiver)
        receiver.statuses = [500]
        new_meter(client, "before")
        receiver.wait(1)
        client.v1.webhook_endpoints.update(endpoint, params={"disabled": True})
        new_meter(client, "meanwhile")
        another_receiver.wait(2)
        time.sleep(1.5)  # longer than the delay of the retry
        client.v1.webhook_endpoints.update(endpoint, params={"disabled": False})
        new_meter(client, "after")
        receiver.wait(2)
    assert [event["data"]["object"]["event_name"] for event in receiver.events] == ["before", "after"]


def test_a_deleted_endpoint_gets_nothing(client: StripeClient, receiver: Receiver, another_receiver: Receiver) -> None:
    """Its pending deliveries are deleted too."""
    endpoint, _ = new_endpoint(client, receiver)
    new_endpoint(client, another_receiver)
    receiver.statuses = [500] * 10
    new_meter(client, "before")
    receiver.wait(1)
    assert client.v1.webhook_endpoints.delete(endpoint).deleted
    new_meter(client, "after")
    another_receiver.wait(2)
    received_count = len(receiver.received)
    time.sleep(0.7)  # longer than the delay of the next retry
    assert len(receiver.received) == received_count
    assert [webhook_endpoint.id for webhook_endpoint in client.v1.webhook_endpoints.list().data] != [endpoint]


def test_events_go_to_subscribed_endpoints(
    client: StripeClient, receiver: Receiver, another_receiver: Receiver
) -> None:
    """By their types."""
    new_endpoint(client, receiver, "billing.meter.deactivated")
    new_endpoint(client, another_receiver)
    client.v1.billing.meters.deactivate(new_meter(client))
    another_receiver.wait(2)
    receiver.wait(1)
    assert receiver.types() == ["billing.meter.deactivated"]
    assert another_receiver.types() == ["billing.meter.created", "billing.meter.deactivated"]


def test_an_undeliverable_event_is_abandoned_and_logged(ledger_url: str, receiver: Receiver) -> None:
    """With the event, the endpoint and the last result; without URL or secret."""
    key = create_key(ledger_url, "admin")
    receiver.statuses = [500] * 100
    with quick_server(ledger_url, retry_window_seconds="1") as server:
        client = stripe_client(server, key)
        endpoint, secret = new_endpoint(client, receiver)
        new_meter(client)
        wait_until(lambda: "given up" in server.log_file.read_text())
        event: str = receiver.events[0]["id"]
        log_text = server.log_file.read_text()
        assert event in log_text
        assert endpoint in log_text
        assert "500" in log_text
        assert secret not in log_text
        assert receiver.url not in log_text
        received_count = len(receiver.received)
        assert received_count >= 3
        time.sleep(0.6)  # another retry would arrive
        assert len(receiver.received) == received_count


def test_a_terminated_server_stops_immediately(server: RunningServer, client: StripeClient, receiver: Receiver) -> None:
    """Also during a delivery."""
    receiver.pause_seconds = 5
    new_endpoint(client, receiver)
    new_meter(client)
    receiver.wait(1)
    started_at = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started_at < 3
