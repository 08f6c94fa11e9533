"""Idempotency keys: what is sent again gets the first answer, and is done once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import stripe
from stripe import IdempotencyError, InvalidRequestError, StripeClient

from .place import Place, around_now, body, place
from .proxy import lossy
from .usage import create_meter, report, total, use

Ask = Callable[[StripeClient, str, Any], Any]
ASKED: dict[str, Ask] = {
    "v1 event": lambda client, name, options: client.v1.billing.meter_events.create(use(name, 1), options),
    "v2 event": lambda client, name, options: client.v2.billing.meter_events.create(use(name, 1), options),
    "v1 event with an identifier": lambda client, name, options: client.v1.billing.meter_events.create(
        use(name, 1, identifier=f"{name}-1"), options
    ),
    "v2 event with an identifier": lambda client, name, options: client.v2.billing.meter_events.create(
        use(name, 1, identifier=f"{name}-1"), options
    ),
}


@pytest.mark.parametrize("losses", [1, 2])
@pytest.mark.parametrize("asked", ASKED)
def test_an_event_whose_answer_is_lost_counts_once(server: Place, event_name: str, asked: str, losses: int) -> None:
    """The SDK tries again by itself, and gets the answer that the first try would have had."""
    meter_id = create_meter(server.client(), event_name)
    with lossy(server.url) as proxy:
        client = server.client(url=proxy.url, retries=2)
        proxy.losses = losses
        answer = ASKED[asked](client, event_name, {})
        assert proxy.lost == losses
    assert answer.last_response.headers["idempotent-replayed"] == "true"
    assert answer.identifier
    assert total(server.client(), meter_id) == 1


def test_a_meter_whose_answer_is_lost_is_created_once(server: Place, event_name: str) -> None:
    """And renamed, deactivated and reactivated, each with the first answer."""
    with lossy(server.url) as proxy:
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


def test_a_cancel_whose_answer_is_lost_is_done_once(server: Place, event_name: str) -> None:
    """In both versions."""
    meter_id = create_meter(server.client(), event_name)
    identifiers = [report(server.client(), event_name, 1) for _ in range(3)]
    with lossy(server.url) as proxy:
        client = server.client(url=proxy.url, retries=2)
        given: Any = [
            {"event_name": event_name, "type": "cancel", "cancel": {"identifier": one}} for one in identifiers
        ]
        proxy.losses = 1
        assert client.v1.billing.meter_event_adjustments.create(given[0]).status == "complete"
        proxy.losses = 1
        assert client.v2.billing.meter_event_adjustments.create(given[1]).status == "complete"
        assert proxy.lost == 2
    assert total(server.client(), meter_id) == 1


def test_a_stream_whose_answer_is_lost_counts_once(server: Place, event_name: str) -> None:
    """Also what has no identifier; and a session is begun though its answer is lost."""
    meter_id = create_meter(server.client(), event_name)
    with lossy(server.url) as proxy:
        proxy.losses = 1
        token = server.client(url=proxy.url, retries=2).v2.billing.meter_event_session.create().authentication_token
        client = server.client(token, url=proxy.url, retries=2)
        proxy.losses = 2
        client.v2.billing.meter_event_stream.create({"events": [use(event_name, 1) for _ in range(50)]})
        assert proxy.lost == 3
    assert total(server.client(), meter_id) == 50


@pytest.mark.parametrize("asked", ASKED)
def test_the_same_key_is_answered_the_same(client: StripeClient, event_name: str, asked: str) -> None:
    """Byte for byte, naming the request that it was done in."""
    meter_id = create_meter(client, event_name)
    key: Any = {"idempotency_key": f"{event_name}-{asked}"}
    first, again = (ASKED[asked](client, event_name, key) for _ in range(2))
    assert again.last_response.body == first.last_response.body
    assert again.last_response.headers["original-request"] == first.last_response.request_id
    assert again.last_response.request_id != first.last_response.request_id
    assert "idempotent-replayed" not in first.last_response.headers
    assert total(client, meter_id) == 1


def test_the_same_key_for_something_else_is_refused(client: StripeClient, event_name: str) -> None:
    """Other parameters, and another path: in events, meters and cancels, of both versions."""
    meter_id = create_meter(client, event_name)
    key: Any = {"idempotency_key": event_name}
    identifier = client.v1.billing.meter_events.create(use(event_name, 1), key).identifier
    cancel: Any = {"event_name": event_name, "type": "cancel", "cancel": {"identifier": identifier}}
    other: Any = {"display_name": "x", "event_name": "other", "default_aggregation": {"formula": "sum"}}
    for ask in (
        lambda: client.v1.billing.meter_events.create(use(event_name, 2), key),
        lambda: client.v2.billing.meter_events.create(use(event_name, 1), key),
        lambda: client.v1.billing.meter_event_adjustments.create(cancel, key),
        lambda: client.v2.billing.meter_event_adjustments.create(cancel, key),
        lambda: client.v1.billing.meters.create(other, key),
        lambda: client.v1.billing.meters.deactivate(meter_id, {}, key),
    ):
        with pytest.raises(IdempotencyError) as refused:
            ask()
        assert refused.value.http_status == 400
        assert event_name in str(refused.value)
        assert (refused.value.headers or {})["stripe-should-retry"] == "false"
    assert total(client, meter_id) == 1


def test_the_same_key_of_somebody_else_is_another_request(server: Place, event_name: str) -> None:
    """Keys are their holder's own."""
    meter_id = create_meter(server.client(), event_name)
    key: Any = {"idempotency_key": event_name}
    identifiers = {
        server.client(holder).v1.billing.meter_events.create(use(event_name, 1), key).identifier
        for holder in (server.admin_key, server.key("record"), server.key("record"))
    }
    assert len(identifiers) == total(server.client(), meter_id) == 3


@pytest.mark.parametrize("asked", ASKED)
def test_the_same_key_at_once_is_done_once(server: Place, event_name: str, asked: str) -> None:
    """Twelve that come together get one answer."""
    meter_id = create_meter(server.client(), event_name)
    key: Any = {"idempotency_key": event_name}
    with ThreadPoolExecutor(12) as together:
        waiting = [together.submit(ASKED[asked], server.client(), event_name, key) for _ in range(12)]
        answers = [one.result() for one in waiting]
    assert len({answer.last_response.body for answer in answers}) == 1
    assert total(server.client(), meter_id) == 1


def test_the_same_key_at_once_creates_one_meter(server: Place, event_name: str) -> None:
    """Each gets it, or 409 with the word to try again, as the SDK does by itself."""

    def create(_: int) -> Any:
        return server.client(retries=8).v1.billing.meters.create(
            {"display_name": "x", "event_name": event_name, "default_aggregation": {"formula": "sum"}},
            {"idempotency_key": event_name},
        )

    with ThreadPoolExecutor(6) as together:
        assert len({answer.last_response.body for answer in together.map(create, range(6))}) == 1


def test_what_was_refused_is_asked_anew(client: StripeClient, event_name: str) -> None:
    """Nothing was done, so the key isn't used up: once there is a meter, the same request is taken."""
    key: Any = {"idempotency_key": event_name}
    with pytest.raises(InvalidRequestError, match="No active meter"):
        client.v1.billing.meter_events.create(use(event_name, 1), key)
    meter_id = create_meter(client, event_name)
    client.v1.billing.meter_events.create(use(event_name, 1), key)
    assert total(client, meter_id) == 1


@pytest.mark.parametrize("key", ["x" * 256, "é", "a\tb"])
def test_a_key_that_is_none_is_refused(server: Place, key: str) -> None:
    """Up to 255 printable characters."""
    answer = server.ask(
        "POST", "/v1/billing/meter_events", data={"event_name": "e"}, headers={"Idempotency-Key": key.encode()}
    )
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "idempotency_error")


def test_answers_outlive_the_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Started again over the same ledger, it gives the answers of before; sessions go on too."""
    directory = tmp_path_factory.mktemp("restart")
    key: Any = {"idempotency_key": "one"}
    meter: Any = {"display_name": "x", "event_name": "tokens", "default_aggregation": {"formula": "sum"}}
    with place(directory) as server:
        client, admin_key = server.client(), server.admin_key
        created = body(client.v1.billing.meters.create(meter, {"idempotency_key": "meter"}))
        event = body(client.v1.billing.meter_events.create(use("tokens", 1), key))
        token = client.v2.billing.meter_event_session.create().authentication_token
        events: Any = {"events": [use("tokens", 1)]}
        server.client(token).v2.billing.meter_event_stream.create(events, {"idempotency_key": "stream"})
    with place(directory) as server:
        client = server.client(admin_key)
        assert body(client.v1.billing.meters.create(meter, {"idempotency_key": "meter"})) == created
        assert body(client.v1.billing.meter_events.create(use("tokens", 1), key)) == event
        server.client(token).v2.billing.meter_event_stream.create(events, {"idempotency_key": "stream"})
        assert total(client, created["id"]) == 2
        server.client(token).v2.billing.meter_event_stream.create(events)
        assert total(client, created["id"]) == 3
        with pytest.raises(IdempotencyError):
            client.v1.billing.meter_events.create(use("tokens", 2), key)


def test_the_global_style_goes_too(server: Place, event_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`stripe.api_key`, `stripe.api_base`, and resources with methods: what most programs have."""
    monkeypatch.setattr(stripe, "api_key", server.admin_key)
    monkeypatch.setattr(stripe, "api_base", server.url)
    meter = stripe.billing.Meter.create(display_name="x", event_name=event_name, default_aggregation={"formula": "sum"})
    stripe.billing.MeterEvent.create(event_name=event_name, payload={"stripe_customer_id": "cus_1", "value": "25"})
    start, end = around_now()
    listed = stripe.billing.Meter.list_event_summaries(meter.id, customer="cus_1", start_time=start, end_time=end)
    assert [one.aggregated_value for one in listed.auto_paging_iter()] == [25]
    assert stripe.billing.Meter.modify(meter.id, display_name="y").display_name == "y"
    assert stripe.billing.Meter.deactivate(meter.id).status == "inactive"
