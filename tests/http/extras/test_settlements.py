"""Settlements of adjustments over HTTP."""

from typing import Any

from tallybook.application.adjustment_results import RollForward
from tallybook.application.interfaces.http.object_ids import encode_compound_id

from ...notation import Ledger
from .api_client import ApiClient, unix_time

PERIODS = "/v1/billing/closed_periods"
ADJUSTMENTS = "/v1/billing/period_adjustments"
Json = dict[str, Any]
CLOSED = """
    meter  calls  sum  by region
    10:00  acme calls 5  id=a  region=eu
    10:01  acme calls 3  id=b  region=us
    close  acme calls 10 11  by region  at=11T01:00
"""


def meter_of(api: ApiClient) -> str:
    """Return the id of the meter `calls`."""
    return api.meter_path("calls").rpartition("/")[2]


def test_a_closed_period_has_its_settlements(ledger: Ledger, api: ApiClient) -> None:
    """Each with its document, totals, signed differences, position, author and time."""
    ledger.given(f"""
        {CLOSED}
        10:30  acme calls -9.0  region=eu  recorded=11T02:00
    """)
    position = ledger.position()
    ledger.given("settle  acme calls 10 11  document=CN-1  by=finance  at=11T04:00")
    (closed,) = api.get(PERIODS)["data"]
    (settlement,) = closed["settlements"]
    assert {name: str(value) for name, value in settlement.items()} == {
        "aggregated_value": "-1.0", "billable_difference": "-8", "billable_value": "0", "by": "finance",
        "difference": "-9.0", "document": "CN-1", "on_behalf_of": "None",
        "position": str(position), "settled_at": str(unix_time("11T04:00")),
    }  # fmt: skip
    assert api.get(f"{PERIODS}/{closed['id']}") == closed
    assert api.get(f"{PERIODS}/{closed['id']}", as_of_position=position)["settlements"] == []


def test_settled_adjustments_are_listed_on_request(ledger: Ledger, api: ApiClient) -> None:
    """The roll-forward and the groups are those of the library; a settled adjustment is retrieved by its id."""
    ledger.given(f"""
        {CLOSED}
        11:00  acme calls 2  id=late  region=ap  recorded=11T02:00
    """)
    meter, by_region = meter_of(api), {"dimension_group_by_keys": ["region"]}
    (adjustment,) = api.get(ADJUSTMENTS, meter=meter)["data"]
    ledger.given("""
        settle  acme calls 10 11  document=INV-8
        cancel b  at=11T03:00
        settle  acme calls 10 11  document=CN-1
    """)
    assert api.get(ADJUSTMENTS, meter=meter)["data"] == []
    (settled,) = api.get(ADJUSTMENTS, meter=meter, settled=True)["data"]
    assert (settled["id"], settled["difference"], settled["aggregated_value"]) == (adjustment["id"], 0, 7)
    assert api.get(f"{ADJUSTMENTS}/{settled['id']}") == settled
    assert api.get(f"{ADJUSTMENTS}/{settled['id']}/events")["data"] == settled["events"]["data"] == []
    ledger.given("12:00  acme calls 1.5  id=later  region=ap  recorded=11T05:00")
    (opened,) = api.get(ADJUSTMENTS, meter=meter, **by_region)["data"]
    (expected,) = ledger.metering.periods.adjustments("calls", group_by=["region"])
    roll_forward = expected.roll_forward
    assert opened["roll_forward"] == {name: getattr(roll_forward, name) for name in RollForward.__slots__}
    assert (roll_forward.late, roll_forward.cancelled, roll_forward.settled) == (3.5, -3, -1)
    assert opened["groups"] == [
        {
            "aggregated_value": group.quantity, "billable_difference": group.billable_difference,
            "billable_value": group.billable, "difference": group.difference, "dimensions": group.dimensions,
        }
        for group in expected.groups
    ]  # fmt: skip
    assert [(group["billable_value"], group["billable_difference"]) for group in opened["groups"]] == [
        (3.5, 1.5), (5, 0),
    ]  # fmt: skip
    (event,) = opened["events"]["data"]
    assert (event["identifier"], event["change"]) == ("later", 1.5)


def settle_path(adjustment: Json) -> str:
    """Return the path that settles an adjustment."""
    return f"{ADJUSTMENTS}/{adjustment['id']}/settle"


def test_an_adjustment_is_settled(ledger: Ledger, api: ApiClient) -> None:
    """By a document; what changes afterwards is owed next. The totals are those of the library."""
    ledger.given(f"""
        {CLOSED}
        11:00  acme calls 2.50  id=late  region=ap  recorded=11T02:00
    """)
    meter = meter_of(api)
    (adjustment,) = api.get(ADJUSTMENTS, meter=meter)["data"]
    settled = api.post(settle_path(adjustment), document="INV-8", by="finance")
    assert settled == api.get(f"{PERIODS}/{adjustment['closed_period']}")
    (settlement,) = settled["settlements"]
    (period,) = ledger.metering.periods.list("calls")
    (stored,) = period.settlements
    assert (stored.document, stored.by, stored.on_behalf_of) == ("INV-8", api.author(), "finance")
    assert stored.position == adjustment["position"]
    assert (settlement["difference"], settlement["aggregated_value"]) == (stored.difference, stored.quantity)
    assert (str(stored.difference), stored.quantity) == ("2.50", 10.5)
    assert api.get(ADJUSTMENTS, meter=meter)["data"] == []
    ledger.given("cancel b  at=11T03:00")
    (owed,) = api.get(ADJUSTMENTS, meter=meter)["data"]
    assert (owed["id"], owed["difference"]) == (adjustment["id"], -3)
    again = api.post(settle_path(adjustment), document="CN-1")
    assert [one["document"] for one in again["settlements"]] == ["INV-8", "CN-1"]
    assert ledger.metering.verify().is_equal


def test_what_arrived_after_the_document_stays_owed(ledger: Ledger, api: ApiClient) -> None:
    """An adjustment is settled as of the position of the document; without `by`, the key settles it."""
    ledger.given(f"""
        {CLOSED}
        11:00  acme calls 2  region=ap  recorded=11T02:00
    """)
    meter = meter_of(api)
    (adjustment,) = api.get(ADJUSTMENTS, meter=meter)["data"]
    ledger.given("12:00  acme calls 1  region=ap  recorded=11T03:00")
    settled = api.post(settle_path(adjustment), document="INV-8", as_of_position=adjustment["position"])
    (settlement,) = settled["settlements"]
    assert (settlement["position"], settlement["difference"]) == (adjustment["position"], 2)
    (admin,) = (key for key in ledger.metering.access_keys.list() if "admin" in key.scopes)
    assert settlement["by"] == admin.hint
    assert [one["difference"] for one in api.get(ADJUSTMENTS, meter=meter)["data"]] == [1]


def test_a_document_settles_an_adjustment_once(ledger: Ledger, api: ApiClient) -> None:
    """The same request returns the first result; another position or nothing owed is rejected, and stores nothing."""
    ledger.given(f"""
        {CLOSED}
        11:00  acme calls 2  region=ap  recorded=11T02:00
    """)
    (adjustment,) = api.get(ADJUSTMENTS, meter=meter_of(api))["data"]
    path = settle_path(adjustment)
    assert api.error("POST", path, document="CN-1", as_of_position=3) == (400, "adjustment_not_found", "id")
    first = api.post(path, document="INV-8", headers={"Idempotency-Key": "k1"})
    head = ledger.position()
    assert api.post(path, document="INV-8", headers={"Idempotency-Key": "k1"}) == first
    assert api.post(path, document="INV-8") == first
    assert api.error("POST", path, document="INV-9") == (400, "adjustment_not_found", "id")
    assert ledger.position() == head
    ledger.given("12:00  acme calls 1  region=ap  recorded=11T03:00")
    head = ledger.position()
    assert api.error("POST", path, document="INV-8", as_of_position=head) == (400, "settlement_exists", "document")
    assert ledger.position() == head


def test_the_adjustment_of_a_late_customer_is_settled(ledger: Ledger, api: ApiClient) -> None:
    """By its id, which names no closed period; then it has one, and the same request returns the first result."""
    long_name = "x" * 1_001
    ledger.given(f"""
        {CLOSED}
        11:00  zeta calls 4  region=eu  recorded=11T02:00
        11:00  {long_name} calls 5  region=eu  recorded=11T02:00
    """)
    meter = meter_of(api)
    for name, difference in (("zeta", 4), (long_name, 5)):
        (adjustment,) = api.get(ADJUSTMENTS, meter=meter, customer=name)["data"]
        assert adjustment["closed_period"] is None
        settled = api.post(settle_path(adjustment), document="INV-8")
        assert (settled["customer"], settled["aggregated_value"]) == (name, 0)
        assert [one["difference"] for one in settled["settlements"]] == [difference]
        assert api.get(f"{PERIODS}/{settled['id']}") == settled
        assert api.post(settle_path(adjustment), document="INV-8") == settled
        assert api.error("POST", settle_path(adjustment), document="INV-9") == (400, "adjustment_not_found", "id")
        (listed,) = api.get(ADJUSTMENTS, meter=meter, customer=name, settled=True)["data"]
        assert listed["closed_period"] == settled["id"]
    assert api.get(ADJUSTMENTS, meter=meter)["data"] == []
    assert ledger.metering.verify().is_equal


def test_invalid_settlements_are_rejected(ledger: Ledger, api: ApiClient) -> None:
    """The error names the parameter. A reopened period is not settled, nor is its next closing by the old id."""
    ledger.given(f"""
        {CLOSED}
        11:00  acme calls 2  region=ap  recorded=11T02:00
        11:00  zeta calls 4  region=ap  recorded=11T02:00
    """)
    acme, zeta = api.get(ADJUSTMENTS, meter=meter_of(api))["data"]
    assert api.error("POST", settle_path(acme)) == (400, "parameter_missing", "document")
    assert api.error("POST", settle_path(acme), document="x" * 501) == (400, "parameter_invalid", "document")
    assert api.error("POST", settle_path(acme), document="a\0b") == (400, "parameter_invalid", "document")
    for scope in ("read", "record"):
        assert api.error("POST", settle_path(acme), scope, document="CN-1") == (403, "more_permissions_required", "")
    for unknown in ("mtrpadj_none", acme["closed_period"], zeta["id"][:-4]):
        assert api.error("POST", f"{ADJUSTMENTS}/{unknown}/settle", document="CN-1") == (404, "resource_missing", "id")
    for name in ("", "x" * 5_001, "unknown"):
        forged = encode_compound_id("mtrpadj", (name[:101], f"-{name}", 0, 1, -1))
        for path in (f"{ADJUSTMENTS}/{forged}", f"{ADJUSTMENTS}/{forged}/events"):
            assert api.error("GET", path) == (404, "resource_missing", "id")
        assert api.error("POST", f"{ADJUSTMENTS}/{forged}/settle", document="x") == (404, "resource_missing", "id")
    api.post(f"{PERIODS}/{acme['closed_period']}/reopen", reason="withdrawn")
    assert api.error("POST", settle_path(acme), document="CN-1") == (400, "period_not_closed", "id")
    ledger.given("""
        close  acme calls 10 11
        12:00  acme calls 1  region=ap  recorded=11T04:00
    """)
    assert api.error("POST", settle_path(acme), document="CN-1") == (400, "period_not_closed", "id")
