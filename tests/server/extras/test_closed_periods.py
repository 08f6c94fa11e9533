"""Closed periods over HTTP, and what is owed on them."""

from decimal import Decimal
from typing import Any

from tallybook.application import Metering

from ...notation import Clock, Ledger, moment
from .asking import DAY, Asking, unix

PERIODS = "/v1/billing/closed_periods"
ADJUSTMENTS = "/v1/billing/period_adjustments"
Json = dict[str, Any]
TENTH: Json = {"start_time": unix("10"), "end_time": unix("11")}


def test_a_period_is_closed_once(ledger: Ledger, asking: Asking) -> None:
    """Closing it again gives the first closing, whatever came in between."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5.50
        10:01  acme calls -1
        10:02  bolt calls 100
    """)
    position, meter = ledger.position(), asking.meter("calls").rpartition("/")[2]
    ledger.clock.now = moment("11T02:00")
    closed = asking.post(PERIODS, meter=meter, customer="acme", **TENTH)
    assert {name: str(closed[name]) for name in ("aggregated_value", "billable_value", "sum", "last")} == {
        "aggregated_value": "4.50", "billable_value": "4.50", "sum": "4.50", "last": "-1",
    }  # fmt: skip
    assert (closed["object"], closed["status"], closed["reopening"]) == ("billing.closed_period", "closed", None)
    assert (closed["meter"], closed["customer"], closed["count"]) == (meter, "acme", 2)
    assert (closed["start_time"], closed["end_time"], closed["created"]) == (*TENTH.values(), unix("11T02:00"))
    assert (closed["position"] >= position, closed["revision"]) == (True, 1)
    assert closed["rules"]["value_settings"] == {"event_payload_key": "calls"}
    ledger.given("11:00  acme calls 2  recorded=11T03:00")
    assert asking.post(PERIODS, meter=meter, customer="acme", **TENTH) == closed
    assert asking.get(f"{PERIODS}/{closed['id']}") == closed


def test_a_reopened_period_is_closed_anew_and_both_closings_stay(ledger: Ledger, asking: Asking) -> None:
    """Each has an id of its own; the first tells why it was reopened, and is shown where it is asked for."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5
    """)
    meter = asking.meter("calls").rpartition("/")[2]
    ledger.clock.now = moment("11T02:00")
    first = asking.post(PERIODS, meter=meter, customer="acme", **TENTH)
    ledger.given("11:00  acme calls 2  recorded=11T03:00")
    reopened = asking.post(f"{PERIODS}/{first['id']}/reopen", reason="a report was late", by="ops")
    assert (reopened["id"], reopened["status"], reopened["aggregated_value"]) == (first["id"], "reopened", 5)
    assert reopened["reopening"] == {"reopened_at": unix("11T03:00"), "reason": "a report was late", "by": "ops"}
    assert asking.get(PERIODS)["data"] == []
    second = asking.post(PERIODS, meter=meter, customer="acme", **TENTH)
    assert (second["aggregated_value"], second["id"] != first["id"]) == (7, True)
    assert asking.get(f"{PERIODS}/{first['id']}") == reopened
    assert asking.refused("POST", f"{PERIODS}/{first['id']}/reopen", reason="again") == (
        400, "period_not_closed", "id",
    )  # fmt: skip
    assert asking.get(PERIODS)["data"] == [second]
    assert [one["aggregated_value"] for one in asking.get(PERIODS, reopened=True)["data"]] == [7, 5]
    assert asking.get(f"{PERIODS}/{first['id']}", as_of=unix("11T02:30"))["status"] == "closed"
    assert asking.get(PERIODS, as_of_position=first["position"] + 1)["data"] == [first]
    assert asking.refused("GET", f"{PERIODS}/{second['id']}", as_of=unix("11T02:30")) == (404, "resource_missing", "id")


def test_a_reopening_that_names_nobody_is_the_keys(ledger: Ledger, asking: Asking, metering: Metering) -> None:
    """And the same request again, with its idempotency key, reopens nothing more."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5
        close  acme calls 10 11  at=11T02:00
    """)
    (period,) = asking.get(PERIODS)["data"]
    path = f"{PERIODS}/{period['id']}/reopen"
    reopened = asking.post(path, reason="late", headers={"Idempotency-Key": "k1"})
    (admin,) = (key for key in metering.access_keys() if "admin" in key.scopes)
    assert reopened["reopening"]["by"] == admin.hint
    assert asking.post(path, reason="late", headers={"Idempotency-Key": "k1"}) == reopened


def test_closed_periods_are_listed_newest_first(ledger: Ledger, asking: Asking) -> None:
    """By meter, customer and range; paged from one that was reopened meanwhile, while others are closed."""
    ledger.given("""
        meter  calls  sum
        meter  bytes  sum
        10:00  acme calls 5
        close  acme calls 01 02  at=11T02:00
        close  acme calls 02 03  at=11T03:00
        close  bolt calls 03 04  at=11T04:00
        close  acme bytes 04 05  at=11T05:00
    """)

    def days(listed: list[Json]) -> list[str]:
        return [f"{(one['start_time'] - unix('01')) // DAY + 1}" for one in listed]

    calls = asking.meter("calls").rpartition("/")[2]
    assert days(asking.pages(PERIODS, limit=1)) == ["4", "3", "2", "1"]
    assert days(asking.get(PERIODS, meter=calls)["data"]) == ["3", "2", "1"]
    assert days(asking.get(PERIODS, meter=calls, customer="acme")["data"]) == ["2", "1"]
    assert days(asking.get(PERIODS, customer="acme", start_time=unix("02"))["data"]) == ["4", "2"]
    assert days(asking.get(PERIODS, end_time=unix("02"))["data"]) == ["1"]
    first = asking.get(PERIODS, limit=2)
    cursor = first["data"][-1]["id"]
    ledger.given("""
        reopen  bolt calls 03 04  reason=error
        close   bolt calls 05 06  at=12T00:00
    """)
    assert days(asking.get(PERIODS, starting_after=cursor)["data"]) == ["2", "1"]
    assert days(asking.get(PERIODS, ending_before=cursor)["data"]) == ["5", "4"]
    assert asking.get(PERIODS, ending_before=cursor, limit=1)["has_more"]


def test_what_comes_late_is_owed(ledger: Ledger, asking: Asking) -> None:
    """Signed, with the events that caused it, each with what it was at the closing and what it adds since."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5    id=a
        10:01  acme calls 3    id=b
        10:00  bolt calls 1    id=c
        close  acme calls 10 11  at=11T02:00
        close  bolt calls 10 11
        11:00  acme calls 0.5  id=late  recorded=11T03:00
    """)
    position = ledger.position()
    ledger.given("cancel b at=11T04:00 reason=error")
    meter = asking.meter("calls").rpartition("/")[2]
    listed = asking.get(ADJUSTMENTS, meter=meter)
    (owed,) = listed["data"]
    assert (owed["object"], owed["customer"], owed["meter"]) == ("billing.period_adjustment", "acme", meter)
    assert {name: str(owed[name]) for name in ("aggregated_value", "difference", "billable_difference")} == {
        "aggregated_value": "5.5", "difference": "-2.5", "billable_difference": "-2.5",
    }  # fmt: skip
    assert [
        (one["identifier"], one["status_at_closing"], one["status"], str(one["change"]))
        for one in owed["events"]["data"]
    ] == [("b", "counted", "cancelled", "-3"), ("late", None, "counted", "0.5")]
    assert asking.get(f"{ADJUSTMENTS}/{owed['id']}") == owed
    period = asking.get(f"{PERIODS}/{owed['closed_period']}")
    assert (period["aggregated_value"], period["customer"]) == (8, "acme")
    for known in ({"as_of_position": position}, {"as_of": unix("11T03:30")}):
        (then,) = asking.get(ADJUSTMENTS, meter=meter, **known)["data"]
        assert then["difference"] == Decimal("0.5")
        assert asking.get(f"{ADJUSTMENTS}/{owed['id']}", **known) == then
    assert asking.get(ADJUSTMENTS, meter=meter, customer="bolt")["data"] == []
    assert asking.get(ADJUSTMENTS, meter=meter, start_time=unix("11"))["data"] == []
    none = asking.get(PERIODS, customer="bolt")["data"][0]["id"].replace("mtrper_", "mtrpadj_")
    assert asking.refused("GET", f"{ADJUSTMENTS}/{none}") == (404, "resource_missing", "id")


def test_many_adjusting_events_are_a_list_of_their_own(ledger: Ledger, asking: Asking) -> None:
    """The first ten are told with what is owed, whose url leads to all; the list is paged both ways."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5
        close  acme calls 10 11  at=11T02:00
    """)
    for minute in range(10, 35):
        ledger.given(f"11:{minute} acme calls 1 id=e{minute} recorded=11T03:{minute}")
    meter = asking.meter("calls").rpartition("/")[2]
    (owed,) = asking.get(ADJUSTMENTS, meter=meter)["data"]
    nested = owed["events"]
    assert ([one["identifier"] for one in nested["data"]], nested["has_more"]) == (
        [f"e{minute}" for minute in range(10, 20)], True,
    )  # fmt: skip
    rest = asking.pages(nested["url"], starting_after=nested["data"][-1]["id"], limit=7)
    assert [one["identifier"] for one in rest] == [f"e{minute}" for minute in range(20, 35)]
    assert sum(one["change"] for one in (*nested["data"], *rest)) == owed["difference"] == 25
    before = asking.get(nested["url"], ending_before=rest[0]["id"], limit=2)
    assert ([one["identifier"] for one in before["data"]], before["has_more"]) == (["e18", "e19"], True)
    assert asking.get(nested["url"], as_of=unix("11T03:10"), limit=5)["data"] == nested["data"][:1]
    assert asking.refused("GET", nested["url"], starting_after="mtrevt_enp6") == (
        400, "resource_missing", "starting_after",
    )  # fmt: skip


def test_adjustments_are_paged_by_customer_and_start(ledger: Ledger, asking: Asking) -> None:
    """From one whose period was reopened meanwhile too."""
    ledger.given("meter calls sum")
    for customer in "abcd":
        ledger.given(f"""
            10:00  {customer} calls 1
            close  {customer} calls 10 11  at=11T02:00
            11:00  {customer} calls 1  recorded=11T02:00
        """)
    meter = asking.meter("calls").rpartition("/")[2]
    assert [one["customer"] for one in asking.pages(ADJUSTMENTS, meter=meter, limit=1)] == list("abcd")
    cursor = asking.get(ADJUSTMENTS, meter=meter, limit=2)["data"][-1]["id"]
    ledger.given("reopen b calls 10 11 reason=error")
    after = asking.get(ADJUSTMENTS, meter=meter, starting_after=cursor)["data"]
    before = asking.get(ADJUSTMENTS, meter=meter, ending_before=cursor)["data"]
    assert ([one["customer"] for one in before], [one["customer"] for one in after]) == (["a"], ["c", "d"])


def test_the_period_of_a_long_name(metering: Metering, clock: Clock, asking: Asking) -> None:
    """Its digest stands for it in the id."""
    metering.configure_meter("calls")
    metering.record("calls", {"stripe_customer_id": "x" * 5_000, "value": "3"})
    start = int(clock.now.timestamp())
    clock.now = moment("11T02:00")
    meter = asking.meter("calls").rpartition("/")[2]
    closed = asking.post(PERIODS, meter=meter, customer="x" * 5_000, start_time=start, end_time=start + DAY)
    assert asking.get(f"{PERIODS}/{closed['id']}")["aggregated_value"] == 3
    assert len(closed["id"]) < 500


def test_what_cannot_be_closed_is_refused(ledger: Ledger, asking: Asking) -> None:
    """With the parameter that says so."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5  id=a
        close  acme calls 09 10  at=10T12:00
    """)
    meter = asking.meter("calls").rpartition("/")[2]
    acme: Json = {"meter": meter, "customer": "acme"}

    def refused(**given: Any) -> tuple[int, str, str]:
        return asking.refused("POST", PERIODS, **given)

    assert refused(customer="acme", **TENTH) == (400, "parameter_missing", "meter")
    assert refused(meter="mtr_none", customer="acme", **TENTH) == (400, "resource_missing", "meter")
    assert refused(**acme, **TENTH) == (400, "period_not_over", "end_time")
    assert refused(**acme, start_time=unix("08"), end_time=unix("10")) == (400, "period_overlaps", "start_time")
    assert refused(**acme, start_time=unix("10"), end_time=unix("10")) == (400, "invalid_time_range", "end_time")
    assert refused(**acme, start_time=unix("10"), end_time=unix("08")) == (400, "invalid_time_range", "start_time")
    (period,) = asking.get(PERIODS)["data"]
    assert asking.refused("POST", f"{PERIODS}/{period['id']}/reopen") == (400, "parameter_missing", "reason")
    assert asking.refused("POST", f"{PERIODS}/{period['id']}/reopen", "read", reason="x") == (
        403, "more_permissions_required", "",
    )  # fmt: skip
    for given in ("mtrper_none", "mtrper_WzFd", period["id"][:-4], "x"):
        assert asking.refused("GET", f"{PERIODS}/{given}") == (404, "resource_missing", "id")
        assert asking.refused("POST", f"{PERIODS}/{given}/reopen", reason="x") == (404, "resource_missing", "id")
        assert asking.refused("GET", PERIODS, starting_after=given) == (400, "resource_missing", "starting_after")
    assert asking.refused("GET", PERIODS, meter="mtr_none") == (400, "resource_missing", "meter")
    assert asking.refused("GET", ADJUSTMENTS) == (400, "parameter_missing", "meter")
    assert asking.refused("GET", ADJUSTMENTS, meter="mtr_none") == (400, "resource_missing", "meter")
    assert asking.refused("GET", f"{ADJUSTMENTS}/{period['id']}") == (404, "resource_missing", "id")
