"""Stripe's SDK verifies what is delivered, and fetches what it tells of."""

import time
from typing import Any, cast

import pytest
import stripe
from stripe import SignatureVerificationError, StripeClient

from tests.server.serving import Serving, create_key
from tests.server.webhooks.receiver import Receiver
from tests.server.webhooks.served import new_endpoint, new_meter, reported, sdk, stream, use

WITHIN_SECONDS = 2


def test_snapshots_are_told_whole_and_in_order(client: StripeClient, receiver: Receiver) -> None:
    """What happens to a meter is told within moments, with the meter as it was then."""
    _, secret = new_endpoint(client, receiver, "*")
    began = time.time()
    meter = new_meter(client)
    client.v1.billing.meters.update(meter, params={"display_name": "Tokens"})
    client.v1.billing.meters.deactivate(meter)
    client.v1.billing.meters.reactivate(meter)
    received = receiver.wait(4)
    assert received[-1].at - began < WITHIN_SECONDS
    events = [cast(Any, stripe.Webhook.construct_event(one.body, one.signature, secret)) for one in received]
    assert [event.type.rpartition(".")[2] for event in events] == ["created", "updated", "deactivated", "reactivated"]
    assert {event.object for event in events} == {"event"}
    assert [event.data.object.id for event in events] == [meter] * 4
    assert [event.data.object.display_name for event in events] == ["tokens", "Tokens", "Tokens", "Tokens"]
    assert [event.data.object.status for event in events] == ["active", "active", "inactive", "active"]
    assert events[1].data.previous_attributes["display_name"] == "tokens"
    assert events[0].api_version == "2026-10-28.endive"
    assert events[0].pending_webhooks == 1
    assert events[0].request.id is None
    assert [one.id for one in client.v1.events.list().data] == [event.id for event in reversed(events)]


def test_refused_usage_is_told_in_thin_events(serving: Serving, client: StripeClient, receiver: Receiver) -> None:
    """They are verified, and fetched with what they tell of: the errors of a meter, and those of none."""
    _, secret = new_endpoint(
        client, receiver, *("v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found")
    )
    meter = new_meter(client)
    stream(
        serving,
        client,
        [use("fine"), use("bad", customer="a", value="much"), use("lost", "chairs"), use("bad 2", value="1")],
    )
    notifications = {
        one.type: cast(Any, one)
        for one in (client.parse_event_notification(one.body, one.signature, secret) for one in receiver.wait(2))
    }
    report = notifications["v1.billing.meter.error_report_triggered"]
    assert report.related_object.url == f"/v1/billing/meters/{meter}"
    assert report.fetch_related_object().event_name == "tokens"
    data = report.fetch_event().data
    assert data.developer_message_summary == "There are 2 invalid events"
    assert [(error.code, error.error_count) for error in data.reason.error_types] == [
        ("meter_event_invalid_value", 1), ("meter_event_no_customer_defined", 1),
    ]  # fmt: skip
    assert reported([report.fetch_event()]) == ["bad", "bad 2"]
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


def test_a_report_names_the_request_by_its_idempotency_key(serving: Serving, client: StripeClient) -> None:
    """As Stripe's do; and it is there to be read, though nobody is told."""
    session = client.v2.billing.meter_event_session.create()
    bad: Any = [use("lost", "chairs")]
    sdk(serving, session.authentication_token).v2.billing.meter_event_stream.create(
        {"events": bad}, {"idempotency_key": "key-1"}
    )
    while not (events := client.v2.core.events.list().data):
        time.sleep(0.05)
    (event,) = cast(list[Any], events)
    (error,) = event.data.reason.error_types
    assert error.sample_errors[0].request.identifier == "key-1"
    assert client.v2.core.events.retrieve(event.id).id == event.id


def test_thin_forms_of_snapshots_are_told_by_name(client: StripeClient, receiver: Receiver) -> None:
    """They say which snapshot they are of."""
    _, secret = new_endpoint(client, receiver, "v1.billing.meter.created")
    meter = new_meter(client)
    (one,) = receiver.wait(1)
    notification: Any = client.parse_event_notification(one.body, one.signature, secret)
    assert notification.fetch_related_object().id == meter
    snapshot = client.v1.events.retrieve(notification.fetch_event().snapshot_event)
    assert (snapshot.type, snapshot.data.object["id"]) == ("billing.meter.created", meter)


def test_another_secret_verifies_nothing(client: StripeClient, receiver: Receiver) -> None:
    """Nor does the right one, once the body is otherwise."""
    _, secret = new_endpoint(client, receiver)
    new_meter(client)
    (one,) = receiver.wait(1)
    for body, other in ((one.body, "whsec_other"), (one.body.replace(b"tokens", b"Tokens"), secret)):
        with pytest.raises(SignatureVerificationError):
            stripe.Webhook.construct_event(body, one.signature, other)


def test_both_desks_have_webhooks_of_their_own(
    serving: Serving, client: StripeClient, ledger_url: str, receiver: Receiver, another_receiver: Receiver
) -> None:
    """What happens to meters for tests is told to endpoints for tests alone."""
    tests = sdk(serving, create_key(ledger_url, "admin", test=True))
    new_endpoint(client, receiver)
    new_endpoint(tests, another_receiver)
    new_meter(tests, "a")
    new_meter(client, "b")
    told, told_tests = receiver.wait(1), another_receiver.wait(1)
    assert [(one.event["livemode"], one.event["data"]["object"]["event_name"]) for one in told] == [(True, "b")]
    assert [(one.event["livemode"], one.event["data"]["object"]["event_name"]) for one in told_tests] == [(False, "a")]
    assert len(tests.v1.webhook_endpoints.list().data) == 1
