"""Webhook events as CloudEvents: the official SDK reads both modes, and Stripe's verifies the bytes."""

from datetime import UTC, datetime
from typing import Any

import pytest
import stripe
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from stripe import InvalidRequestError, StripeClient

from tests.http.running_server import RunningServer
from tests.http.webhooks.receiver import Received, Receiver
from tests.http.webhooks.webhook_server import event_params, new_meter, quick_server, stream, stripe_client

TYPES = ["billing.meter.created", "v1.billing.meter.created", "v1.billing.meter.no_meter_found"]
SOURCE = "https://usage.example.com/a%20b"


def new_endpoint(client: StripeClient, receiver: Receiver, event_format: str) -> Any:
    """Create an endpoint with a format."""
    params: Any = {"url": receiver.url, "enabled_events": TYPES, "event_format": event_format}
    return client.v1.webhook_endpoints.create(params=params)


def by_type(received: list[Received]) -> dict[str, tuple[Received, Any]]:
    """Return the deliveries by type, with what the SDK reads."""
    events = [(each, from_http_event(HTTPMessage(each.headers, each.body))) for each in received]
    return {event.get_type(): (each, event) for each, event in events}


@pytest.mark.parametrize("event_format", ["cloudevents_structured", "cloudevents_binary"])
def test_the_official_sdk_reads_events(ledger_url: str, key: str, receiver: Receiver, event_format: str) -> None:
    """Their data is the event as Stripe's format has it; the signature is that of the bytes."""
    with quick_server(ledger_url, source=SOURCE) as server:
        client = stripe_client(server, key)
        endpoint = new_endpoint(client, receiver, event_format)
        meter = new_meter(client)
        stream(server, client, [event_params("lost", "chairs")])
        events = by_type(list(receiver.wait(3)))
        snapshot = client.v1.events.list().data[0]
    assert set(events) == set(TYPES)
    signatures: Any = stripe.WebhookSignature
    for received, event in events.values():
        signatures.verify_header(received.body.decode(), received.signature, endpoint.secret)
        assert (event.get_specversion(), event.get_source()) == ("1.0", SOURCE)
        assert (event.get_datacontenttype(), event.get_id()) == ("application/json", event.get_data()["id"])
        assert abs((datetime.now(UTC) - event.get_time()).total_seconds()) < 60
        if event_format == "cloudevents_binary":
            assert received.event == event.get_data()
    _, created = events["billing.meter.created"]
    assert (created.get_id(), created.get_subject()) == (snapshot.id, meter)
    assert created.get_data()["data"]["object"]["event_name"] == "tokens"
    assert events["v1.billing.meter.created"][1].get_subject() == meter
    assert events["v1.billing.meter.no_meter_found"][1].get_subject() is None


def test_the_format_of_an_endpoint_is_changed(client: StripeClient, server: RunningServer, receiver: Receiver) -> None:
    """It is Stripe's by default, and what is delivered later has the new one; other formats are rejected."""
    created: Any = client.v1.webhook_endpoints.create(params={"url": receiver.url, "enabled_events": ["*"]})
    assert created.event_format == "stripe"
    new_meter(client)
    (first,) = receiver.wait(1)
    assert (first.headers["Content-Type"], first.event["object"]) == ("application/json", "event")
    changes: Any = {"event_format": "cloudevents_structured"}
    updated: Any = client.v1.webhook_endpoints.update(created.id, params=changes)
    assert updated.event_format == "cloudevents_structured"
    unchanged: Any = client.v1.webhook_endpoints.update(created.id, params={"description": "x"})
    assert unchanged.event_format == "cloudevents_structured"
    new_meter(client, "calls")
    second = receiver.wait(2)[1]
    assert (second.headers["Content-Type"], second.event["source"]) == ("application/cloudevents+json", "/tallybook")
    with pytest.raises(InvalidRequestError) as error:
        new_endpoint(client, receiver, "cloudevents")
    assert error.value.param == "event_format"  # pyright: ignore[reportUnknownMemberType]
