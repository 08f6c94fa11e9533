"""Deliveries are tried again until they are taken, and one endpoint never waits for another."""

import time

import pytest
from stripe import StripeClient

from tests.server.serving import Serving, create_key
from tests.server.webhooks.receiver import Receiver, until
from tests.server.webhooks.served import new_endpoint, new_meter, quick_server, sdk


@pytest.mark.parametrize("status", [500, 404, 302])
def test_what_is_not_taken_is_sent_again(
    serving: Serving, key: str, client: StripeClient, receiver: Receiver, status: int
) -> None:
    """With the same event, signed anew, after pauses that grow; redirects aren't followed."""
    receiver.statuses = [status, status]
    receiver.headers = {"Location": "/elsewhere"}
    new_endpoint(client, receiver)
    new_meter(client)
    first, second, third = receiver.wait(3)
    assert first.body == second.body == third.body
    assert second.at - first.at >= 0.2 * 0.8
    assert third.at - second.at >= 0.4 * 0.8
    event: str = first.event["id"]
    until(lambda: client.v1.events.retrieve(event).pending_webhooks == 0)
    time.sleep(0.5)
    assert len(receiver.received) == 3
    measured = serving.get("/metrics", key).text
    assert 'tallybook_webhook_deliveries_total{outcome="failed"} 2.0' in measured
    assert 'tallybook_webhook_deliveries_total{outcome="delivered"} 1.0' in measured


def test_a_slow_endpoint_holds_up_no_other(
    client: StripeClient, receiver: Receiver, another_receiver: Receiver
) -> None:
    """Nor is it waited for longer than its time."""
    receiver.pause_seconds = 5
    new_endpoint(client, receiver)
    new_endpoint(client, another_receiver)
    began = time.time()
    for name in ("a", "b", "c"):
        new_meter(client, name)
    another_receiver.wait(3)
    assert time.time() - began < 4  # where it would have waited for 5 seconds
    receiver.wait(2)
    assert 0.5 < receiver.received[1].at - receiver.received[0].at < 4


def test_a_disabled_endpoint_gets_nothing(
    ledger_url: str, key: str, receiver: Receiver, another_receiver: Receiver
) -> None:
    """Neither what happens then nor what was to be delivered again; once enabled, it gets what happens from then on."""
    with quick_server(ledger_url, first_retry_seconds="1") as serving:
        client = sdk(serving, key)
        endpoint, _ = new_endpoint(client, receiver)
        new_endpoint(client, another_receiver)
        receiver.statuses = [500]
        new_meter(client, "before")
        receiver.wait(1)
        client.v1.webhook_endpoints.update(endpoint, params={"disabled": True})
        new_meter(client, "meanwhile")
        another_receiver.wait(2)
        time.sleep(1.5)
        client.v1.webhook_endpoints.update(endpoint, params={"disabled": False})
        new_meter(client, "after")
        receiver.wait(2)
    assert [event["data"]["object"]["event_name"] for event in receiver.events] == ["before", "after"]


def test_a_deleted_endpoint_gets_nothing(client: StripeClient, receiver: Receiver, another_receiver: Receiver) -> None:
    """What was still to be delivered is gone with it."""
    endpoint, _ = new_endpoint(client, receiver)
    new_endpoint(client, another_receiver)
    receiver.statuses = [500] * 10
    new_meter(client, "before")
    receiver.wait(1)
    assert client.v1.webhook_endpoints.delete(endpoint).deleted
    new_meter(client, "after")
    another_receiver.wait(2)
    many = len(receiver.received)
    time.sleep(0.7)
    assert len(receiver.received) == many
    assert [one.id for one in client.v1.webhook_endpoints.list().data] != [endpoint]


def test_events_go_to_who_asked_for_them(client: StripeClient, receiver: Receiver, another_receiver: Receiver) -> None:
    """By their types."""
    new_endpoint(client, receiver, "billing.meter.deactivated")
    new_endpoint(client, another_receiver)
    client.v1.billing.meters.deactivate(new_meter(client))
    another_receiver.wait(2)
    receiver.wait(1)
    assert receiver.types() == ["billing.meter.deactivated"]
    assert another_receiver.types() == ["billing.meter.created", "billing.meter.deactivated"]


def test_what_is_never_taken_is_given_up_and_told_in_the_log(ledger_url: str, receiver: Receiver) -> None:
    """With the event, the endpoint and how the last attempt ended; without its address or secret."""
    key = create_key(ledger_url, "admin")
    receiver.statuses = [500] * 100
    with quick_server(ledger_url, give_up_seconds="1") as serving:
        client = sdk(serving, key)
        endpoint, secret = new_endpoint(client, receiver)
        new_meter(client)
        until(lambda: "given up" in serving.log_file.read_text())
        event: str = receiver.events[0]["id"]
        said = serving.log_file.read_text()
        assert event in said
        assert endpoint in said
        assert "500" in said
        assert secret not in said
        assert receiver.url not in said
        many = len(receiver.received)
        assert many >= 3
        time.sleep(0.6)
        assert len(receiver.received) == many


def test_a_server_that_is_told_to_end_ends_at_once(serving: Serving, client: StripeClient, receiver: Receiver) -> None:
    """Also in the middle of a delivery."""
    receiver.pause_seconds = 5
    new_endpoint(client, receiver)
    new_meter(client)
    receiver.wait(1)
    began = time.monotonic()
    assert serving.stop() == 0
    assert time.monotonic() - began < 3
