"""Recorded meter events over HTTP."""

from decimal import Decimal

from ...notation import Ledger
from .api_client import ApiClient, unix_time

EVENTS = "/v1/billing/meter_events"


def test_events_are_listed_with_whether_they_count(ledger: Ledger, api: ApiClient) -> None:
    """Oldest first, each with its payload, the parsed values and its status."""
    ledger.given("""
        meter   seats  last per hour by region
        10:05   acme seats 10    id=a  region=eu
        10:45   acme seats 4.50  id=b  region=eu
        11:05   acme seats 7     id=c  region=us
        cancel  c  at=11:30  reason=error  by=ops
    """)
    listed = api.get(EVENTS, event_name="seats")
    assert (listed["object"], listed["url"], listed["has_more"]) == ("list", EVENTS, False)
    assert [(event["identifier"], event["status"], event["superseded_by"]) for event in listed["data"]] == [
        ("a", "superseded", "b"), ("b", "counted", None), ("c", "cancelled", None),
    ]  # fmt: skip
    _, b, c = listed["data"]
    assert c["cancellation"] == {"cancelled_at": unix_time("11:30"), "reason": "error", "by": "ops"}
    assert str(b["value"]) == "4.50"
    assert (b["object"], b["customer"], b["dimensions"]) == ("billing.meter_event", "acme", {"region": "eu"})
    assert b["payload"] == {"customer": "acme", "seats": "4.50", "region": "eu"}
    assert (b["timestamp"], b["created"], b["livemode"]) == (unix_time("10:45"), unix_time("10:45"), True)
    assert api.get(f"{EVENTS}/{b['id']}") == b


def test_events_are_filtered_by_customer_range_and_identifier(ledger: Ledger, api: ApiClient) -> None:
    """The range is half-open; an identifier is found only if the other filters match."""
    ledger.given("""
        meter  calls  sum
        meter  bytes  sum
        10:00  acme calls 1  id=a
        10:10  bolt calls 2  id=b
        10:20  acme calls 3  id=c
        10:30  acme bytes 4  id=d
    """)

    def identifiers(**params: object) -> str:
        return "".join(event["identifier"] for event in api.get(EVENTS, event_name="calls", **params)["data"])

    assert identifiers() == "abc"
    assert identifiers(customer="acme") == "ac"
    assert identifiers(start_time=unix_time("10:10")) == "bc"
    assert identifiers(start_time=unix_time("10:10"), end_time=unix_time("10:20")) == "b"
    assert identifiers(identifier="b") == "b"
    assert identifiers(identifier="d") == ""
    assert identifiers(identifier="unknown") == ""
    assert identifiers(identifier="b", customer="acme") == ""
    assert identifiers(identifier="b", end_time=unix_time("10:10")) == ""
    assert identifiers(identifier="b", start_time=unix_time("10:10")) == "b"


def test_pages_of_events_continue_at_the_cursor(ledger: Ledger, api: ApiClient) -> None:
    """Events recorded or cancelled between two pages shift nothing; events with later timestamps appear."""
    ledger.given("meter calls sum")
    for minute in range(10, 35):
        ledger.given(f"10:{minute} acme calls 1 id=e{minute}")
    first = api.get(EVENTS, event_name="calls", limit=10)
    assert first["has_more"]
    ledger.given("""
        10:00  acme calls 1  id=early
        10:40  acme calls 1  id=late
        cancel e19
    """)
    rest = api.list_all(EVENTS, event_name="calls", limit=10, starting_after=first["data"][-1]["id"])
    assert [event["identifier"] for event in rest] == [*(f"e{minute}" for minute in range(20, 35)), "late"]


def test_events_as_of_a_position(ledger: Ledger, api: ApiClient) -> None:
    """By time and by position: the event counted before its cancellation and did not exist before its recording."""
    ledger.given("""
        meter   calls  sum
        10:05   acme calls 5  id=a
        10:10   acme calls 2  id=b
    """)
    position = ledger.position()
    ledger.given("cancel a at=10:30")

    def statuses(**params: object) -> list[tuple[str, str]]:
        return [
            (event["identifier"], event["status"]) for event in api.get(EVENTS, event_name="calls", **params)["data"]
        ]

    assert statuses() == [("a", "cancelled"), ("b", "counted")]
    assert statuses(as_of_position=position) == [("a", "counted"), ("b", "counted")]
    assert statuses(as_of=unix_time("10:29")) == [("a", "counted"), ("b", "counted")]
    assert statuses(as_of="2026-11-10T10:05:00Z") == [("a", "counted")]
    a = f"{EVENTS}/{api.get(EVENTS, event_name='calls')['data'][0]['id']}"
    assert api.get(a)["status"] == "cancelled"
    assert api.get(a, as_of=unix_time("10:29"))["status"] == "counted"
    assert api.error("GET", a, as_of=unix_time("10:04")) == (404, "resource_missing", "id")


def test_a_count_has_no_value(ledger: Ledger, api: ApiClient) -> None:
    """A missing value stays null; a large value is returned with all digits."""
    ledger.given("""
        meter  calls  count
        10:05  acme calls -  id=a
        10:06  acme calls 123456789012.345  id=b
    """)
    a, b = api.get(EVENTS, event_name="calls")["data"]
    assert (a["value"], b["value"]) == (None, Decimal("123456789012.345"))


def test_an_unknown_event_id_is_not_found(ledger: Ledger, api: ApiClient) -> None:
    """The error names the parameter."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 5  id=a
    """)
    assert api.error("GET", EVENTS) == (400, "parameter_missing", "event_name")
    assert api.error("GET", EVENTS, event_name="bytes") == (400, "no_meter", "event_name")
    calls = {"event_name": "calls"}
    assert api.error("GET", EVENTS, **calls, starting_after="nonsense") == (
        400, "resource_missing", "starting_after",
    )  # fmt: skip
    assert api.error("GET", EVENTS, **calls, starting_after="mtrevt_enp6") == (
        400, "resource_missing", "starting_after",
    )  # fmt: skip
    assert api.error("GET", EVENTS, **calls, ending_before="mtrevt_YQ") == (
        400, "parameter_unknown", "ending_before",
    )  # fmt: skip
    assert api.error("GET", EVENTS, **calls, limit=101) == (400, "parameter_invalid", "limit")
    assert api.error("GET", EVENTS, **calls, start_time=2, end_time=1) == (400, "invalid_time_range", "start_time")
    assert api.error("GET", EVENTS, **calls, as_of=1, as_of_position=1) == (400, "parameter_invalid", "")
    for event_id in ("mtrevt_enp6", "mtrevt_", "mtr_YQ", "mtrevt_AA", "x"):
        assert api.error("GET", f"{EVENTS}/{event_id}") == (404, "resource_missing", "id")
    assert api.error("GET", f"{EVENTS}/mtrevt_YQ", "record") == (403, "more_permissions_required", "")
