"""Meters, from creation to reactivation, with Stripe's SDK for Python."""

import json
from typing import Any

import pytest
from stripe import InvalidRequestError, StripeClient

from .meter_events import create_meter, record_event, total
from .server_fixture import SdkServer, now, parse_body

FIELDS = {
    "id", "object", "created", "customer_mapping", "default_aggregation", "dimension_payload_keys", "display_name",
    "event_name", "event_time_window", "livemode", "status", "status_transitions", "updated", "value_settings",
}  # fmt: skip
EXTRA_FIELDS = {
    "derived_meters", "filter", "multiplier", "optional_dimension_payload_keys", "revision", "rounding", "source",
    "upcoming_rules",
}  # fmt: skip


def test_a_meter_has_every_field_and_stripes_defaults(client: StripeClient, event_name: str) -> None:
    """Omitted payload keys have Stripe's defaults."""
    before = now()
    meter = client.v1.billing.meters.create(
        {"display_name": "Tokens", "event_name": event_name, "default_aggregation": {"formula": "sum"}}
    )
    fields = parse_body(meter)
    assert set(fields) == FIELDS | EXTRA_FIELDS
    assert meter.id.startswith("mtr_")
    assert before <= meter.created == meter.updated <= now()
    assert {name: fields[name] for name in FIELDS - {"id", "created", "updated"}} == {
        "object": "billing.meter",
        "customer_mapping": {"event_payload_key": "stripe_customer_id", "type": "by_id"},
        "default_aggregation": {"formula": "sum"},
        "dimension_payload_keys": None,
        "display_name": "Tokens",
        "event_name": event_name,
        "event_time_window": None,
        "livemode": True,
        "status": "active",
        "status_transitions": {"deactivated_at": None},
        "value_settings": {"event_payload_key": "value"},
    }
    assert meter.last_response is not None
    assert (meter.last_response.request_id or "").startswith("req_")


def test_a_formula_that_stripe_does_not_have_is_shown(client: StripeClient, event_name: str) -> None:
    """Stripe's operations read such a meter; only ours create it."""
    untyped: Any = client
    params = {"event_name": event_name, "default_aggregation": {"formula": "unique_count"}}
    response = untyped.raw_request("post", "/v1/billing/meters/configure", **params)
    meter_id = json.loads(response.body)["id"]
    assert client.v1.billing.meters.retrieve(meter_id).default_aggregation.formula == "unique_count"
    for value in ("ann", "ben", "ann"):
        record_event(client, event_name, value)
    assert total(client, meter_id) == 2


@pytest.mark.parametrize("formula", ["count", "last", "sum"])
@pytest.mark.parametrize("window", [None, "hour", "day"])
def test_a_meter_keeps_its_creation_parameters(
    client: StripeClient, event_name: str, formula: Any, window: Any
) -> None:
    """Formula, window and keys are returned unchanged."""
    params: Any = {
        "display_name": "Größe 📏",
        "event_name": event_name,
        "default_aggregation": {"formula": formula},
        "customer_mapping": {"event_payload_key": "who", "type": "by_id"},
        "value_settings": {"event_payload_key": "how much"},
        "dimension_payload_keys": ["model", "region"],
    } | ({"event_time_window": window} if window else {})
    created = parse_body(client.v1.billing.meters.create(params))
    assert {name: created[name] for name in params} == params
    assert created["event_time_window"] == window
    assert parse_body(client.v1.billing.meters.retrieve(created["id"])) == created


def test_only_the_display_name_changes(client: StripeClient, event_name: str) -> None:
    """An update without parameters changes nothing."""
    created = parse_body(client.v1.billing.meters.retrieve(create_meter(client, event_name)))
    renamed = parse_body(client.v1.billing.meters.update(created["id"], {"display_name": "Other"}))
    assert renamed == {**created, "display_name": "Other", "updated": renamed["updated"]}
    assert parse_body(client.v1.billing.meters.update(created["id"], {})) == renamed


def test_a_meter_is_deactivated_and_reactivated(client: StripeClient, event_name: str) -> None:
    """While inactive it has the time of deactivation and accepts no usage; its event name stays reserved."""
    meter_id = create_meter(client, event_name)
    before = now()
    inactive = client.v1.billing.meters.deactivate(meter_id)
    assert inactive.status == "inactive"
    assert before <= (inactive.status_transitions.deactivated_at or 0) == inactive.updated <= now()
    with pytest.raises(InvalidRequestError, match=f'No active meter found for event name "{event_name}"'):
        record_event(client, event_name, 1)
    with pytest.raises(InvalidRequestError, match="already exists"):
        create_meter(client, event_name)
    active = client.v1.billing.meters.reactivate(meter_id)
    assert (active.status, active.status_transitions.deactivated_at) == ("active", None)
    record_event(client, event_name, 1)


def test_an_event_name_has_one_meter(client: StripeClient, event_name: str) -> None:
    """Also if another request creates the same meter."""
    create_meter(client, event_name)
    with pytest.raises(InvalidRequestError, match="already exists") as exc_info:
        create_meter(client, event_name)
    error: Any = exc_info.value
    assert (error.http_status, error.param) == (400, "event_name")


@pytest.mark.parametrize("identifier", ["mtr_none", "mtr_", "x", "mtr_%00", "mtr_YQBi", "mtr_" + "YWFh" * 50, "é"])
def test_an_unknown_meter_is_missing(client: StripeClient, identifier: str) -> None:
    """For any id, valid or not."""
    for operation in (
        client.v1.billing.meters.retrieve, client.v1.billing.meters.update, client.v1.billing.meters.deactivate,
        client.v1.billing.meters.reactivate,
    ):  # fmt: skip
        with pytest.raises(InvalidRequestError, match="No such meter") as exc_info:
            operation(identifier)
        error: Any = exc_info.value
        assert (error.http_status, error.code, error.param) == (404, "resource_missing", "id")


def test_lists_are_of_one_status_or_of_all(server: SdkServer) -> None:
    """Newest first, with all fields of Stripe's lists."""
    client = server.client(server.key("admin", test=True))
    ids = [create_meter(client, f"listed_{number}") for number in range(4)]
    client.v1.billing.meters.deactivate(ids[1])
    queries: list[tuple[Any, list[str]]] = [
        ({}, ids[::-1]), ({"status": "active"}, [ids[3], ids[2], ids[0]]), ({"status": "inactive"}, [ids[1]]),
    ]  # fmt: skip
    for params, expected in queries:
        listed = parse_body(client.v1.billing.meters.list(params))
        assert set(listed) == {"object", "data", "has_more", "url"}
        assert (listed["object"], listed["url"], listed["has_more"]) == ("list", "/v1/billing/meters", False)
        assert [meter["id"] for meter in listed["data"]] == expected


REJECTED_METERS: list[tuple[dict[str, Any], str, str]] = [
    ({"display_name": None}, "display_name", "parameter_missing"),
    ({"event_name": None}, "event_name", "parameter_missing"),
    ({"default_aggregation": None}, "default_aggregation", "parameter_missing"),
    ({"default_aggregation": {"formula": "max"}}, "default_aggregation[formula]", "parameter_invalid"),
    ({"default_aggregation": {"formula": "sum", "of": "x"}}, "default_aggregation[of]", "parameter_unknown"),
    ({"display_name": "x" * 251}, "display_name", "parameter_invalid"),
    ({"event_name": "x" * 101}, "event_name", "parameter_invalid"),
    ({"event_name": "a\0b"}, "event_name", "parameter_invalid"),
    ({"event_time_window": "week"}, "event_time_window", "parameter_invalid"),
    ({"customer_mapping": {"type": "by_name"}}, "customer_mapping[type]", "parameter_invalid"),
    ({"customer_mapping": {"event_payload_key": "x" * 101}}, "customer_mapping[event_payload_key]",
     "parameter_invalid"),
    ({"value_settings": {"event_payload_key": "x" * 101}}, "value_settings[event_payload_key]", "parameter_invalid"),
    ({"metadata": {"a": "b"}}, "metadata", "parameter_unknown"),
    ({"colour": "red"}, "colour", "parameter_unknown"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "param", "code"), REJECTED_METERS)
def test_an_invalid_meter_is_rejected(
    client: StripeClient, event_name: str, changes: dict[str, Any], param: str, code: str
) -> None:
    """With the parameter, as Stripe does."""
    params: Any = {"display_name": "x", "event_name": event_name, "default_aggregation": {"formula": "sum"}} | changes
    with pytest.raises(InvalidRequestError) as exc_info:
        client.v1.billing.meters.create({name: value for name, value in params.items() if value is not None})  # pyright: ignore
    error: Any = exc_info.value
    assert (error.http_status, error.param, error.code) == (400, param, code)
