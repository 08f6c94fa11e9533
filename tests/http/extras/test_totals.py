"""Totals of all customers over HTTP, and explanations."""

from decimal import Decimal
from typing import Any

from tallybook.application import Metering

from ...notation import Clock, Ledger, moment
from .api_client import DAY, ApiClient, unix_time

NOVEMBER: dict[str, Any] = {"start_time": unix_time("01T00:00"), "end_time": unix_time("30T00:00")}


def test_totals_of_all_customers(ledger: Ledger, api: ApiClient) -> None:
    """By customer, with exact values; a negative total bills nothing; customers without usage are omitted."""
    ledger.given("""
        meter  calls  sum
        10:00  bolt calls 0.10
        10:01  bolt calls 0.20
        10:02  acme calls -3
        10:03  cora calls 7   id=c
        10:04  dune calls 123456789012.345
        cancel c
    """)
    meter = api.meter_path("calls")
    listed = api.get(f"{meter}/totals", **NOVEMBER)
    assert (listed["object"], listed["url"], listed["has_more"]) == ("list", f"{meter}/totals", False)
    assert [
        (total["customer"], str(total["aggregated_value"]), str(total["billable_value"]), total["count"])
        for total in listed["data"]
    ] == [("acme", "-3", "0", 1), ("bolt", "0.30", "0.30", 2), ("dune", "123456789012.345", "123456789012.345", 1)]
    bolt = listed["data"][1]
    assert (bolt["object"], bolt["sum"], bolt["last"]) == ("billing.meter_total", Decimal("0.30"), Decimal("0.20"))
    assert (bolt["start_time"], bolt["end_time"], bolt["livemode"]) == (*NOVEMBER.values(), True)
    assert meter.endswith(bolt["meter"])


def test_results_have_the_range_of_their_windows(ledger: Ledger, api: ApiClient) -> None:
    """Totals, explanations and closed periods always have it, null for bounds of windows; summaries if it differs."""
    ledger.given("""
        meter  seats  last  per hour
        10:40  acme seats 5
    """)
    path = api.meter_path("seats")
    cut: dict[str, Any] = {"start_time": unix_time("09:30"), "end_time": unix_time("10:30")}
    whole: dict[str, Any] = {"start_time": unix_time("10:00"), "end_time": unix_time("11:00")}
    counted = {"counted_from": unix_time("10:00"), "counted_until": unix_time("11:00")}
    nothing = dict.fromkeys(counted)
    for bounds, expected in ((cut, counted), (whole, nothing)):
        (total,) = api.get(f"{path}/totals", **bounds)["data"]
        assert expected.items() <= total.items()
        assert api.get(f"{path}/explanation", customer="acme", **bounds)["total"] == total
        (summary,) = api.get(f"{path}/event_summaries", customer="acme", **bounds)["data"]
        assert {name: summary.get(name) for name in counted} == expected
        assert summary["aggregated_value"] == total["aggregated_value"] == 5
    assert not counted.keys() & summary.keys()
    meter = path.rpartition("/")[2]
    ledger.clock.now = moment("10T11:59:59")
    error = api.error("POST", "/v1/billing/closed_periods", meter=meter, customer="acme", **cut)
    assert error == (400, "period_not_ended", "end_time")
    ledger.clock.now = moment("10T12:00")
    closed = api.post("/v1/billing/closed_periods", meter=meter, customer="acme", **cut)
    assert counted.items() <= closed.items()


def test_pages_of_totals_are_stable_while_customers_change(ledger: Ledger, api: ApiClient) -> None:
    """Forward and backward, also from a customer that no longer has usage."""
    ledger.given("meter calls sum")
    for name in "bdfhjl":
        ledger.given(f"10:00 {name} calls 1 id={name}")
    path = f"{api.meter_path('calls')}/totals"
    first = api.get(path, **NOVEMBER, limit=3)
    assert [total["customer"] for total in first["data"]] == ["b", "d", "f"]
    assert first["has_more"]
    ledger.given("""
        cancel f
        10:00  a calls 1
        10:00  g calls 1
    """)
    cursor = first["data"][-1]["id"]
    second = api.get(path, **NOVEMBER, limit=3, starting_after=cursor)
    assert [total["customer"] for total in second["data"]] == ["g", "h", "j"]
    before = api.get(path, **NOVEMBER, limit=2, ending_before=cursor)
    assert ([total["customer"] for total in before["data"]], before["has_more"]) == (["b", "d"], True)
    assert [total["customer"] for total in api.list_all(path, **NOVEMBER, limit=2)] == list("abdghjl")


def test_a_long_name_is_paged_over_too(metering: Metering, clock: Clock, api: ApiClient) -> None:
    """The id contains the digest of the name, because it has to fit into a URL."""
    metering.meters.configure("calls")
    names = ["a", "b" * 5_000, "ü" * 5_000, "z"]
    for name in names:
        metering.record("calls", {"stripe_customer_id": name, "value": "1"})
    range_of_now = {"start_time": int(clock.now.timestamp()), "end_time": int(clock.now.timestamp()) + DAY}
    totals = api.list_all(f"{api.meter_path('calls')}/totals", **range_of_now, limit=1)
    assert [total["customer"] for total in totals] == sorted(names)
    assert max(len(total["id"]) for total in totals) < 500


def test_totals_as_of_a_position(ledger: Ledger, api: ApiClient) -> None:
    """By position and by time."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 1
    """)
    position = ledger.position()
    ledger.given("11:00  acme calls 5")
    path = f"{api.meter_path('calls')}/totals"

    def values(**params: object) -> list[Decimal]:
        return [total["aggregated_value"] for total in api.get(path, **NOVEMBER, **params)["data"]]

    assert values() == [6]
    assert values(as_of_position=position) == [1]
    assert values(as_of=unix_time("10:59")) == [1]
    assert values(as_of=unix_time("10:00") - 1) == []


def test_an_explanation_adds_up(ledger: Ledger, api: ApiClient) -> None:
    """It contains every event, with a contribution of 0 if it does not count."""
    ledger.given("""
        meter   seats  sum per hour by region
        10:05   acme seats 10   id=a  region=eu
        10:45   acme seats 4.5  id=b  region=eu
        11:05   acme seats 7    id=c  region=eu
        11:06   acme seats 2    id=d  region=us
        11:07   bolt seats 100  id=e  region=us
        cancel  c  reason=error
    """)
    meter = api.meter_path("seats")
    explanation = api.get(f"{meter}/explanation", customer="acme", **NOVEMBER)
    events = explanation["events"]["data"]
    assert [(total["identifier"], total["status"], str(total["contribution"])) for total in events] == [
        ("a", "superseded", "0"), ("b", "counted", "4.5"), ("c", "cancelled", "0"), ("d", "counted", "2"),
    ]  # fmt: skip
    assert explanation["total"]["aggregated_value"] == sum(total["contribution"] for total in events) == Decimal("6.5")
    assert events[0]["superseded_by"] == "b"
    assert (explanation["object"], explanation["formula"], explanation["event_time_window"]) == (
        "billing.meter_explanation", "sum", "hour",
    )  # fmt: skip
    assert (explanation["revision"], explanation["position"]) == (1, ledger.position())
    (listed,) = (
        total for total in api.get(f"{meter}/totals", **NOVEMBER)["data"] if total["customer"] == "acme"
    )  # fmt: skip
    assert explanation["total"] == listed
    all_customers = api.get(f"{meter}/explanation", **NOVEMBER)
    assert (all_customers["total"]["customer"], all_customers["total"]["aggregated_value"]) == (None, Decimal("106.5"))


def test_an_explanation_as_it_was(ledger: Ledger, api: ApiClient) -> None:
    """Of the total at the time of the invoice, with the rules and the revision of that time."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 5  id=a
        10:06  acme calls 2  id=b
    """)
    position = ledger.position()
    ledger.given("""
        change calls last at=11:00
        cancel b
    """)
    path = f"{api.meter_path('calls')}/explanation"
    now = api.get(path, customer="acme", **NOVEMBER)
    assert (now["total"]["aggregated_value"], now["formula"], now["revision"]) == (5, "last", 2)
    for as_of in ({"as_of_position": position}, {"as_of": unix_time("10:59")}):
        earlier = api.get(path, customer="acme", **NOVEMBER, **as_of)
        assert (earlier["total"]["aggregated_value"], earlier["formula"], earlier["revision"]) == (7, "sum", 1)
        assert earlier["position"] == position
        assert earlier["digest"] != now["digest"]


def test_an_explanation_is_complete_or_rejected(metering: Metering, clock: Clock, api: ApiClient) -> None:
    """10,000 events are explained; one more is an error that says what to do."""
    metering.meters.configure("calls")

    def record(count: int) -> None:
        event = {"event_name": "calls", "payload": {"stripe_customer_id": "acme", "value": "1"}}
        metering.record_many([event] * count)

    path = f"{api.meter_path('calls')}/explanation"
    params: dict[str, Any] = {
        "customer": "acme",
        "start_time": int(clock.now.timestamp()),
        "end_time": int(clock.now.timestamp()) + DAY,
    }
    record(10_000)
    assert len(api.get(path, **params)["events"]["data"]) == 10_000
    record(1)
    assert api.error("GET", path, **params) == (400, "too_many_meter_events", "end_time")


def test_an_explanation_of_large_payloads_is_rejected(metering: Metering, clock: Clock, api: ApiClient) -> None:
    """Before all of them are in memory: 10,000 such events would need more than 2 GB."""
    metering.meters.configure("calls")
    large = {f"key {number}": "x" * 5_000 for number in range(48)}
    total = {"event_name": "calls", "payload": {"stripe_customer_id": "acme", "value": "1", **large}}
    at = int(clock.now.timestamp())
    metering.record_many([total] * 30)
    path = f"{api.meter_path('calls')}/explanation"
    params: dict[str, Any] = {"start_time": at, "end_time": at + DAY}
    assert len(api.get(path, **params)["events"]["data"]) == 30
    metering.record_many([total] * 10)
    assert api.error("GET", path, **params) == (400, "too_many_meter_events", "end_time")


def test_an_invalid_total_query_is_rejected(ledger: Ledger, api: ApiClient) -> None:
    """The error names the parameter."""
    ledger.given("""
        meter  calls  sum
        meter  bytes  sum
        10:05  acme calls 5  id=a
        10:05  acme bytes 5  id=b
    """)
    meter, other = api.meter_path("calls"), api.meter_path("bytes")
    path = f"{meter}/totals"
    assert api.error("GET", "/v1/billing/meters/mtr_none/totals", **NOVEMBER) == (404, "resource_missing", "id")
    assert api.error("GET", path, start_time=0) == (400, "parameter_missing", "end_time")
    assert api.error("GET", path, start_time=2, end_time=1) == (400, "invalid_time_range", "start_time")
    assert api.error("GET", path, **NOVEMBER, limit=10_001) == (400, "parameter_invalid", "limit")
    of_other = api.get(f"{other}/totals", **NOVEMBER)["data"][0]["id"]
    of_time = api.get(path, start_time=0, end_time=NOVEMBER["end_time"])["data"][0]["id"]
    for cursor in (of_other, of_time, "mtrtot_WzFd", "mtrtot_e30", "nonsense"):
        for param in ("starting_after", "ending_before"):
            assert api.error("GET", path, **NOVEMBER, **{param: cursor}) == (400, "resource_missing", param)
    explanation = f"{meter}/explanation"
    assert api.error("GET", explanation, customer="acme", start_time=1) == (400, "parameter_missing", "end_time")
    assert api.error("GET", explanation, **NOVEMBER, limit=5) == (400, "parameter_unknown", "limit")
    assert api.error("GET", explanation, "record", **NOVEMBER) == (403, "more_permissions_required", "")
    nowhere = "/v1/billing/meters/mtr_none/explanation"
    assert api.error("GET", nowhere, **NOVEMBER) == (404, "resource_missing", "id")
