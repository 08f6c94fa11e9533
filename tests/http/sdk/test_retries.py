"""Idempotency keys: a repeated request gets the first response and takes effect once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import stripe
from stripe import IdempotencyError, InvalidRequestError, StripeClient

from .meter_events import create_meter, event_params, record_event, total
from .proxy import lossy_proxy
from .server_fixture import SdkServer, around_now, parse_body, sdk_server

SendRequest = Callable[[StripeClient, str, Any], Any]
REQUESTS: dict[str, SendRequest] = {
    "v1 event": lambda client, name, options: client.v1.billing.meter_events.create(event_params(name, 1), options),
    "v2 event": lambda client, name, options: client.v2.billing.meter_events.create(event_params(name, 1), options),
    "v1 event with an identifier": lambda client, name, options: client.v1.billing.meter_events.create(
        event_params(name, 1, identifier=f"{name}-1"), options
    ),
    "v2 event with an identifier": lambda client, name, options: client.v2.billing.meter_events.create(
        event_params(name, 1, identifier=f"{name}-1"), options
    ),
}


@pytest.mark.parametrize("losses", [1, 2])
@pytest.mark.parametrize("request_name", REQUESTS)
def test_an_event_whose_response_is_lost_counts_once(
    server: SdkServer, event_name: str, request_name: str, losses: int
) -> None:
    """The SDK retries and gets the response of the first attempt."""
    meter_id = create_meter(server.client(), event_name)
    with lossy_proxy(server.url) as proxy:
        client = server.client(url=proxy.url, retries=2)
        proxy.losses = losses
        response = REQUESTS[request_name](client, event_name, {})
        assert proxy.lost == losses
    assert response.last_response.headers["idempotent-replayed"] == "true"
    assert response.identifier
    assert total(server.client(), meter_id) == 1


def test_a_meter_whose_response_is_lost_is_created_once(server: SdkServer, event_name: str) -> None:
    """Also renamed, deactivated and reactivated, each with the first response."""
    with lossy_proxy(server.url) as proxy:
        client = server.client(url=proxy.url, retries=2)
        proxy.losses = 1
        meter_id = create_meter(client, event_name)
        proxy.losses = 1
        assert client.v1.billing.meters.update(meter_id, {"display_name": "Other"}).display_name == "Other"
        proxy.losses = 1
        assert client.v1.billing.meters.deactivate(meter_id).status == "inactive"
        proxy.losses = 1
        assert client.v1.billing.meters.reactivate(meter_id).status == "active"
        assert proxy.lost == 4


def test_a_cancellation_whose_response_is_lost_is_applied_once(server: SdkServer, event_name: str) -> None:
    """In both versions."""
    meter_id = create_meter(server.client(), event_name)
    identifiers = [record_event(server.client(), event_name, 1) for _ in range(3)]
    with lossy_proxy(server.url) as proxy:
        client = server.client(url=proxy.url, retries=2)
        cancellation: Any = [
            {"event_name": event_name, "type": "cancel", "cancel": {"identifier": identifier}}
            for identifier in identifiers
        ]
        proxy.losses = 1
        assert client.v1.billing.meter_event_adjustments.create(cancellation[0]).status == "complete"
        proxy.losses = 1
        assert client.v2.billing.meter_event_adjustments.create(cancellation[1]).status == "complete"
        assert proxy.lost == 2
    assert total(server.client(), meter_id) == 1


def test_a_stream_whose_response_is_lost_counts_once(server: SdkServer, event_name: str) -> None:
    """Also events without identifier; and a session is created although its response is lost."""
    meter_id = create_meter(server.client(), event_name)
    with lossy_proxy(server.url) as proxy:
        proxy.losses = 1
        token = server.client(url=proxy.url, retries=2).v2.billing.meter_event_session.create().authentication_token
        client = server.client(token, url=proxy.url, retries=2)
        proxy.losses = 2
        client.v2.billing.meter_event_stream.create({"events": [event_params(event_name, 1) for _ in range(50)]})
        assert proxy.lost == 3
    assert total(server.client(), meter_id) == 50


@pytest.mark.parametrize("request_name", REQUESTS)
def test_the_same_key_gets_the_same_response(client: StripeClient, event_name: str, request_name: str) -> None:
    """Byte for byte, with the id of the first request."""
    meter_id = create_meter(client, event_name)
    key: Any = {"idempotency_key": f"{event_name}-{request_name}"}
    first, repeated = (REQUESTS[request_name](client, event_name, key) for _ in range(2))
    assert repeated.last_response.body == first.last_response.body
    assert repeated.last_response.headers["original-request"] == first.last_response.request_id
    assert repeated.last_response.request_id != first.last_response.request_id
    assert "idempotent-replayed" not in first.last_response.headers
    assert total(client, meter_id) == 1


def test_the_same_key_for_another_request_is_rejected(client: StripeClient, event_name: str) -> None:
    """Other parameters and another path, for events, meters and cancellations of both versions."""
    meter_id = create_meter(client, event_name)
    key: Any = {"idempotency_key": event_name}
    identifier = client.v1.billing.meter_events.create(event_params(event_name, 1), key).identifier
    cancel: Any = {"event_name": event_name, "type": "cancel", "cancel": {"identifier": identifier}}
    other: Any = {"display_name": "x", "event_name": "other", "default_aggregation": {"formula": "sum"}}
    for request in (
        lambda: client.v1.billing.meter_events.create(event_params(event_name, 2), key),
        lambda: client.v2.billing.meter_events.create(event_params(event_name, 1), key),
        lambda: client.v1.billing.meter_event_adjustments.create(cancel, key),
        lambda: client.v2.billing.meter_event_adjustments.create(cancel, key),
        lambda: client.v1.billing.meters.create(other, key),
        lambda: client.v1.billing.meters.deactivate(meter_id, {}, key),
    ):
        with pytest.raises(IdempotencyError) as exc_info:
            request()
        assert exc_info.value.http_status == 400
        assert event_name in str(exc_info.value)
        assert (exc_info.value.headers or {})["stripe-should-retry"] == "false"
    assert total(client, meter_id) == 1


def test_the_same_key_of_another_client_is_another_request(server: SdkServer, event_name: str) -> None:
    """Each access key has its own idempotency keys."""
    meter_id = create_meter(server.client(), event_name)
    key: Any = {"idempotency_key": event_name}
    identifiers = {
        server.client(holder).v1.billing.meter_events.create(event_params(event_name, 1), key).identifier
        for holder in (server.admin_key, server.key("record"), server.key("record"))
    }
    assert len(identifiers) == total(server.client(), meter_id) == 3


@pytest.mark.parametrize("request_name", REQUESTS)
def test_concurrent_requests_with_one_key_run_once(server: SdkServer, event_name: str, request_name: str) -> None:
    """Twelve concurrent requests get one response."""
    meter_id = create_meter(server.client(), event_name)
    key: Any = {"idempotency_key": event_name}
    with ThreadPoolExecutor(12) as together:
        waiting = [together.submit(REQUESTS[request_name], server.client(), event_name, key) for _ in range(12)]
        responses = [future.result() for future in waiting]
    assert len({response.last_response.body for response in responses}) == 1
    assert total(server.client(), meter_id) == 1


def test_concurrent_requests_with_one_key_create_one_meter(server: SdkServer, event_name: str) -> None:
    """Each gets the meter, or 409 with the header to retry, which the SDK follows."""

    def create(_: int) -> Any:
        return server.client(retries=8).v1.billing.meters.create(
            {"display_name": "x", "event_name": event_name, "default_aggregation": {"formula": "sum"}},
            {"idempotency_key": event_name},
        )

    with ThreadPoolExecutor(6) as together:
        assert len({response.last_response.body for response in together.map(create, range(6))}) == 1


def test_a_rejected_request_can_be_sent_again(client: StripeClient, event_name: str) -> None:
    """The key is not consumed: after the meter is created, the same request succeeds."""
    key: Any = {"idempotency_key": event_name}
    with pytest.raises(InvalidRequestError, match="No active meter"):
        client.v1.billing.meter_events.create(event_params(event_name, 1), key)
    meter_id = create_meter(client, event_name)
    client.v1.billing.meter_events.create(event_params(event_name, 1), key)
    assert total(client, meter_id) == 1


@pytest.mark.parametrize("key", ["x" * 256, "é", "a\tb"])
def test_an_invalid_idempotency_key_is_rejected(server: SdkServer, key: str) -> None:
    """Up to 255 printable characters."""
    response = server.request(
        "POST", "/v1/billing/meter_events", data={"event_name": "e"}, headers={"Idempotency-Key": key.encode()}
    )
    assert (response.status_code, response.json()["error"]["type"]) == (400, "idempotency_error")


def test_stored_responses_outlive_the_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    """After a restart the server returns the stored responses, and sessions continue."""
    directory = tmp_path_factory.mktemp("restart")
    key: Any = {"idempotency_key": "one"}
    meter: Any = {"display_name": "x", "event_name": "tokens", "default_aggregation": {"formula": "sum"}}
    with sdk_server(directory) as server:
        client, admin_key = server.client(), server.admin_key
        created = parse_body(client.v1.billing.meters.create(meter, {"idempotency_key": "meter"}))
        event = parse_body(client.v1.billing.meter_events.create(event_params("tokens", 1), key))
        token = client.v2.billing.meter_event_session.create().authentication_token
        events: Any = {"events": [event_params("tokens", 1)]}
        server.client(token).v2.billing.meter_event_stream.create(events, {"idempotency_key": "stream"})
    with sdk_server(directory) as server:
        client = server.client(admin_key)
        assert parse_body(client.v1.billing.meters.create(meter, {"idempotency_key": "meter"})) == created
        assert parse_body(client.v1.billing.meter_events.create(event_params("tokens", 1), key)) == event
        server.client(token).v2.billing.meter_event_stream.create(events, {"idempotency_key": "stream"})
        assert total(client, created["id"]) == 2
        server.client(token).v2.billing.meter_event_stream.create(events)
        assert total(client, created["id"]) == 3
        with pytest.raises(IdempotencyError):
            client.v1.billing.meter_events.create(event_params("tokens", 2), key)


def test_the_global_client_style_works_too(server: SdkServer, event_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`stripe.api_key`, `stripe.api_base`, and resource classes: the style of most programs."""
    monkeypatch.setattr(stripe, "api_key", server.admin_key)
    monkeypatch.setattr(stripe, "api_base", server.url)
    meter = stripe.billing.Meter.create(display_name="x", event_name=event_name, default_aggregation={"formula": "sum"})
    stripe.billing.MeterEvent.create(event_name=event_name, payload={"stripe_customer_id": "cus_1", "value": "25"})
    start, end = around_now()
    listed = stripe.billing.Meter.list_event_summaries(meter.id, customer="cus_1", start_time=start, end_time=end)
    assert [item.aggregated_value for item in listed.auto_paging_iter()] == [25]
    assert stripe.billing.Meter.modify(meter.id, display_name="y").display_name == "y"
    assert stripe.billing.Meter.deactivate(meter.id).status == "inactive"
