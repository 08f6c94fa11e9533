"""The history of a ledger over HTTP."""

import pytest
from tallybook.application import InvalidParameter
from tallybook.application.system_user import system_user

from ...notation import Ledger
from .api_client import ApiClient, Json

HISTORY = "/v1/billing/history"


def test_each_event_has_its_author_reason_and_effect(ledger: Ledger, api: ApiClient) -> None:
    """Those of a meter, by pages, with what its rules were before and after."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5  id=a
    """)
    api.post(f"{api.meter_path('calls')}/rules", default_aggregation={"formula": "max"}, reason="why", by="finance")
    meter = api.meter_path("calls").rpartition("/")[2]
    configured, changed = api.list_all(HISTORY, meter=meter, limit=1)
    by_the_library: Json = {
        "by": None, "via": "library", "system_user": system_user(), "request_id": None, "import_run": None,
        "on_behalf_of": None, "approved_by": None, "proposal": None,
    }  # fmt: skip
    assert (configured["event"], configured["author"]) == ("Configured", by_the_library)
    assert (changed["reason"], changed["changed"]) == ("why", {"formula": {"before": "sum", "after": "max"}})
    assert (changed["author"]["by"], changed["author"]["via"]) == (api.author(), "http")
    assert changed["author"]["on_behalf_of"] == "finance"
    assert api.get(HISTORY, by="finance")["data"] == [changed]
    assert api.get(HISTORY, by=api.author(), recorded_start_time=changed["created"])["data"] == [changed]
    assert [entry["event"] for entry in api.get(HISTORY, identifier="a")["data"]] == ["UsageRecorded"]
    key = next(entry for entry in api.list_all(HISTORY) if entry["event"] == "AccessKeyCreated")
    assert set(key["details"]) == {"name", "scopes", "livemode"}


def test_errors_name_the_parameter(ledger: Ledger, api: ApiClient) -> None:
    """Unknown things, cursors, and combinations without a meaning."""
    ledger.given("meter  calls  sum")
    assert api.error("GET", HISTORY, meter="mtr_x") == (400, "resource_missing", "meter")
    assert api.error("GET", HISTORY, identifier="x") == (400, "resource_missing", "identifier")
    assert api.error("GET", HISTORY, access_key="x") == (400, "resource_missing", "access_key")
    assert api.error("GET", HISTORY, starting_after="x")[::2] == (400, "starting_after")
    assert api.error("GET", HISTORY, customer="acme")[:2] == (400, "parameter_invalid")


def test_a_page_has_at_most_four_megabytes(ledger: Ledger, api: ApiClient) -> None:
    """Events may have selections of 64 kB. The rest is on the next page."""
    ledger.given("""
        meter  calls  sum  by region
        10:00  acme calls 5  region=eu
    """)
    regions = [f"{number:064}" for number in range(1_000)]
    for number in range(70):
        ledger.metering.proposals.propose_cancellation(
            "calls", where={"region": ["eu", *regions[1:]]}, reason=f"number {number}", by="alice"
        )
    first = api.get(HISTORY, limit=100)
    assert first["has_more"]
    assert len(first["data"]) < 70
    made = [entry["reason"] for entry in api.list_all(HISTORY, limit=100) if entry["event"] == "ChangeProposed"]
    assert made == [f"number {number}" for number in range(70)]
    for longer in ([f"{region}-" for region in regions], [f"\a{region[5:]}" for region in regions]):
        with pytest.raises(InvalidParameter, match="at most 64,000 bytes"):
            ledger.metering.proposals.propose_cancellation("calls", where={"region": longer}, reason="why")
