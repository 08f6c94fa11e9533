"""The extensions on PostgreSQL: every operation once, in one scenario."""

from datetime import UTC, datetime
from typing import Any

import pytest
from tallybook.application import Metering

from ...notation import Ledger
from ...postgres import Database
from .api_client import ApiClient, unix_time

V1 = "/v1/billing"


@pytest.fixture
def url(postgres: Database) -> str:
    return postgres.fresh_url()


def test_everything_works_as_on_sqlite(ledger: Ledger, api: ApiClient, metering: Metering) -> None:
    """From events to adjustments, rule changes and ordered errors; long jobs run one at a time."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5    id=a
        10:01  bolt calls 0.5  id=b
        close  acme calls 10 11  at=11T02:00
        11:00  acme calls 2    id=late  recorded=11T03:00
    """)
    meter = api.meter_path("calls")
    november = {"start_time": unix_time("01"), "end_time": unix_time("30")}
    events = api.list_all(f"{V1}/meter_events", event_name="calls", limit=2)
    assert [event["identifier"] for event in events] == ["a", "b", "late"]
    assert api.get(f"{V1}/meter_events/{events[0]['id']}") == events[0]
    totals = api.list_all(f"{meter}/totals", **november, limit=1)
    assert [(total["customer"], str(total["aggregated_value"])) for total in totals] == [("acme", "7"), ("bolt", "0.5")]
    explained = api.get(f"{meter}/explanation", customer="acme", **november)
    assert [event["contribution"] for event in explained["events"]["data"]] == [5, 2]

    (adjustment,) = api.get(f"{V1}/period_adjustments", meter=meter.rpartition("/")[2])["data"]
    assert adjustment["difference"] == 2
    assert api.get(adjustment["events"]["url"])["data"][0]["identifier"] == "late"
    period = f"{V1}/closed_periods/{adjustment['closed_period']}"
    day: dict[str, Any] = {"start_time": unix_time("10"), "end_time": unix_time("11")}
    preview = api.post(f"{V1}/closed_periods/preview", meter=adjustment["meter"], customer="acme", **day)
    assert (preview["aggregated_value"], preview["difference"]) == (7, 2)
    day = {"start_time": unix_time("11"), "end_time": unix_time("12")}
    lines = api.get(f"{V1}/invoice_lines", **day)
    assert [(line["customer"], line["billable_value"]) for line in lines["data"]] == [("acme", 2)]
    of_document: dict[str, Any] = {"document": "INV-8", "as_of_position": lines["position"]}
    assert api.post(f"{V1}/invoice_lines/settle", **day, **of_document)["settled"] == 1
    settled = api.post(f"{V1}/period_adjustments/{adjustment['id']}/settle", **of_document)
    assert [(one["document"], one["difference"]) for one in settled["settlements"]] == [("INV-8", 2)]
    assert api.get(f"{V1}/invoice_lines", **day)["data"] == []
    assert api.post(f"{period}/reopen", reason="late", withdraw_settlements=True)["status"] == "reopened"
    assert api.get(period, as_of=datetime(2026, 11, 11, 2, 30, tzinfo=UTC).isoformat())["status"] == "closed"

    preview = api.post(f"{meter}/rules_preview", event_time_window="day")
    assert [difference["difference"] for difference in preview["differences"]] == [-5]
    with metering.key_value_store().try_lock("exclusive job"):
        assert api.error("POST", f"{V1}/verification") == (409, "rebuild_in_progress", "")
    assert api.post(f"{meter}/rules", event_time_window="day", reason="by day")["revision"] == 2
    verification = api.post(f"{V1}/verification")
    assert (verification["matches"], verification["closed_periods"]) == (True, 1)
    projection = api.get(f"{V1}/projection")
    assert (projection["lag"], [generation["state"] for generation in projection["generations"]]) == (
        0,
        ["retired", "live"],
    )
    assert api.send("DELETE", f"{V1}/projection/generations/1").status_code == 200

    session = api.send_json("/v2/billing/meter_event_session", api.keys["record"], {})
    unknown: list[dict[str, object]] = [
        {"event_name": "bytes", "payload": {}, "identifier": f"e{number}"} for number in range(5)
    ]
    api.send_json("/v2/billing/meter_event_stream", session["authentication_token"], {"events": unknown})
    errors = api.list_all(f"{V1}/meter_event_errors", limit=2)
    assert [error["identifier"] for error in errors] == ["e4", "e3", "e2", "e1", "e0"]
    newer = api.get(f"{V1}/meter_event_errors", ending_before=errors[3]["id"], limit=2)
    assert (newer["data"], newer["has_more"]) == (errors[1:3], True)
