"""What Stripe lacks, of a ledger on PostgreSQL: every operation once, in one story."""

from datetime import UTC, datetime

import pytest
from tallybook.application import Metering

from ...notation import Ledger
from ...postgres import Database
from .asking import Asking, unix

V1 = "/v1/billing"


@pytest.fixture
def url(postgres: Database) -> str:
    return postgres.fresh_url()


def test_all_of_it_goes_as_on_sqlite(ledger: Ledger, asking: Asking, metering: Metering) -> None:
    """From events to what is owed, other rules, and errors in order; long work is one at a time here too."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5    id=a
        10:01  bolt calls 0.5  id=b
        close  acme calls 10 11  at=11T02:00
        11:00  acme calls 2    id=late  recorded=11T03:00
    """)
    meter = asking.meter("calls")
    november = {"start_time": unix("01"), "end_time": unix("30")}
    events = asking.pages(f"{V1}/meter_events", event_name="calls", limit=2)
    assert [one["identifier"] for one in events] == ["a", "b", "late"]
    assert asking.get(f"{V1}/meter_events/{events[0]['id']}") == events[0]
    totals = asking.pages(f"{meter}/totals", **november, limit=1)
    assert [(one["customer"], str(one["aggregated_value"])) for one in totals] == [("acme", "7"), ("bolt", "0.5")]
    explained = asking.get(f"{meter}/explanation", customer="acme", **november)
    assert [one["contribution"] for one in explained["events"]["data"]] == [5, 2]

    (owed,) = asking.get(f"{V1}/period_adjustments", meter=meter.rpartition("/")[2])["data"]
    assert owed["difference"] == 2
    assert asking.get(owed["events"]["url"])["data"][0]["identifier"] == "late"
    period = f"{V1}/closed_periods/{owed['closed_period']}"
    assert asking.post(f"{period}/reopen", reason="late")["status"] == "reopened"
    assert asking.get(period, as_of=datetime(2026, 11, 11, 2, 30, tzinfo=UTC).isoformat())["status"] == "closed"

    preview = asking.post(f"{meter}/rules_preview", event_time_window="day")
    assert [one["difference"] for one in preview["differences"]] == [-5]
    with metering.keeper().alone("long work"):
        assert asking.refused("POST", f"{V1}/verification") == (409, "rebuild_running", "")
    assert asking.post(f"{meter}/rules", event_time_window="day", reason="by day")["revision"] == 2
    found = asking.post(f"{V1}/verification")
    assert (found["matches"], found["closed_periods"]) == (True, 1)
    projection = asking.get(f"{V1}/projection")
    assert (projection["lag"], [one["state"] for one in projection["generations"]]) == (0, ["retired", "live"])
    assert asking.send("DELETE", f"{V1}/projection/generations/1").status_code == 200

    session = asking.send_json("/v2/billing/meter_event_session", asking.keys["record"], {})
    unknown: list[dict[str, object]] = [
        {"event_name": "bytes", "payload": {}, "identifier": f"e{number}"} for number in range(5)
    ]
    asking.send_json("/v2/billing/meter_event_stream", session["authentication_token"], {"events": unknown})
    errors = asking.pages(f"{V1}/meter_event_errors", limit=2)
    assert [one["identifier"] for one in errors] == ["e4", "e3", "e2", "e1", "e0"]
    newer = asking.get(f"{V1}/meter_event_errors", ending_before=errors[3]["id"], limit=2)
    assert (newer["data"], newer["has_more"]) == (errors[1:3], True)
