"""Derived meters over HTTP: an extension, while Stripe's own operation knows no sources."""

from typing import Any

from tallybook.application import Metering

from ...notation import Ledger
from .api_client import ApiClient, unix_time

CONFIGURE = "/v1/billing/meters/configure"
Json = dict[str, Any]
KEYS: Json = {
    "customer_mapping": {"event_payload_key": "customer"},
    "value_settings": {"event_payload_key": "size"},
}
NOVEMBER = {"start_time": unix_time("01"), "end_time": unix_time("30")}


def test_a_derived_meter_counts_the_events_of_its_source(ledger: Ledger, api: ApiClient, metering: Metering) -> None:
    """Its source is named in its object; totals and events are under its own name, with its own verdicts."""
    ledger.given("""
        meter  requests  count
        10:05  acme requests -  id=a  size=10
        10:15  acme requests -  id=b  size=20  kind=test
    """)
    without_tests = {"filter": {"not": {"key": "kind", "equals": "test"}}}
    meter = api.post(CONFIGURE, event_name="bytes", source="requests", **KEYS, **without_tests)
    assert (meter["source"], meter["derived_meters"]) == ("requests", [])
    source = api.get(api.meter_path("requests"))
    assert (source["source"], source["derived_meters"]) == (None, ["bytes"])
    assert api.post(CONFIGURE, event_name="bytes", source="requests", **KEYS, **without_tests) == meter
    (total,) = api.get(f"{api.meter_path('bytes')}/totals", **NOVEMBER)["data"]
    assert total["aggregated_value"] == 10
    for query, expected in (
        ({"event_name": "bytes"}, [("a", "counted"), ("b", "filtered")]),
        ({"event_name": "requests"}, [("a", "counted"), ("b", "counted")]),
        ({"event_name": "bytes", "identifier": "b"}, [("b", "filtered")]),
        ({"event_name": "bytes", "identifier": "c"}, []),
    ):
        events = api.get("/v1/billing/meter_events", **query)["data"]
        assert [(event["identifier"], event["status"]) for event in events] == expected
        assert {event["event_name"] for event in events} <= {"requests"}
    first, *_ = api.get("/v1/billing/meter_events", event_name="bytes", limit=1)["data"]
    following = api.get("/v1/billing/meter_events", event_name="bytes", starting_after=first["id"])["data"]
    assert [event["identifier"] for event in following] == ["b"]
    assert metering.verify().is_equal


def test_invalid_derived_meters_and_events_are_rejected(ledger: Ledger, api: ApiClient) -> None:
    """With the code and the parameter; Stripe's operation has no such field."""
    ledger.given("meter  requests  count")
    api.post(CONFIGURE, event_name="bytes", source="requests", **KEYS)
    for source, expected in (("nothing", (400, "no_meter", "source")), ("bytes", (400, "derived_meter", "source"))):
        assert api.error("POST", CONFIGURE, event_name="more", source=source, **KEYS) == expected
    assert api.error("POST", CONFIGURE, event_name="bytes", **KEYS) == (400, "meter_already_exists", "event_name")
    stripes: Json = {"event_name": "more", "display_name": "More", "default_aggregation": {"formula": "sum"}}
    assert api.error("POST", "/v1/billing/meters", source="requests", **stripes)[:2] == (400, "parameter_unknown")
    record, event = "/v1/billing/meter_events", Json(payload={"customer": "acme"})
    assert api.error("POST", record, event_name="bytes", **event) == (400, "derived_meter", "event_name")
    status, code, _ = api.error("POST", record, event_name="requests", **event)
    assert (status, code) == (400, "payload_no_value_defined")
    assert api.error("POST", f"{api.meter_path('bytes')}/deactivate")[:2] == (400, "derived_meter")
