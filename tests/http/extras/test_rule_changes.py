"""Rule changes over HTTP: preview and change."""

import asyncio
from typing import Any

from tallybook.application import Metering

from ...notation import Ledger
from .api_client import ApiClient, unix_time

PROJECTION = "/v1/billing/projection"
Json = dict[str, Any]


def configure_seats(ledger: Ledger) -> None:
    """Configure a meter whose seats are recorded many times a day."""
    ledger.given("""
        meter  seats  sum
        meter  calls  sum
        10:05  acme seats 10
        10:45  acme seats 4.5
        11:05  bolt seats 7
        11T10:05  acme seats 3
        10:05  acme calls 100
    """)


def test_a_preview_shows_differences_and_changes_nothing(ledger: Ledger, api: ApiClient) -> None:
    """By customer and window, the largest first, only for that meter."""
    configure_seats(ledger)
    meter = api.meter_path("seats")
    preview = api.post(f"{meter}/rules_preview", event_time_window="day", window="day")
    assert {name: str(preview[name]) for name in ("before", "after", "difference", "customers")} == {
        "before": "24.5", "after": "14.5", "difference": "-10.0", "customers": "1",
    }  # fmt: skip
    assert [
        (
            difference["customer"],
            difference["start_time"],
            difference["end_time"],
            str(difference["before"]),
            str(difference["after"]),
        )
        for difference in preview["differences"]
    ] == [("acme", unix_time("10"), unix_time("11"), "14.5", "4.5")]
    assert preview["differences"][0]["difference"] == preview["difference"]
    assert (preview["object"], preview["window"], preview["has_more"]) == ("billing.rules_preview", "day", False)
    assert preview["rules"]["event_time_window"] == "day"
    assert preview["rules"]["default_aggregation"] == {"formula": "sum"}
    assert preview["position"] == ledger.position()
    assert api.get(meter)["event_time_window"] is None
    assert api.post(f"{meter}/rules_preview", event_time_window="day")["generation"] == preview["generation"]


def test_a_preview_is_bounded(ledger: Ledger, api: ApiClient) -> None:
    """By the limit, with the largest differences; windows are in the timezone."""
    configure_seats(ledger)
    params: Json = {"default_aggregation": {"formula": "count"}, "window": "day", "limit": 2}
    preview = api.post(f"{api.meter_path('seats')}/rules_preview", **params, timezone="Europe/Berlin")
    assert ([str(difference["difference"]) for difference in preview["differences"]], preview["has_more"]) == (
        ["-12.5", "-6"],
        True,
    )
    assert (preview["differences"][0]["start_time"], preview["timezone"]) == (unix_time("09T23:00"), "Europe/Berlin")


def test_rules_are_activated(ledger: Ledger, api: ApiClient, metering: Metering) -> None:
    """For all of the history, with the stored reason; `none` removes the window."""
    configure_seats(ledger)
    meter = api.meter_path("seats")
    preview = api.post(f"{meter}/rules_preview", event_time_window="day")
    rules_change = api.post(f"{meter}/rules", event_time_window="day", reason="billed by day", by="ops")
    assert (rules_change["object"], rules_change["event_time_window"], rules_change["revision"]) == (
        "billing.meter",
        "day",
        2,
    )
    assert api.get(meter) == rules_change
    totals = api.get(f"{meter}/totals", start_time=unix_time("10"), end_time=unix_time("12"))["data"]
    assert [str(total["aggregated_value"]) for total in totals] == ["7.5", "7"]
    live = [generation for generation in api.get(PROJECTION)["generations"] if generation["state"] == "live"]
    assert [generation["number"] for generation in live] == [preview["generation"]]
    repeated = api.post(f"{meter}/rules", event_time_window="none", reason="an error")
    assert (repeated["event_time_window"], repeated["revision"]) == (None, 3)


def test_all_rules_can_be_changed(ledger: Ledger, api: ApiClient) -> None:
    """Omitted fields stay unchanged; an empty list in JSON removes the dimensions."""
    ledger.given("""
        meter  seats  last per hour by region
        10:05  acme seats 10  region=eu  account=a1  size=3
    """)
    path = f"{api.meter_path('seats')}/rules"
    rules_change = api.post(
        path,
        customer_mapping={"event_payload_key": "account"},
        value_settings={"event_payload_key": "size"},
        dimension_payload_keys=["size", "region"],
        reason="other keys",
    )
    assert rules_change["customer_mapping"] == {"event_payload_key": "account", "type": "by_id"}
    assert (rules_change["value_settings"], rules_change["dimension_payload_keys"]) == (
        {"event_payload_key": "size"}, ["size", "region"],
    )  # fmt: skip
    assert (rules_change["default_aggregation"], rules_change["event_time_window"]) == ({"formula": "last"}, "hour")
    without = api.send_json(path, api.keys["admin"], {"dimension_payload_keys": [], "reason": "none"})
    assert without["dimension_payload_keys"] is None


def test_a_repeated_change_gets_the_first_response(ledger: Ledger, api: ApiClient) -> None:
    """With its idempotency key; without one it is an error, because the rules are in force already."""
    configure_seats(ledger)
    meter = api.meter_path("seats")
    first = api.post(f"{meter}/rules", event_time_window="day", reason="by day", headers={"Idempotency-Key": "k"})
    repeated = api.post(f"{meter}/rules", event_time_window="day", reason="by day", headers={"Idempotency-Key": "k"})
    assert repeated == first
    assert api.error("POST", f"{meter}/rules", event_time_window="day", reason="by day") == (
        400, "parameter_invalid", "",
    )  # fmt: skip
    assert api.get(meter)["revision"] == 2


def test_incompatible_rules_are_rejected(ledger: Ledger, api: ApiClient) -> None:
    """The error names the first incompatible event, and nothing changes."""
    configure_seats(ledger)
    meter = api.meter_path("seats")
    for path in (f"{meter}/rules_preview", f"{meter}/rules"):
        reason: Json = {} if path.endswith("preview") else {"reason": "x"}
        response = api.send("POST", path, value_settings={"event_payload_key": "nothing"}, **reason)
        assert (response.status_code, response.json()["error"]["code"]) == (400, "incompatible_rules")
        assert "can't read 4 of the meter events" in response.json()["error"]["message"]
    assert api.get(meter)["revision"] == 1


def test_rules_change_for_usage_from_a_time_on(ledger: Ledger, api: ApiClient) -> None:
    """Announced rules are shown until they apply; each event has the revision that counts it."""
    configure_seats(ledger)
    meter, noon_of_11th = api.meter_path("seats"), unix_time("11T12:00")
    maximum: Json = {"default_aggregation": {"formula": "max"}}
    announced = api.post(f"{meter}/rules", **maximum, effective_from=noon_of_11th, reason="a new contract")
    assert (announced["default_aggregation"], announced["revision"]) == ({"formula": "sum"}, 1)
    (upcoming,) = announced["upcoming_rules"]
    assert (upcoming["effective_from"], upcoming["revision"]) == (noon_of_11th, 2)
    assert upcoming["default_aggregation"] == {"formula": "max"}
    ledger.given("11T13:00  acme seats 1")
    events = api.get("/v1/billing/meter_events", event_name="seats")["data"]
    assert [event["revision"] for event in events] == [1, 1, 1, 1, 2]
    current = api.get(meter)
    assert (current["default_aggregation"], current["revision"]) == ({"formula": "max"}, 2)
    assert current["upcoming_rules"] == []
    range_of_11th: Json = {"start_time": unix_time("11"), "end_time": unix_time("12")}
    summaries = api.get(f"{meter}/event_summaries", customer="acme", **range_of_11th, value_grouping_window="day")
    assert [(summary["start_time"], summary["aggregated_value"]) for summary in summaries["data"]] == [
        (noon_of_11th, 1), (unix_time("11"), 3),
    ]  # fmt: skip
    assert api.error("GET", f"{meter}/totals", **range_of_11th) == (
        400, "rules_change_in_range", "start_time",
    )  # fmt: skip


def test_a_preview_from_a_time_on_tells_what_is_billed(ledger: Ledger, api: ApiClient) -> None:
    """Closed windows keep their totals; earlier ones have no difference."""
    configure_seats(ledger)
    ledger.given("close acme seats 10 11 at=12T03:00")
    meter = api.meter_path("seats")
    params: Json = {"multiplier": "2", "window": "day"}
    preview = api.post(f"{meter}/rules_preview", **params)
    assert [
        (difference["customer"], difference["start_time"], difference["state"], str(difference["billable_after"]))
        for difference in preview["differences"]
    ] == [
        ("acme", unix_time("10"), "closed", "29"), ("bolt", unix_time("10"), "open", "14"),
        ("acme", unix_time("11"), "open", "6"),
    ]  # fmt: skip
    assert (preview["effective_from"], preview["differences"][1]["billable_before"]) == (None, 7)
    later = api.post(f"{meter}/rules_preview", **params, effective_from=unix_time("11"))
    assert [difference["start_time"] for difference in later["differences"]] == [unix_time("11")]
    assert later["effective_from"] == unix_time("11")
    generation = api.get(PROJECTION)["generations"][-1]
    assert list(generation["effective_from"].values()) == [unix_time("11")]


def test_only_a_previewed_change_is_made(ledger: Ledger, api: ApiClient) -> None:
    """With the digest of the preview: if its differences have changed, nothing is done."""
    configure_seats(ledger)
    meter = api.meter_path("seats")
    digest = api.post(f"{meter}/rules_preview", event_time_window="day", window="day")["digest"]
    ledger.given("12T10:00  bolt seats 1\n12T10:05  bolt seats 2")
    change: Json = {"event_time_window": "day", "reason": "billed by day"}
    assert api.error("POST", f"{meter}/rules", **change, digest=digest) == (409, "preview_changed", "digest")
    assert api.error("POST", f"{meter}/rules", **change, digest="other") == (400, "parameter_invalid", "digest")
    assert api.get(meter)["revision"] == 1
    digest = api.post(f"{meter}/rules_preview", event_time_window="day", window="day")["digest"]
    changed = api.post(f"{meter}/rules", **change, digest=digest)
    assert (changed["revision"], changed["event_time_window"]) == (2, "day")
    of_groups = api.post(f"{meter}/rules_preview", dimension_payload_keys=["seats"], dimension_group_by_keys=["seats"])
    assert of_groups["digest"] is None


def test_a_change_begins_with_a_window(ledger: Ledger, api: ApiClient) -> None:
    """Otherwise a window would be counted by two rules."""
    configure_seats(ledger)
    operations: list[tuple[str, Json]] = [("rules_preview", {}), ("rules", {"reason": "x"})]
    for operation, more in operations:
        path = f"{api.meter_path('seats')}/{operation}"
        assert api.error("POST", path, event_time_window="day", effective_from=unix_time("11T01:00"), **more) == (
            400, "invalid_effective_from", "effective_from",
        )  # fmt: skip


def test_long_jobs_run_one_at_a_time(ledger: Ledger, api: ApiClient, metering: Metering) -> None:
    """Other requests are rejected immediately and can be retried; reads continue."""
    configure_seats(ledger)
    meter = api.meter_path("seats")
    jobs: list[tuple[str, Json]] = [
        (f"{meter}/rules_preview", {"event_time_window": "day"}),
        (f"{meter}/rules", {"event_time_window": "day", "reason": "x"}),
        ("/v1/billing/verification", {}),
    ]
    with metering.key_value_store().try_lock("exclusive job") as is_alone:
        assert is_alone
        for path, params in jobs:
            response = api.send("POST", path, **params)
            assert (response.status_code, response.json()["error"]["code"]) == (409, "rebuild_in_progress")
            assert response.headers["Stripe-Should-Retry"] == "true"
        assert api.get(meter)["revision"] == 1
    for path, params in jobs:
        api.post(path, **params)


def test_many_requests_for_long_jobs_leave_threads_for_others(ledger: Ledger, api: ApiClient) -> None:
    """Each concurrent request succeeds or gets 409, and reads get responses."""
    configure_seats(ledger)

    async def request_all() -> list[int]:
        verifying = [api.request("POST", "/v1/billing/verification") for _ in range(20)]
        reading = [api.request("GET", "/v1/billing/meters", "read") for _ in range(20)]
        return [response.status_code for response in await asyncio.gather(*verifying, *reading)]

    statuses = api.runner.run(request_all())
    assert set(statuses[:20]) <= {200, 409}
    assert 200 in statuses[:20]
    assert statuses[20:] == [200] * 20


def test_invalid_rules_are_rejected(ledger: Ledger, api: ApiClient) -> None:
    """The error names the parameter; an empty value changes nothing."""
    configure_seats(ledger)
    meter = api.meter_path("seats")
    day: Json = {"event_time_window": "day"}

    def error_of(call: str, scope: str = "admin", **params: object) -> tuple[int, str, str]:
        return api.error("POST", f"{meter}/{call}", scope, **params)

    assert error_of("rules", **day) == (400, "parameter_missing", "reason")
    assert error_of("rules", reason="x") == (400, "parameter_invalid", "")
    assert error_of("rules", reason="x", event_time_window="") == (400, "parameter_invalid", "")
    assert error_of("rules", reason="x", event_time_window="week") == (400, "parameter_invalid", "event_time_window")
    assert error_of("rules", reason="x", default_aggregation={"formula": "median"}) == (
        400, "parameter_invalid", "default_aggregation[formula]",
    )  # fmt: skip
    assert error_of("rules", reason="x", customer_mapping={"type": "by_id"}) == (
        400, "parameter_missing", "customer_mapping[event_payload_key]",
    )  # fmt: skip
    assert error_of("rules", reason="x", dimension_payload_keys=["a", "a"]) == (
        400, "parameter_invalid", "dimension_payload_keys",
    )  # fmt: skip
    assert error_of("rules", "read", **day, reason="x") == (403, "more_permissions_required", "")
    assert error_of("rules_preview", "read", **day) == (403, "more_permissions_required", "")
    assert error_of("rules_preview", **day, timezone="Mars") == (400, "unknown_timezone", "timezone")
    assert error_of("rules_preview", **day, window="week") == (400, "parameter_invalid", "window")
    assert error_of("rules_preview", **day, limit=1_001) == (400, "parameter_invalid", "limit")
    nowhere = "/v1/billing/meters/mtr_none/rules"
    assert api.error("POST", nowhere, **day, reason="x") == (404, "resource_missing", "id")


def test_a_generation_is_deleted(ledger: Ledger, api: ApiClient) -> None:
    """The generation of a preview can be deleted, the live one cannot."""
    configure_seats(ledger)
    number = api.post(f"{api.meter_path('seats')}/rules_preview", event_time_window="day")["generation"]
    path = f"{PROJECTION}/generations"
    deleted = api.send("DELETE", f"{path}/{number}")
    assert deleted.json() == {"object": "billing.projection_generation", "deleted": True, "number": number}
    (live,) = api.get(PROJECTION)["generations"]
    assert live["state"] == "live"
    assert api.error("DELETE", f"{path}/{live['number']}") == (409, "generation_in_use", "generation")
    for generation_number in (number, 0, -1, "x", "9" * 30, "\u0661"):
        assert api.error("DELETE", f"{path}/{generation_number}") == (404, "resource_missing", "generation")
    assert api.error("DELETE", f"{path}/{number}", "read") == (403, "more_permissions_required", "")


def test_the_projection_reports_its_position(ledger: Ledger, api: ApiClient, metering: Metering) -> None:
    """The request does not update it; generations under other rules contain these rules."""
    configure_seats(ledger)
    position = ledger.position()
    ledger.given("12T10:00  acme seats 1")
    response = api.get(PROJECTION)
    assert (response["object"], response["position"], response["lag"]) == ("billing.projection", position, 1)
    assert (response["head"], response["livemode"]) == (position + 1, True)
    meter = api.meter_path("seats")
    api.post(f"{meter}/rules_preview", event_time_window="day")
    now = api.get(PROJECTION)
    assert (now["lag"], [generation["state"] for generation in now["generations"]]) == (0, ["live", "ready"])
    rules = {name: generation["event_time_window"] for name, generation in now["generations"][1]["rules"].items()}
    assert rules == {meter.rpartition("/")[2]: "day"}
    assert now["generations"][0]["rules"] == {}


def test_a_new_ledger_has_a_projection(api: ApiClient) -> None:
    """Before the first query."""
    assert api.get(PROJECTION)["lag"] >= 0
