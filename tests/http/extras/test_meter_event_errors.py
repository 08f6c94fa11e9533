"""Meter event errors over HTTP: rejected stream events are listed completely."""

from typing import Any

import pytest
from tallybook.application import Metering
from tallybook.application.interfaces.http.ledgers import RequestContext
from tallybook.application.interfaces.http.resources.meter_event_errors import (
    ListMeterEventErrors,
    list_meter_event_errors,
)
from tallybook.application.interruption import Interruption, QueryInterrupted, interruptible

from ...notation import Clock, Ledger, moment
from ..group_commit import serve_ledger
from .api_client import ApiClient, unix_time

ERRORS = "/v1/billing/meter_event_errors"
Json = dict[str, Any]


def send_stream(api: ApiClient, *events: Json, key: str | None = None) -> None:
    """Send events to the stream."""
    session = api.send_json("/v2/billing/meter_event_session", api.keys["record"], {})
    token, headers = session["authentication_token"], {"Idempotency-Key": key} if key else {}
    assert api.send_json("/v2/billing/meter_event_stream", token, {"events": events}, headers) == {}


def event(name: str = "calls", value: str = "x", **more: object) -> Json:
    return {"event_name": name, "payload": {"customer": "acme", "calls": value}, **more}


def test_a_rejected_event_is_stored_completely(ledger: Ledger, api: ApiClient, clock: Clock) -> None:
    """With its code and its request; the other events of the request count."""
    ledger.given("meter calls sum")
    clock.now = moment("12:00")
    send_stream(
        api,
        event(identifier="bad", timestamp="2026-11-10T11:00:00Z"),
        event(value="5", identifier="good"),
        key="stream-1",
    )
    (error,) = api.get(ERRORS)["data"]
    assert (error["object"], error["code"]) == ("billing.meter_event_error", "meter_event_invalid_value")
    assert (error["event_name"], error["identifier"], error["timestamp"]) == ("calls", "bad", unix_time("11:00"))
    assert (error["payload"], error["created"]) == ({"customer": "acme", "calls": "x"}, unix_time("12:00"))
    assert error["request"]["idempotency_key"] == "stream-1"
    assert error["request"]["id"].startswith("req_")
    assert "plain decimal text" in error["message"]
    assert api.get(f"{ERRORS}/{error['id']}") == error
    listed = api.get("/v1/billing/meter_events", event_name="calls")["data"]
    assert [listed_event["identifier"] for listed_event in listed] == ["good"]


def test_dimensions_have_stripes_codes(ledger: Ledger, api: ApiClient) -> None:
    """For an absent required dimension, and for too many combinations of values in an hour."""
    ledger.given("meter calls sum by model")

    def call(model: str | None, **more: object) -> Json:
        payload = {"customer": "acme", "calls": "1"} | ({} if model is None else {"model": model})
        return {"event_name": "calls", "payload": payload, **more}

    send_stream(api, call(None, identifier="none"), *(call(f"m{number}") for number in range(99)))
    send_stream(api, call("last"), call("too many", identifier="many"), call("m0"))
    assert [(error["identifier"], error["code"]) for error in api.get(ERRORS)["data"]] == [
        ("many", "meter_event_dimension_count_too_high"), ("none", "missing_dimension_payload_keys"),
    ]  # fmt: skip
    assert len(api.list_all("/v1/billing/meter_events", event_name="calls", limit=100)) == 101
    for model, code in ((None, "missing_dimension_payload_keys"), ("more", "meter_event_dimension_count_too_high")):
        assert api.error("POST", "/v1/billing/meter_events", "record", **call(model))[:2] == (400, code)


def test_errors_are_filtered_by_name_and_code(ledger: Ledger, api: ApiClient) -> None:
    """Newest first."""
    ledger.given("meter calls sum")
    send_stream(api, event(identifier="a"), event("bytes", identifier="b"))
    send_stream(api, event(identifier="c"), event(value="1234567890123456", identifier="d"))

    def identifiers(**params: object) -> str:
        return "".join(error_object["identifier"] for error_object in api.get(ERRORS, **params)["data"])

    assert identifiers() == "dcba"
    assert identifiers(event_name="calls") == "dca"
    assert identifiers(code="no_meter") == "b"
    assert identifiers(event_name="calls", code="meter_event_invalid_value") == "ca"
    assert identifiers(event_name="bytes", code="meter_event_invalid_value") == ""
    assert identifiers(event_name="calls", limit=1) == "d"


def test_errors_are_paged_while_others_are_added(ledger: Ledger, api: ApiClient) -> None:
    """Forward and backward, also for one code."""
    ledger.given("meter calls sum")
    for number in range(12):
        send_stream(api, *(event("calls" if number % 2 else "bytes", identifier=f"{number}-{at}") for at in range(2)))
    first = api.get(ERRORS, limit=10)
    send_stream(api, event(identifier="later"))
    cursor = first["data"][-1]["id"]
    rest = api.list_all(ERRORS, limit=3, starting_after=cursor)
    assert len({error_object["id"] for error_object in (*first["data"], *rest)}) == 24
    before = api.get(ERRORS, limit=10, ending_before=cursor)
    assert ([error_object["id"] for error_object in before["data"]], before["has_more"]) == (
        [error_object["id"] for error_object in api.get(ERRORS, limit=10)["data"]], False,
    )  # fmt: skip
    nearest = api.get(ERRORS, limit=2, ending_before=cursor)
    assert (nearest["data"], nearest["has_more"]) == (first["data"][-3:-1], True)
    codes = [error_object["code"] for error_object in api.list_all(ERRORS, limit=5, code="no_meter")]
    assert codes == ["no_meter"] * 12


def test_an_unknown_error_id_is_not_found(ledger: Ledger, api: ApiClient) -> None:
    """The error names the parameter."""
    unknown = "mtrerr_0190a5d0-0000-7000-8000-000000000000"
    for error_id in (unknown, "mtrerr_", "x"):
        assert api.error("GET", f"{ERRORS}/{error_id}") == (404, "resource_missing", "id")
    assert api.error("GET", ERRORS, starting_after="x") == (400, "resource_missing", "starting_after")
    assert api.error("GET", ERRORS, ending_before="x") == (400, "resource_missing", "ending_before")
    both_cursors = {"starting_after": unknown, "ending_before": unknown}
    assert api.error("GET", ERRORS, **both_cursors) == (400, "parameter_invalid", "")
    assert api.error("GET", ERRORS, as_of=1) == (400, "parameter_unknown", "as_of")
    assert api.error("GET", ERRORS, "record") == (403, "more_permissions_required", "")


def test_a_filter_that_matches_nothing_ends_at_the_deadline_of_the_query(
    ledger: Ledger, metering: Metering, api: ApiClient
) -> None:
    """Of errors that are stored for 35 days, it may have to read many."""
    ledger.given("meter calls sum")
    send_stream(api, *(event(identifier=f"{number}") for number in range(30)))
    served_ledger = serve_ledger(metering)
    access_key = served_ledger.authenticator.reauthenticate(metering.access_keys.list()[0].id)
    context = RequestContext(served_ledger, ListMeterEventErrors(event_name="nothing"), access_key, "req_1")
    assert list_meter_event_errors(context).data == []
    with interruptible(Interruption(timeout_seconds=0)), pytest.raises(QueryInterrupted):
        list_meter_event_errors(context)
