"""Meter event errors over HTTP: what a stream brought and couldn't be counted is listed, whole."""

from typing import Any

from ...notation import Clock, Ledger, moment
from .asking import Asking, unix

ERRORS = "/v1/billing/meter_event_errors"
Json = dict[str, Any]


def sent(asking: Asking, *events: Json, key: str | None = None) -> None:
    """Events that came by a stream."""
    session = asking.send_json("/v2/billing/meter_event_session", asking.keys["record"], {})
    token, headers = session["authentication_token"], {"Idempotency-Key": key} if key else {}
    assert asking.send_json("/v2/billing/meter_event_stream", token, {"events": events}, headers) == {}


def event(name: str = "calls", value: str = "x", **more: object) -> Json:
    return {"event_name": name, "payload": {"customer": "acme", "calls": value}, **more}


def test_an_event_that_could_not_be_counted_is_kept_whole(ledger: Ledger, asking: Asking, clock: Clock) -> None:
    """With its code, and the request that it came with; those beside it count."""
    ledger.given("meter calls sum")
    clock.now = moment("12:00")
    sent(
        asking,
        event(identifier="bad", timestamp="2026-11-10T11:00:00Z"),
        event(value="5", identifier="good"),
        key="stream-1",
    )
    (error,) = asking.get(ERRORS)["data"]
    assert (error["object"], error["code"]) == ("billing.meter_event_error", "meter_event_invalid_value")
    assert (error["event_name"], error["identifier"], error["timestamp"]) == ("calls", "bad", unix("11:00"))
    assert (error["payload"], error["created"]) == ({"customer": "acme", "calls": "x"}, unix("12:00"))
    assert error["request"]["idempotency_key"] == "stream-1"
    assert error["request"]["id"].startswith("req_")
    assert "plain decimal text" in error["message"]
    assert asking.get(f"{ERRORS}/{error['id']}") == error
    listed = asking.get("/v1/billing/meter_events", event_name="calls")["data"]
    assert [one["identifier"] for one in listed] == ["good"]


def test_errors_are_asked_for_by_name_and_code(ledger: Ledger, asking: Asking) -> None:
    """Newest first."""
    ledger.given("meter calls sum")
    sent(asking, event(identifier="a"), event("bytes", identifier="b"))
    sent(asking, event(identifier="c"), event(value="1234567890123456", identifier="d"))

    def asked(**given: object) -> str:
        return "".join(one["identifier"] for one in asking.get(ERRORS, **given)["data"])

    assert asked() == "dcba"
    assert asked(event_name="calls") == "dca"
    assert asked(code="no_meter") == "b"
    assert asked(event_name="calls", code="meter_event_invalid_value") == "ca"
    assert asked(event_name="bytes", code="meter_event_invalid_value") == ""
    assert asked(event_name="calls", limit=1) == "d"


def test_errors_are_paged_while_others_come(ledger: Ledger, asking: Asking) -> None:
    """Forward and backward, also of one code."""
    ledger.given("meter calls sum")
    for number in range(12):
        sent(asking, *(event("calls" if number % 2 else "bytes", identifier=f"{number}-{at}") for at in range(2)))
    first = asking.get(ERRORS, limit=10)
    sent(asking, event(identifier="later"))
    cursor = first["data"][-1]["id"]
    rest = asking.pages(ERRORS, limit=3, starting_after=cursor)
    assert len({one["id"] for one in (*first["data"], *rest)}) == 24
    before = asking.get(ERRORS, limit=10, ending_before=cursor)
    assert ([one["id"] for one in before["data"]], before["has_more"]) == (
        [one["id"] for one in asking.get(ERRORS, limit=10)["data"]], False,
    )  # fmt: skip
    nearest = asking.get(ERRORS, limit=2, ending_before=cursor)
    assert (nearest["data"], nearest["has_more"]) == (first["data"][-3:-1], True)
    codes = [one["code"] for one in asking.pages(ERRORS, limit=5, code="no_meter")]
    assert codes == ["no_meter"] * 12


def test_what_is_no_error_is_refused(ledger: Ledger, asking: Asking) -> None:
    """With the parameter that says so."""
    unknown = "mtrerr_0190a5d0-0000-7000-8000-000000000000"
    for given in (unknown, "mtrerr_", "x"):
        assert asking.refused("GET", f"{ERRORS}/{given}") == (404, "resource_missing", "id")
    assert asking.refused("GET", ERRORS, starting_after="x") == (400, "resource_missing", "starting_after")
    assert asking.refused("GET", ERRORS, ending_before="x") == (400, "resource_missing", "ending_before")
    both = {"starting_after": unknown, "ending_before": unknown}
    assert asking.refused("GET", ERRORS, **both) == (400, "parameter_invalid", "")
    assert asking.refused("GET", ERRORS, as_of=1) == (400, "parameter_unknown", "as_of")
    assert asking.refused("GET", ERRORS, "record") == (403, "more_permissions_required", "")
