"""Meter events in v1 and v2: every field, and every immediate error."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from stripe import InvalidRequestError, StripeClient

from .meter_events import create_meter, record_event, total
from .server_fixture import DAY, HOUR, SdkServer, now, parse_body

PAYLOAD = {"stripe_customer_id": "cus_1", "value": "2.50"}


def test_an_event_in_v1_has_every_field(client: StripeClient, event_name: str) -> None:
    """Further payload values are stored unchanged."""
    meter_id, at = create_meter(client, event_name), now() - HOUR
    payload = {**PAYLOAD, "model": "größte", "note": ""}
    event = client.v1.billing.meter_events.create(
        {"event_name": event_name, "payload": payload, "identifier": f"{event_name}-1", "timestamp": at}
    )
    fields = parse_body(event)
    assert now() - 5 <= fields.pop("created") <= now()
    assert fields == {
        "object": "billing.meter_event",
        "event_name": event_name,
        "identifier": f"{event_name}-1",
        "livemode": True,
        "payload": payload,
        "timestamp": at,
    }
    assert str(total(client, meter_id)) == "2.50"


def test_an_event_in_v2_has_every_field(client: StripeClient, event_name: str) -> None:
    """Times are RFC 3339, to the millisecond, in UTC."""
    create_meter(client, event_name)
    at = datetime.now(UTC).replace(microsecond=123_000) - timedelta(hours=1)
    event = client.v2.billing.meter_events.create(
        {"event_name": event_name, "payload": PAYLOAD, "identifier": f"{event_name}-1", "timestamp": at.isoformat()}
    )
    fields = parse_body(event)
    created = fields.pop("created")
    assert created[19] == "."
    assert created.endswith("Z")
    assert abs(datetime.fromisoformat(created) - datetime.now(UTC)) < timedelta(seconds=5)
    assert fields == {
        "object": "v2.billing.meter_event",
        "event_name": event_name,
        "identifier": f"{event_name}-1",
        "livemode": True,
        "payload": PAYLOAD,
        "timestamp": f"{at:%Y-%m-%dT%H:%M:%S}.123Z",
    }


def test_omitted_fields_are_generated(client: StripeClient, event_name: str) -> None:
    """A new identifier each time, and the current time; all events count."""
    meter_id = create_meter(client, event_name)
    v1 = [client.v1.billing.meter_events.create({"event_name": event_name, "payload": PAYLOAD}) for _ in range(2)]
    v2 = [client.v2.billing.meter_events.create({"event_name": event_name, "payload": PAYLOAD}) for _ in range(2)]
    assert len({event.identifier for event in (*v1, *v2)}) == 4
    assert all(abs(event.timestamp - now()) < 5 and event.timestamp == event.created for event in v1)
    assert total(client, meter_id) == 10


def test_a_duplicate_is_rejected_in_v1(client: StripeClient, event_name: str) -> None:
    """With Stripe's message, no code, and the header not to retry, also for the same content."""
    meter_id = create_meter(client, event_name)
    identifier = record_event(client, event_name, 1, identifier=f"{event_name}-1")
    for value in (1, 2):
        with pytest.raises(InvalidRequestError) as exc_info:
            record_event(client, event_name, value, identifier=identifier)
        error: Any = exc_info.value
        assert (error.http_status, error.code) == (400, None)
        assert error.json_body == {
            "error": {
                "type": "invalid_request_error",
                "message": f"An event already exists with identifier {identifier}.",
            }
        }
        assert error.headers["stripe-should-retry"] == "false"
    assert total(client, meter_id) == 1


def test_a_duplicate_is_rejected_in_v2(client: StripeClient, event_name: str) -> None:
    """With v2's code, also if v1 recorded the first one or another meter has it."""
    create_meter(client, event_name)
    create_meter(client, event_name + "_other")
    identifier = record_event(client, event_name, 1, identifier=f"{event_name}-1")
    for name in (event_name, event_name + "_other"):
        with pytest.raises(InvalidRequestError) as exc_info:
            client.v2.billing.meter_events.create({"event_name": name, "payload": PAYLOAD, "identifier": identifier})
        assert (exc_info.value.http_status, exc_info.value.code) == (400, "duplicate_meter_event")


REJECTED_EVENTS: list[tuple[dict[str, Any], str | None, str, str]] = [
    ({"payload": {"value": "1"}}, "payload_no_customer_defined", "payload_no_customer_defined",
     "payload[stripe_customer_id]"),
    ({"payload": {"stripe_customer_id": "c"}}, "payload_no_value_defined", "payload_no_value_defined",
     "payload[value]"),
    *(
        ({"payload": {"stripe_customer_id": "c", "value": value}}, "payload_invalid_value", "payload_invalid_value",
         "payload[value]")
        for value in ("x", "", "1e3", "+1", " 1", "1,000", "NaN", "0x1", "1_000", "Infinity", "٣")
    ),
    ({"payload": {"stripe_customer_id": "c", "value": "1.234567890123456"}}, "meter_event_value_too_many_digits",
     "payload_invalid_value", "payload[value]"),
    ({"event_name": "nobody's"}, "no_meter", "no_meter", "event_name"),
    ({"event_name": "x" * 101}, "parameter_invalid", "parameter_invalid", "event_name"),
    ({"identifier": "x" * 101}, "parameter_invalid", "parameter_invalid", "identifier"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "v1", "v2", "param"), REJECTED_EVENTS)
def test_an_invalid_event_is_rejected(
    client: StripeClient, event_name: str, changes: Any, v1: str, v2: str, param: str
) -> None:
    """Immediately, with the code of each version and the parameter; nothing counts."""
    meter_id = create_meter(client, event_name)
    params: Any = {"event_name": event_name, "payload": PAYLOAD} | changes
    for create, code in ((client.v1.billing.meter_events.create, v1), (client.v2.billing.meter_events.create, v2)):
        with pytest.raises(InvalidRequestError) as exc_info:
            create(params)
        error: Any = exc_info.value
        assert (error.http_status, error.code) == (400, code)
        assert error.json_body["error"]["param"] == param
    assert total(client, meter_id) == total(client, meter_id, "c") == 0


def test_an_inactive_meter_accepts_nothing(client: StripeClient, event_name: str) -> None:
    """Each version has its own error."""
    client.v1.billing.meters.deactivate(create_meter(client, event_name))
    with pytest.raises(InvalidRequestError, match=f'No active meter found for event name "{event_name}".'):
        record_event(client, event_name, 1)
    with pytest.raises(InvalidRequestError) as exc_info:
        client.v2.billing.meter_events.create({"event_name": event_name, "payload": PAYLOAD})
    assert (exc_info.value.http_status, exc_info.value.code) == (400, "archived_meter")


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (-35 * DAY + 60, None),
        (-35 * DAY - 1, "timestamp_too_far_in_past"),
        (290, None),
        (360, "timestamp_in_future"),
        (-(2**40), "parameter_invalid"),
        (2**40, "parameter_invalid"),
    ],
)
def test_usage_is_neither_too_old_nor_ahead(
    client: StripeClient, event_name: str, seconds: int, code: str | None
) -> None:
    """35 days back, 5 minutes ahead."""
    create_meter(client, event_name)
    if code is None:
        record_event(client, event_name, 1, timestamp=now() + seconds)
    else:
        with pytest.raises(InvalidRequestError) as exc_info:
            record_event(client, event_name, 1, timestamp=now() + seconds)
        error: Any = exc_info.value
        assert (error.http_status, error.code, error.param) == (400, code, "timestamp")


@pytest.mark.parametrize(
    "changes",
    [
        "event_name=e&payload[a][b]=1",
        "event_name=e&payload=1",
        "event_name=e&payload[]=1",
        "event_name=e&payload[0]=1&payload[]=2",
        "payload[value]=1",
        "event_name=e",
        "event_name=e&payload[value]=1&payload[value]=2",
        "event_name=e&payload[value]=1&timestamp=soon",
        "event_name=e&payload[value]=1&timestamp=1.5",
        "event_name=e&payload[value]=1&identifier[]=1",
        "event_name=e&payload[value]=1&colour=red",
    ],
)
def test_an_invalid_form_is_rejected(server: SdkServer, changes: str) -> None:
    """A nested value, a list, a repeated parameter, and other invalid events."""
    response = server.request(
        "POST", "/v1/billing/meter_events", content=changes,
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )  # fmt: skip
    error = response.json()["error"]
    assert (response.status_code, error["type"]) == (400, "invalid_request_error")
    assert error["param"] or error["code"]
    assert response.headers["stripe-should-retry"] == "false"


def test_keys_of_the_payload_are_the_meters(client: StripeClient, event_name: str) -> None:
    """Customer and value are read from the keys of the meter."""
    meter_id = create_meter(
        client, event_name, customer_mapping={"event_payload_key": "who", "type": "by_id"},
        value_settings={"event_payload_key": "tokens"},
    )  # fmt: skip
    client.v1.billing.meter_events.create({"event_name": event_name, "payload": {"who": "cus_1", "tokens": "7"}})
    assert total(client, meter_id) == 7
