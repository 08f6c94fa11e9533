"""Billing runs, the status of a period and late customers over HTTP."""

from typing import Any

from ...notation import Ledger, moment
from .api_client import ApiClient, unix_time

RUNS = "/v1/billing/billing_runs"
STATUS = "/v1/billing/period_status"
ADJUSTMENTS = "/v1/billing/period_adjustments"
PERIOD_OF_10TH: dict[str, Any] = {"start_time": unix_time("10"), "end_time": unix_time("11")}


def record_and_run(ledger: Ledger) -> None:
    """Record usage of two customers and run a billing run of the 10th."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5.50
        10:02  bolt calls 100
    """)
    ledger.clock.now = moment("11T02:00")
    ledger.metering.periods.run(moment("10"), moment("11"), by="finance")


def test_runs_are_listed_with_their_control_totals(ledger: Ledger, api: ApiClient) -> None:
    """Newest first, by pages; a run is retrieved by its id, also as of an earlier position."""
    record_and_run(ledger)
    ledger.metering.periods.run(moment("09"), moment("10"), meters=["calls"])
    second, first = api.get(RUNS)["data"]
    assert (first["object"], first["number"], second["number"]) == ("billing.billing_run", 1, 2)
    assert (first["status"], first["customers"], first["timezone"]) == ("closed", 2, "UTC")
    assert (first["closed_by"], first["created"]) == ("finance", unix_time("11T02:00"))
    (total,) = first["meters"]
    assert (str(total["sum"]), str(total["usage_sum"])) == ("105.50", "105.50")
    assert (total["count"], total["not_closed"]) == (2, 0)
    page = api.get(RUNS, limit=1)
    assert (page["data"], page["has_more"]) == ([second], True)
    assert api.get(RUNS, starting_after=second["id"])["data"] == [first]
    assert api.get(f"{RUNS}/{first['id']}") == first
    started = api.get(f"{RUNS}/{first['id']}", as_of_position=first["position"] + 1)
    assert (started["status"], started["closed_at"], started["meters"]) == ("started", None, [])
    assert api.get(RUNS, as_of_position=first["position"])["data"] == []


def test_a_late_customer_has_an_adjustment_without_a_closed_period(ledger: Ledger, api: ApiClient) -> None:
    """It is listed, retrieved with its events, and a cursor of the list."""
    record_and_run(ledger)
    ledger.given("""
        10:05  late calls 7  id=x recorded=11T03:00
        10:06  acme calls 1  id=y recorded=11T03:01
    """)
    meter = api.meter_path("calls").rpartition("/")[2]
    of_acme, late = api.get(ADJUSTMENTS, meter=meter)["data"]
    assert (of_acme["customer"], late["customer"]) == ("acme", "late")
    assert (late["closed_period"], late["difference"], late["start_time"]) == (None, 7, PERIOD_OF_10TH["start_time"])
    assert api.get(f"{ADJUSTMENTS}/{late['id']}") == late
    assert [event["identifier"] for event in api.get(f"{ADJUSTMENTS}/{late['id']}/events")["data"]] == ["x"]
    assert api.get(ADJUSTMENTS, meter=meter, starting_after=of_acme["id"])["data"] == [late]
    assert api.get(ADJUSTMENTS, meter=meter, ending_before=late["id"])["data"] == [of_acme]
    assert api.get(ADJUSTMENTS, meter=meter, customer="late")["data"] == [late]


def test_the_status_of_a_period_tells_what_is_not_billed(ledger: Ledger, api: ApiClient) -> None:
    """Of all meters or one; entries are limited, and counted."""
    record_and_run(ledger)
    complete = api.get(STATUS, **PERIOD_OF_10TH)
    assert (complete["object"], complete["complete"]) == ("billing.period_status", True)
    (closed,) = complete["meters"]
    assert (closed["closed_customers"], closed["unbilled"]) == (2, [])
    ledger.given("""
        11T03:00  acme calls 1  recorded=11T04:00
        11T03:00  bolt calls 2  recorded=11T04:01
    """)
    meter = api.meter_path("calls").rpartition("/")[2]
    days: dict[str, Any] = {"start_time": unix_time("10"), "end_time": unix_time("12")}
    status = api.get(STATUS, meter=meter, limit=1, **days)
    assert status["complete"] is False
    (of_meter,) = status["meters"]
    assert (of_meter["unbilled_customers"], of_meter["unbilled_events"], of_meter["partial_closing_count"]) == (2, 2, 2)
    assert of_meter["unbilled"] == [
        {"aggregated_value": 1, "count": 1, "customer": "acme", "end_time": unix_time("12"), "reason": "partly_closed",
         "start_time": unix_time("11")}
    ]  # fmt: skip
    assert of_meter["partial_closings"] == [{"customer": "acme", **PERIOD_OF_10TH}]
