"""CloudEvents over HTTP: sent by the official SDK in each mode, counted exactly, rejected one by one."""

import json
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from tallybook.application import Metering

from ...notation import Clock, Ledger, moment
from .api_client import ApiClient

PATH = "/v1/cloudevents"
BATCH = "application/cloudevents-batch+json"
Json = dict[str, Any]


@pytest.fixture
def api(ledger: Ledger, api: ApiClient, clock: Clock) -> ApiClient:
    """A client of a server with a meter."""
    ledger.given("meter calls sum")
    clock.now = moment("12:00")
    return api


def post(api: ApiClient, body: bytes, headers: Json, scope: str = "record") -> httpx2.Response:
    """Send a body. The response is checked against the OpenAPI document."""
    sent = {"Authorization": f"Bearer {api.keys[scope]}", **headers}
    response = api.runner.run(api.client.post(PATH, headers=sent, content=body))
    api.documented.check("POST", PATH, response.status_code, response.content)
    return response


def receipt(accepted: int, duplicate: int = 0) -> Json:
    return {"object": "cloud_events.receipt", "accepted": accepted, "duplicate": duplicate, "livemode": True}


def sdk_event(event_id: str, data: Json | None, **attributes: object) -> CloudEvent:
    """Return an event of the SDK."""
    fields = {"id": event_id, "source": "/gateway/ü", "type": "calls", "time": moment("11:00"), **attributes}
    return CloudEvent(fields, data)  # pyright: ignore[reportArgumentType]


def batch_event(event_id: str, calls: object = 1, **attributes: object) -> Json:
    """Return an event of a batch."""
    event = {"specversion": "1.0", "id": event_id, "source": "/gateway", "type": "calls", "subject": "acme"}
    return {**event, "time": "2026-11-10T11:00:00Z", "data": {"calls": calls}, **attributes}


def post_batch(api: ApiClient, *events: object, **headers: str) -> httpx2.Response:
    """Send a batch."""
    return post(api, json.dumps(events).encode(), {"Content-Type": BATCH, **headers})


@pytest.mark.parametrize("to_http", [to_structured_event, to_binary_event])
def test_an_event_of_the_sdk_is_recorded_once(api: ApiClient, metering: Metering, to_http: Any) -> None:
    """Its type is the event name, its subject the customer, its source and id the identifier."""
    message = to_http(sdk_event("ä 1%", {"calls": 2.5, "region": "eu", "nested": {}, "flag": True}, subject="acme €"))
    assert post(api, message.body, message.headers).json() == receipt(1)
    assert post(api, message.body, message.headers).json() == receipt(0, 1)
    (recorded,) = metering.events("calls")
    assert recorded.identifier == "/gateway/ü#ä 1%"
    assert recorded.payload == {"calls": "2.5", "region": "eu", "customer": "acme €"}
    assert recorded.occurred_at == moment("11:00")


def test_numbers_keep_their_digits(api: ApiClient, metering: Metering) -> None:
    """As they are written, in every mode, and not as floats."""
    body = json.dumps(batch_event("a", 0)).replace('"calls": 0', '"calls": 0.10000000000001')
    assert post(api, body.encode(), {"Content-Type": "application/cloudevents+json"}).json() == receipt(1)
    headers = {"ce-specversion": "1.0", "ce-id": "b", "ce-source": "/x", "ce-type": '"calls"', "ce-subject": "acme"}
    assert post(api, b'{"calls": 1e2}', headers).json() == receipt(1)
    payloads = {event.identifier: event.payload["calls"] for event in metering.events("calls")}
    assert payloads == {"/gateway#a": "0.10000000000001", "/x#b": "100"}


def test_the_data_may_name_the_customer(api: ApiClient, metering: Metering) -> None:
    """The subject is the customer only if the data has none."""
    data = {"calls": 1, "customer": "globex"}
    assert post_batch(api, batch_event("a", data=data), batch_event("b")).json() == receipt(2)
    assert [event.customer for event in metering.events("calls")] == ["globex", "acme"]


@pytest.mark.parametrize(
    ("changes_on", "keys"), [("2100-01-01T00:00", ["customer", "customer"]), ("10T11:30", ["customer", "tenant"])]
)
def test_the_subject_is_stored_under_the_key_of_the_time(
    api: ApiClient, metering: Metering, changes_on: str, keys: list[str]
) -> None:
    """An announced key doesn't apply yet, and one of a date not before it."""
    metering.rules.change("calls", {"customer_key": "tenant"}, reason="tenants pay", effective_from=moment(changes_on))
    later = batch_event("b", time="2026-11-10T11:45:00Z")
    assert post_batch(api, batch_event("a"), later).json() == receipt(2)
    events = metering.events("calls")
    assert [event.payload for event in events] == [{"calls": "1", key: "acme"} for key in keys]
    assert [event.customer for event in events] == ["acme", "acme"]


def test_an_event_without_time_occurs_now(api: ApiClient, metering: Metering, clock: Clock) -> None:
    """And is a duplicate whenever it is sent again."""
    event = batch_event("a", time=None)
    assert post_batch(api, event).json() == receipt(1)
    clock.now = moment("13:00")
    assert post_batch(api, event, event).json() == receipt(0, 2)
    assert metering.event("/gateway#a").occurred_at == moment("12:00")


def test_rejected_events_of_a_batch_do_not_affect_the_others(api: ApiClient, metering: Metering) -> None:
    """Each is in the response with its index, and sending the batch again records nothing twice."""
    post_batch(api, batch_event("taken", 7))
    batch = (
        batch_event("good"),
        batch_event("x", "many"),
        batch_event("y", type="unknown"),
        {"specversion": "1.0", "id": "z"},
        batch_event("taken", 8),
        "text",
        batch_event("w", datacontenttype="text/xml"),
        batch_event("v", time="yesterday"),
        batch_event("u", subject=None),
    )
    for _ in range(2):
        response = post_batch(api, *batch)
        assert response.status_code == 400
        error = response.json()["error"]
        rejected = [(event["index"], event["code"], event.get("param", "")) for event in error["rejected"]]
        assert rejected == [
            (1, "payload_invalid_value", "data[calls]"),
            (2, "no_meter", "type"),
            (3, "parameter_missing", "source"),
            (4, "duplicate_meter_event", "id"),
            (5, "parameter_invalid", ""),
            (6, "media_type_invalid", "datacontenttype"),
            (7, "parameter_invalid", "time"),
            (8, "payload_no_customer_defined", "data[customer]"),
        ]
        assert (error["code"], error["param"]) == ("cloud_events_rejected", "[1]")
        assert "8 of 9 events were rejected, and all others are recorded. The first one is" in error["message"]
        assert response.headers["stripe-should-retry"] == "false"
    assert {event.identifier for event in metering.events("calls")} == {"/gateway#good", "/gateway#taken"}


def test_a_rejected_event_alone_is_an_ordinary_error(api: ApiClient) -> None:
    """With the attribute as the parameter."""
    message = to_structured_event(sdk_event("a", {"calls": "many"}, subject="acme"))
    response = post(api, message.body, message.headers)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (400, "payload_invalid_value", "data[calls]")


BINARY = {"ce-specversion": "1.0", "ce-id": "a", "ce-source": "/x", "ce-type": "calls"}
STRUCTURED = {"Content-Type": "application/cloudevents+json"}


@pytest.mark.parametrize(
    ("headers", "body", "code", "param"),
    [
        ({"Content-Type": "application/json"}, b"{}", "media_type_invalid", ""),
        ({"Content-Type": "text/plain", **BINARY}, b"calls=1", "media_type_invalid", ""),
        ({**BINARY, "ce-specversion": "0.3"}, b"{}", "parameter_invalid", "specversion"),
        ({**BINARY, "ce-id": "%ff"}, b"{}", "parameter_invalid", "id"),
        ({**BINARY, "ce-time": "2026-11-10T11:00:00"}, b"{}", "parameter_invalid", "time"),
        (BINARY, b"[1]", "parameter_invalid", ""),
        (BINARY, b'{"calls": 1e9999999999999999999}', "json_invalid", ""),
        (STRUCTURED, b'{"data": {"a": ' + b"[" * 100_000, "json_invalid", ""),
        (STRUCTURED, b'{"id": "\xff"}', "json_invalid", ""),
        (STRUCTURED, b'{"specversion": "1.0"}', "parameter_missing", "id"),
        ({"Content-Type": BATCH}, b"[]", "parameter_invalid", ""),
        ({"Content-Type": BATCH}, b"{}", "parameter_invalid", ""),
        ({"Content-Type": BATCH}, b"[" + b"1," * 1_000 + b"1]", "parameter_invalid", ""),
    ],
)
def test_an_invalid_request(api: ApiClient, headers: Json, body: bytes, code: str, param: str) -> None:
    """The error names the attribute, and nothing is recorded."""
    response = post(api, body, headers)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error.get("param", "")) == (400, code, param)


def test_an_idempotency_key_covers_the_attributes(api: ApiClient) -> None:
    """In binary mode two events may have the same body."""
    headers = {**BINARY, "ce-subject": "acme", "ce-time": datetime(2026, 11, 10, 11, tzinfo=UTC).isoformat()}
    body, key = b'{"calls": 1}', {"Idempotency-Key": "k"}
    assert post(api, body, {**headers, **key}).json() == receipt(1)
    assert post(api, body, {**headers, **key}).headers["idempotent-replayed"] == "true"
    assert post(api, body, {**headers, **key, "ce-id": "b"}).json()["error"]["type"] == "idempotency_error"


def test_recording_needs_its_scope(api: ApiClient) -> None:
    """A key that may only read records nothing."""
    assert post(api, b"[]", {"Content-Type": BATCH}, scope="read").status_code == 403
