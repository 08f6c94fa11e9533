"""Closed periods and their adjustments over HTTP."""

from decimal import Decimal
from typing import Any

from tallybook.application import Metering

from ...notation import Clock, Ledger, moment
from .api_client import DAY, ApiClient, unix_time

PERIODS = "/v1/billing/closed_periods"
ADJUSTMENTS = "/v1/billing/period_adjustments"
Json = dict[str, Any]
PERIOD_OF_10TH: Json = {"start_time": unix_time("10"), "end_time": unix_time("11")}


def test_a_period_is_closed_once(ledger: Ledger, api: ApiClient) -> None:
    """Closing it again returns the first result, even after later events."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5.50
        10:01  acme calls -1
        10:02  bolt calls 100
    """)
    position, meter = ledger.position(), api.meter_path("calls").rpartition("/")[2]
    ledger.clock.now = moment("11T02:00")
    closed = api.post(PERIODS, meter=meter, customer="acme", **PERIOD_OF_10TH)
    assert {name: str(closed[name]) for name in ("aggregated_value", "billable_value", "sum", "last")} == {
        "aggregated_value": "4.50", "billable_value": "4.50", "sum": "4.50", "last": "-1",
    }  # fmt: skip
    assert (closed["object"], closed["status"], closed["reopening"]) == ("billing.closed_period", "closed", None)
    assert (closed["meter"], closed["customer"], closed["count"]) == (meter, "acme", 2)
    assert (closed["start_time"], closed["end_time"], closed["created"]) == (
        *PERIOD_OF_10TH.values(),
        unix_time("11T02:00"),
    )
    assert (closed["position"] >= position, closed["revision"]) == (True, 1)
    assert closed["rules"]["value_settings"] == {"event_payload_key": "calls"}
    ledger.given("11:00  acme calls 2  recorded=11T03:00")
    assert api.post(PERIODS, meter=meter, customer="acme", **PERIOD_OF_10TH) == closed
    assert api.get(f"{PERIODS}/{closed['id']}") == closed


def test_a_gap_to_an_adjacent_closed_period_is_part_of_both(ledger: Ledger, api: ApiClient) -> None:
    """With its usage at that time; a reopened period has none."""
    ledger.given("""
        meter  calls  sum
        11T03:00  acme calls 5
        11T12:00  acme calls 1  recorded=13T00:00
        close  acme calls 10 11  at=13T02:00
    """)
    before = ledger.position()
    meter = api.meter_path("calls").rpartition("/")[2]
    period_of_12th: Json = {"start_time": unix_time("12"), "end_time": unix_time("13")}
    closed = api.post(PERIODS, meter=meter, customer="acme", **period_of_12th)
    gap = {"aggregated_value": 6, "count": 2, "start_time": unix_time("11"), "end_time": unix_time("12")}
    assert (closed["gap_before"], closed["gap_after"]) == (gap, None)
    assert api.get(f"{PERIODS}/{closed['id']}") == closed
    first = api.get(PERIODS)["data"][1]
    assert (first["gap_before"], first["gap_after"]) == (None, gap)
    earlier = api.get(f"{PERIODS}/{first['id']}", as_of_position=before)
    assert (earlier["gap_before"], earlier["gap_after"]) == (None, None)
    reopened = api.post(f"{PERIODS}/{closed['id']}/reopen", reason="moved")
    assert (reopened["gap_before"], reopened["gap_after"]) == (None, None)


def test_a_reopened_period_is_closed_again_and_both_versions_stay(ledger: Ledger, api: ApiClient) -> None:
    """Each version has its own id; the first one contains the reason of the reopening and is listed on request."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5
    """)
    meter = api.meter_path("calls").rpartition("/")[2]
    ledger.clock.now = moment("11T02:00")
    first = api.post(PERIODS, meter=meter, customer="acme", **PERIOD_OF_10TH)
    ledger.given("11:00  acme calls 2  recorded=11T03:00")
    reopened = api.post(f"{PERIODS}/{first['id']}/reopen", reason="a report was late", by="ops")
    assert (reopened["id"], reopened["status"], reopened["aggregated_value"]) == (first["id"], "reopened", 5)
    assert reopened["reopening"] == {
        "reopened_at": unix_time("11T03:00"), "reason": "a report was late", "by": api.author(), "on_behalf_of": "ops",
    }  # fmt: skip
    assert api.get(PERIODS)["data"] == []
    second = api.post(PERIODS, meter=meter, customer="acme", **PERIOD_OF_10TH)
    assert (second["aggregated_value"], second["id"] != first["id"]) == (7, True)
    assert api.get(f"{PERIODS}/{first['id']}") == reopened
    assert api.error("POST", f"{PERIODS}/{first['id']}/reopen", reason="again") == (
        400, "period_not_closed", "id",
    )  # fmt: skip
    assert api.get(PERIODS)["data"] == [second]
    assert [period["aggregated_value"] for period in api.get(PERIODS, reopened=True)["data"]] == [7, 5]
    assert api.get(f"{PERIODS}/{first['id']}", as_of=unix_time("11T02:30"))["status"] == "closed"
    assert api.get(PERIODS, as_of_position=first["position"] + 1)["data"] == [first]
    assert api.error("GET", f"{PERIODS}/{second['id']}", as_of=unix_time("11T02:30")) == (404, "resource_missing", "id")


def test_a_reopening_without_an_actor_is_attributed_to_the_key(
    ledger: Ledger, api: ApiClient, metering: Metering
) -> None:
    """A repeated request with the same idempotency key reopens nothing more."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5
        close  acme calls 10 11  at=11T02:00
    """)
    (period,) = api.get(PERIODS)["data"]
    path = f"{PERIODS}/{period['id']}/reopen"
    reopened = api.post(path, reason="late", headers={"Idempotency-Key": "k1"})
    (admin,) = (key for key in metering.access_keys.list() if "admin" in key.scopes)
    assert reopened["reopening"]["by"] == admin.hint
    assert api.post(path, reason="late", headers={"Idempotency-Key": "k1"}) == reopened


def test_closed_periods_are_listed_newest_first(ledger: Ledger, api: ApiClient) -> None:
    """By meter, customer and range; pages continue at a reopened period while others are closed."""
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
        return [f"{(item['start_time'] - unix_time('01')) // DAY + 1}" for item in listed]

    calls = api.meter_path("calls").rpartition("/")[2]
    assert days(api.list_all(PERIODS, limit=1)) == ["4", "3", "2", "1"]
    assert days(api.get(PERIODS, meter=calls)["data"]) == ["3", "2", "1"]
    assert days(api.get(PERIODS, meter=calls, customer="acme")["data"]) == ["2", "1"]
    assert days(api.get(PERIODS, customer="acme", start_time=unix_time("02"))["data"]) == ["4", "2"]
    assert days(api.get(PERIODS, end_time=unix_time("02"))["data"]) == ["1"]
    first = api.get(PERIODS, limit=2)
    cursor = first["data"][-1]["id"]
    ledger.given("""
        reopen  bolt calls 03 04  reason=error
        close   bolt calls 05 06  at=12T00:00
    """)
    assert days(api.get(PERIODS, starting_after=cursor)["data"]) == ["2", "1"]
    assert days(api.get(PERIODS, ending_before=cursor)["data"]) == ["5", "4"]
    assert api.get(PERIODS, ending_before=cursor, limit=1)["has_more"]


def test_late_events_are_adjusted(ledger: Ledger, api: ApiClient) -> None:
    """The adjustment is signed and contains the events, each with its status at closing and its change since."""
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
    meter = api.meter_path("calls").rpartition("/")[2]
    listed = api.get(ADJUSTMENTS, meter=meter)
    (adjustment,) = listed["data"]
    assert (adjustment["object"], adjustment["customer"], adjustment["meter"]) == (
        "billing.period_adjustment",
        "acme",
        meter,
    )
    assert {name: str(adjustment[name]) for name in ("aggregated_value", "difference", "billable_difference")} == {
        "aggregated_value": "5.5", "difference": "-2.5", "billable_difference": "-2.5",
    }  # fmt: skip
    assert [
        (event["identifier"], event["status_at_closing"], event["status"], str(event["change"]))
        for event in adjustment["events"]["data"]
    ] == [("b", "counted", "cancelled", "-3"), ("late", None, "counted", "0.5")]
    assert api.get(f"{ADJUSTMENTS}/{adjustment['id']}") == adjustment
    period = api.get(f"{PERIODS}/{adjustment['closed_period']}")
    assert (period["aggregated_value"], period["customer"]) == (8, "acme")
    for as_of in ({"as_of_position": position}, {"as_of": unix_time("11T03:30")}):
        (earlier,) = api.get(ADJUSTMENTS, meter=meter, **as_of)["data"]
        assert earlier["difference"] == Decimal("0.5")
        assert api.get(f"{ADJUSTMENTS}/{adjustment['id']}", **as_of) == earlier
    assert api.get(ADJUSTMENTS, meter=meter, customer="bolt")["data"] == []
    assert api.get(ADJUSTMENTS, meter=meter, start_time=unix_time("11"))["data"] == []
    none = api.get(PERIODS, customer="bolt")["data"][0]["id"].replace("mtrper_", "mtrpadj_")
    assert api.error("GET", f"{ADJUSTMENTS}/{none}") == (404, "resource_missing", "id")


def test_many_adjusting_events_are_a_list_of_their_own(ledger: Ledger, api: ApiClient) -> None:
    """The adjustment contains the first ten events and the URL of all; the list is paged in both directions."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5
        close  acme calls 10 11  at=11T02:00
    """)
    for minute in range(10, 35):
        ledger.given(f"11:{minute} acme calls 1 id=e{minute} recorded=11T03:{minute}")
    meter = api.meter_path("calls").rpartition("/")[2]
    (adjustment,) = api.get(ADJUSTMENTS, meter=meter)["data"]
    nested = adjustment["events"]
    assert ([event["identifier"] for event in nested["data"]], nested["has_more"]) == (
        [f"e{minute}" for minute in range(10, 20)], True,
    )  # fmt: skip
    rest = api.list_all(nested["url"], starting_after=nested["data"][-1]["id"], limit=7)
    assert [event["identifier"] for event in rest] == [f"e{minute}" for minute in range(20, 35)]
    assert sum(event["change"] for event in (*nested["data"], *rest)) == adjustment["difference"] == 25
    before = api.get(nested["url"], ending_before=rest[0]["id"], limit=2)
    assert ([event["identifier"] for event in before["data"]], before["has_more"]) == (["e18", "e19"], True)
    assert api.get(nested["url"], as_of=unix_time("11T03:10"), limit=5)["data"] == nested["data"][:1]
    assert api.error("GET", nested["url"], starting_after="mtrevt_enp6") == (
        400, "resource_missing", "starting_after",
    )  # fmt: skip


def test_adjustments_are_paged_by_customer_and_start(ledger: Ledger, api: ApiClient) -> None:
    """A page also continues at a period that was reopened."""
    ledger.given("meter calls sum")
    for customer in "abcd":
        ledger.given(f"""
            10:00  {customer} calls 1
            close  {customer} calls 10 11  at=11T02:00
            11:00  {customer} calls 1  recorded=11T02:00
        """)
    meter = api.meter_path("calls").rpartition("/")[2]
    assert [adjustment["customer"] for adjustment in api.list_all(ADJUSTMENTS, meter=meter, limit=1)] == list("abcd")
    cursor = api.get(ADJUSTMENTS, meter=meter, limit=2)["data"][-1]["id"]
    ledger.given("reopen b calls 10 11 reason=error")
    after = api.get(ADJUSTMENTS, meter=meter, starting_after=cursor)["data"]
    before = api.get(ADJUSTMENTS, meter=meter, ending_before=cursor)["data"]
    assert ([adjustment["customer"] for adjustment in before], [adjustment["customer"] for adjustment in after]) == (
        ["a"],
        ["c", "d"],
    )


def test_the_period_of_a_long_name(metering: Metering, clock: Clock, api: ApiClient) -> None:
    """The id contains the digest of the name."""
    metering.meters.configure("calls")
    metering.record("calls", {"stripe_customer_id": "x" * 5_000, "value": "3"})
    start = int(clock.now.timestamp())
    clock.now = moment("11T02:00")
    meter = api.meter_path("calls").rpartition("/")[2]
    closed = api.post(PERIODS, meter=meter, customer="x" * 5_000, start_time=start, end_time=start + DAY)
    assert api.get(f"{PERIODS}/{closed['id']}")["aggregated_value"] == 3
    assert len(closed["id"]) < 500


def test_invalid_closes_are_rejected(ledger: Ledger, api: ApiClient) -> None:
    """The error names the parameter."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5  id=a
        close  acme calls 09 10  at=10T12:00
    """)
    meter = api.meter_path("calls").rpartition("/")[2]
    acme: Json = {"meter": meter, "customer": "acme"}

    def error_of(**params: Any) -> tuple[int, str, str]:
        return api.error("POST", PERIODS, **params)

    assert error_of(customer="acme", **PERIOD_OF_10TH) == (400, "parameter_missing", "meter")
    assert error_of(meter="mtr_none", customer="acme", **PERIOD_OF_10TH) == (400, "resource_missing", "meter")
    assert error_of(**acme, **PERIOD_OF_10TH) == (400, "period_not_ended", "end_time")
    assert error_of(**acme, start_time=unix_time("08"), end_time=unix_time("10")) == (
        400,
        "period_overlaps",
        "start_time",
    )
    assert error_of(**acme, start_time=unix_time("10"), end_time=unix_time("10")) == (
        400,
        "invalid_time_range",
        "end_time",
    )
    assert error_of(**acme, start_time=unix_time("10"), end_time=unix_time("08")) == (
        400,
        "invalid_time_range",
        "start_time",
    )
    (period,) = api.get(PERIODS)["data"]
    assert api.error("POST", f"{PERIODS}/{period['id']}/reopen") == (400, "parameter_missing", "reason")
    assert api.error("POST", f"{PERIODS}/{period['id']}/reopen", "read", reason="x") == (
        403, "more_permissions_required", "",
    )  # fmt: skip
    for period_id in ("mtrper_none", "mtrper_WzFd", period["id"][:-4], "x"):
        assert api.error("GET", f"{PERIODS}/{period_id}") == (404, "resource_missing", "id")
        assert api.error("POST", f"{PERIODS}/{period_id}/reopen", reason="x") == (404, "resource_missing", "id")
        assert api.error("GET", PERIODS, starting_after=period_id) == (400, "resource_missing", "starting_after")
    assert api.error("GET", PERIODS, meter="mtr_none") == (400, "resource_missing", "meter")
    assert api.error("GET", ADJUSTMENTS) == (400, "parameter_missing", "meter")
    assert api.error("GET", ADJUSTMENTS, meter="mtr_none") == (400, "resource_missing", "meter")
    assert api.error("GET", f"{ADJUSTMENTS}/{period['id']}") == (404, "resource_missing", "id")
