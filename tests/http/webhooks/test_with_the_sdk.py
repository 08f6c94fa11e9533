"""Stripe's SDK verifies deliveries, and fetches the objects that they refer to."""

import time
from typing import Any, cast

import pytest
import stripe
from stripe import SignatureVerificationError, StripeClient

from tests.http.running_server import RunningServer, create_key
from tests.http.webhooks.receiver import Receiver
from tests.http.webhooks.webhook_server import (
    event_params,
    new_endpoint,
    new_meter,
    reported_identifiers,
    stream,
    stripe_client,
)

MAX_DELAY_SECONDS = 2


def test_snapshots_are_delivered_completely_and_in_order(client: StripeClient, receiver: Receiver) -> None:
    """Changes of a meter are delivered within moments, with the meter as it was."""
    _, secret = new_endpoint(client, receiver, "*")
    started_at = time.time()
    meter = new_meter(client)
    client.v1.billing.meters.update(meter, params={"display_name": "Tokens"})
    client.v1.billing.meters.deactivate(meter)
    client.v1.billing.meters.reactivate(meter)
    received = receiver.wait(4)
    assert received[-1].at - started_at < MAX_DELAY_SECONDS
    events = [
        cast(Any, stripe.Webhook.construct_event(delivery.body, delivery.signature, secret)) for delivery in received
    ]
    assert [event.type.rpartition(".")[2] for event in events] == ["created", "updated", "deactivated", "reactivated"]
    assert {event.object for event in events} == {"event"}
    assert [event.data.object.id for event in events] == [meter] * 4
    assert [event.data.object.display_name for event in events] == ["tokens", "Tokens", "Tokens", "Tokens"]
    assert [event.data.object.status for event in events] == ["active", "active", "inactive", "active"]
    assert events[1].data.previous_attributes["display_name"] == "tokens"
    assert events[0].api_version == "2026-10-28.endive"
    assert events[0].pending_webhooks == 1
    assert events[0].request.id is None
    assert [delivery.id for delivery in client.v1.events.list().data] == [event.id for event in reversed(events)]


def test_rejected_usage_is_reported_in_thin_events(
    server: RunningServer, client: StripeClient, receiver: Receiver
) -> None:
    """They are verified and fetched with their data: the errors of a meter, and those without a meter."""
    _, secret = new_endpoint(
        client, receiver, *("v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found")
    )
    meter = new_meter(client)
    stream(
        server,
        client,
        [
            event_params("fine"),
            event_params("bad", customer="a", value="much"),
            event_params("lost", "chairs"),
            event_params("bad 2", value="1"),
        ],
    )
    notifications = {
        delivery.type: cast(Any, delivery)
        for delivery in (
            client.parse_event_notification(delivery.body, delivery.signature, secret) for delivery in receiver.wait(2)
        )
    }
    error_report = notifications["v1.billing.meter.error_report_triggered"]
    assert error_report.related_object.url == f"/v1/billing/meters/{meter}"
    assert error_report.fetch_related_object().event_name == "tokens"
    data = error_report.fetch_event().data
    assert data.developer_message_summary == "There are 2 invalid events"
    assert [(error.code, error.error_count) for error in data.reason.error_types] == [
        ("meter_event_invalid_value", 1), ("meter_event_no_customer_defined", 1),
    ]  # fmt: skip
    assert reported_identifiers([error_report.fetch_event()]) == ["bad", "bad 2"]
    lost = notifications["v1.billing.meter.no_meter_found"]
    assert not hasattr(lost, "related_object")
    assert lost.fetch_event().data.reason.error_count == 1
    assert (
        lost.fetch_event()
        .data.reason.error_types[0]
        .sample_errors[0]
        .error_message.startswith("There is no meter 'chairs'")
    )
    assert not any("data" in event for event in receiver.events)


def test_a_report_contains_the_idempotency_key_of_the_request(server: RunningServer, client: StripeClient) -> None:
    """As Stripe's do; and it can be fetched without any subscription."""
    session = client.v2.billing.meter_event_session.create()
    bad: Any = [event_params("lost", "chairs")]
    stripe_client(server, session.authentication_token).v2.billing.meter_event_stream.create(
        {"events": bad}, {"idempotency_key": "key-1"}
    )
    while not (events := client.v2.core.events.list().data):
        time.sleep(0.05)
    (event,) = cast(list[Any], events)
    (error,) = event.data.reason.error_types
    assert error.sample_errors[0].request.identifier == "key-1"
    assert client.v2.core.events.retrieve(event.id).id == event.id


def test_thin_forms_of_snapshots_are_delivered_by_name(client: StripeClient, receiver: Receiver) -> None:
    """Each refers to its snapshot event."""
    _, secret = new_endpoint(client, receiver, "v1.billing.meter.created")
    meter = new_meter(client)
    (delivery,) = receiver.wait(1)
    notification: Any = client.parse_event_notification(delivery.body, delivery.signature, secret)
    assert notification.fetch_related_object().id == meter
    snapshot = client.v1.events.retrieve(notification.fetch_event().snapshot_event)
    assert (snapshot.type, snapshot.data.object["id"]) == ("billing.meter.created", meter)


def test_another_secret_verifies_nothing(client: StripeClient, receiver: Receiver) -> None:
    """Nor does the right one for a changed body."""
    _, secret = new_endpoint(client, receiver)
    new_meter(client)
    (delivery,) = receiver.wait(1)
    for body, other in ((delivery.body, "whsec_other"), (delivery.body.replace(b"tokens", b"Tokens"), secret)):
        with pytest.raises(SignatureVerificationError):
            stripe.Webhook.construct_event(body, delivery.signature, other)


def test_live_and_test_mode_have_separate_webhooks(
    server: RunningServer, client: StripeClient, ledger_url: str, receiver: Receiver, another_receiver: Receiver
) -> None:
    """Changes of test meters are delivered only to test endpoints."""
    tests = stripe_client(server, create_key(ledger_url, "admin", test=True))
    new_endpoint(client, receiver)
    new_endpoint(tests, another_receiver)
    new_meter(tests, "a")
    new_meter(client, "b")
    delivered, delivered_in_test_mode = receiver.wait(1), another_receiver.wait(1)
    assert [(delivery.event["livemode"], delivery.event["data"]["object"]["event_name"]) for delivery in delivered] == [
        (True, "b")
    ]
    assert [
        (delivery.event["livemode"], delivery.event["data"]["object"]["event_name"])
        for delivery in delivered_in_test_mode
    ] == [(False, "a")]
    assert len(tests.v1.webhook_endpoints.list().data) == 1
