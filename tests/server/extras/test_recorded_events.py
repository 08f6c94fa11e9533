"""Meter events over HTTP, as the ledger holds them."""

from decimal import Decimal

from ...notation import Ledger
from .asking import Asking, unix

EVENTS = "/v1/billing/meter_events"


def test_events_are_listed_with_whether_they_count(ledger: Ledger, asking: Asking) -> None:
    """Oldest first, each with what was reported, what was read out of it, and what became of it."""
    ledger.given("""
        meter   seats  last per hour by region
        10:05   acme seats 10    id=a  region=eu
        10:45   acme seats 4.50  id=b  region=eu
        11:05   acme seats 7     id=c  region=us
        cancel  c  at=11:30  reason=error  by=ops
    """)
    listed = asking.get(EVENTS, event_name="seats")
    assert (listed["object"], listed["url"], listed["has_more"]) == ("list", EVENTS, False)
    assert [(one["identifier"], one["status"], one["overwritten_by"]) for one in listed["data"]] == [
        ("a", "overwritten", "b"), ("b", "counted", None), ("c", "cancelled", None),
    ]  # fmt: skip
    _, b, c = listed["data"]
    assert c["cancellation"] == {"cancelled_at": unix("11:30"), "reason": "error", "by": "ops"}
    assert str(b["value"]) == "4.50"
    assert (b["object"], b["customer"], b["dimensions"]) == ("billing.meter_event", "acme", {"region": "eu"})
    assert b["payload"] == {"customer": "acme", "seats": "4.50", "region": "eu"}
    assert (b["timestamp"], b["created"], b["livemode"]) == (unix("10:45"), unix("10:45"), True)
    assert asking.get(f"{EVENTS}/{b['id']}") == b


def test_events_are_asked_for_by_customer_range_and_identifier(ledger: Ledger, asking: Asking) -> None:
    """The range is half-open; an identifier is found only where all else fits too."""
    ledger.given("""
        meter  calls  sum
        meter  bytes  sum
        10:00  acme calls 1  id=a
        10:10  bolt calls 2  id=b
        10:20  acme calls 3  id=c
        10:30  acme bytes 4  id=d
    """)

    def asked(**given: object) -> str:
        return "".join(one["identifier"] for one in asking.get(EVENTS, event_name="calls", **given)["data"])

    assert asked() == "abc"
    assert asked(customer="acme") == "ac"
    assert asked(start_time=unix("10:10")) == "bc"
    assert asked(start_time=unix("10:10"), end_time=unix("10:20")) == "b"
    assert asked(identifier="b") == "b"
    assert asked(identifier="d") == ""
    assert asked(identifier="unknown") == ""
    assert asked(identifier="b", customer="acme") == ""
    assert asked(identifier="b", end_time=unix("10:10")) == ""
    assert asked(identifier="b", start_time=unix("10:10")) == "b"


def test_pages_of_events_go_on_where_they_were(ledger: Ledger, asking: Asking) -> None:
    """What is recorded or cancelled between two pages moves nothing; what comes later in time is met later."""
    ledger.given("meter calls sum")
    for minute in range(10, 35):
        ledger.given(f"10:{minute} acme calls 1 id=e{minute}")
    first = asking.get(EVENTS, event_name="calls", limit=10)
    assert first["has_more"]
    ledger.given("""
        10:00  acme calls 1  id=early
        10:40  acme calls 1  id=late
        cancel e19
    """)
    rest = asking.pages(EVENTS, event_name="calls", limit=10, starting_after=first["data"][-1]["id"])
    assert [one["identifier"] for one in rest] == [*(f"e{minute}" for minute in range(20, 35)), "late"]


def test_events_as_they_were_known(ledger: Ledger, asking: Asking) -> None:
    """By a moment and by a position: before it was cancelled it counted, and before it was recorded it wasn't there."""
    ledger.given("""
        meter   calls  sum
        10:05   acme calls 5  id=a
        10:10   acme calls 2  id=b
    """)
    position = ledger.position()
    ledger.given("cancel a at=10:30")

    def asked(**given: object) -> list[tuple[str, str]]:
        return [(one["identifier"], one["status"]) for one in asking.get(EVENTS, event_name="calls", **given)["data"]]

    assert asked() == [("a", "cancelled"), ("b", "counted")]
    assert asked(as_of_position=position) == [("a", "counted"), ("b", "counted")]
    assert asked(as_of=unix("10:29")) == [("a", "counted"), ("b", "counted")]
    assert asked(as_of="2026-11-10T10:05:00Z") == [("a", "counted")]
    a = f"{EVENTS}/{asking.get(EVENTS, event_name='calls')['data'][0]['id']}"
    assert asking.get(a)["status"] == "cancelled"
    assert asking.get(a, as_of=unix("10:29"))["status"] == "counted"
    assert asking.refused("GET", a, as_of=unix("10:04")) == (404, "resource_missing", "id")


def test_a_count_has_no_value(ledger: Ledger, asking: Asking) -> None:
    """Where none was reported none is made up; a large one is told digit for digit."""
    ledger.given("""
        meter  calls  count
        10:05  acme calls -  id=a
        10:06  acme calls 123456789012.345  id=b
    """)
    a, b = asking.get(EVENTS, event_name="calls")["data"]
    assert (a["value"], b["value"]) == (None, Decimal("123456789012.345"))


def test_what_is_no_event_is_refused(ledger: Ledger, asking: Asking) -> None:
    """With the parameter that says so."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 5  id=a
    """)
    assert asking.refused("GET", EVENTS) == (400, "parameter_missing", "event_name")
    assert asking.refused("GET", EVENTS, event_name="bytes") == (400, "no_meter", "event_name")
    calls = {"event_name": "calls"}
    assert asking.refused("GET", EVENTS, **calls, starting_after="nonsense") == (
        400, "resource_missing", "starting_after",
    )  # fmt: skip
    assert asking.refused("GET", EVENTS, **calls, starting_after="mtrevt_enp6") == (
        400, "resource_missing", "starting_after",
    )  # fmt: skip
    assert asking.refused("GET", EVENTS, **calls, ending_before="mtrevt_YQ") == (
        400, "parameter_unknown", "ending_before",
    )  # fmt: skip
    assert asking.refused("GET", EVENTS, **calls, limit=101) == (400, "parameter_invalid", "limit")
    assert asking.refused("GET", EVENTS, **calls, start_time=2, end_time=1) == (400, "invalid_time_range", "start_time")
    assert asking.refused("GET", EVENTS, **calls, as_of=1, as_of_position=1) == (400, "parameter_invalid", "")
    for given in ("mtrevt_enp6", "mtrevt_", "mtr_YQ", "mtrevt_AA", "x"):
        assert asking.refused("GET", f"{EVENTS}/{given}") == (404, "resource_missing", "id")
    assert asking.refused("GET", f"{EVENTS}/mtrevt_YQ", "record") == (403, "more_permissions_required", "")
