"""Changes of rules over HTTP: what others would make of all usage, and putting them in force."""

import asyncio
from typing import Any

from tallybook.application import Metering

from ...notation import Ledger
from .asking import Asking, unix

PROJECTION = "/v1/billing/projection"
Json = dict[str, Any]


def given_seats(ledger: Ledger) -> None:
    """Seats that are reported many times a day."""
    ledger.given("""
        meter  seats  sum
        meter  calls  sum
        10:05  acme seats 10
        10:45  acme seats 4.5
        11:05  bolt seats 7
        11T10:05  acme seats 3
        10:05  acme calls 100
    """)


def test_a_preview_tells_what_would_differ_and_changes_nothing(ledger: Ledger, asking: Asking) -> None:
    """By customer and window, the largest first; of that meter alone."""
    given_seats(ledger)
    meter = asking.meter("seats")
    preview = asking.post(f"{meter}/rules_preview", event_time_window="day", window="day")
    assert {name: str(preview[name]) for name in ("before", "after", "difference", "customers")} == {
        "before": "24.5", "after": "14.5", "difference": "-10.0", "customers": "1",
    }  # fmt: skip
    assert [
        (one["customer"], one["start_time"], one["end_time"], str(one["before"]), str(one["after"]))
        for one in preview["differences"]
    ] == [("acme", unix("10"), unix("11"), "14.5", "4.5")]
    assert preview["differences"][0]["difference"] == preview["difference"]
    assert (preview["object"], preview["window"], preview["has_more"]) == ("billing.rules_preview", "day", False)
    assert preview["rules"]["event_time_window"] == "day"
    assert preview["rules"]["default_aggregation"] == {"formula": "sum"}
    assert preview["position"] == ledger.position()
    assert asking.get(meter)["event_time_window"] is None
    assert asking.post(f"{meter}/rules_preview", event_time_window="day")["generation"] == preview["generation"]


def test_a_preview_is_bounded(ledger: Ledger, asking: Asking) -> None:
    """By the limit that is asked for, with the largest in it; windows are those of the timezone."""
    given_seats(ledger)
    asked: Json = {"default_aggregation": {"formula": "count"}, "window": "day", "limit": 2}
    preview = asking.post(f"{asking.meter('seats')}/rules_preview", **asked, timezone="Europe/Berlin")
    assert ([str(one["difference"]) for one in preview["differences"]], preview["has_more"]) == (["-12.5", "-6"], True)
    assert (preview["differences"][0]["start_time"], preview["timezone"]) == (unix("09T23:00"), "Europe/Berlin")


def test_rules_are_put_in_force(ledger: Ledger, asking: Asking, metering: Metering) -> None:
    """For all of the past; with the reason, which the ledger keeps, and back to raw by `none`."""
    given_seats(ledger)
    meter = asking.meter("seats")
    preview = asking.post(f"{meter}/rules_preview", event_time_window="day")
    changed = asking.post(f"{meter}/rules", event_time_window="day", reason="billed by day", by="ops")
    assert (changed["object"], changed["event_time_window"], changed["revision"]) == ("billing.meter", "day", 2)
    assert asking.get(meter) == changed
    totals = asking.get(f"{meter}/totals", start_time=unix("10"), end_time=unix("12"))["data"]
    assert [str(one["aggregated_value"]) for one in totals] == ["7.5", "7"]
    live = [one for one in asking.get(PROJECTION)["generations"] if one["state"] == "live"]
    assert [one["number"] for one in live] == [preview["generation"]]
    again = asking.post(f"{meter}/rules", event_time_window="none", reason="an error")
    assert (again["event_time_window"], again["revision"]) == (None, 3)


def test_all_rules_can_be_changed(ledger: Ledger, asking: Asking) -> None:
    """What isn't given stays as it is; an empty list, in JSON, takes the dimensions away."""
    ledger.given("""
        meter  seats  last per hour by region
        10:05  acme seats 10  region=eu  account=a1  size=3
    """)
    path = f"{asking.meter('seats')}/rules"
    changed = asking.post(
        path,
        customer_mapping={"event_payload_key": "account"},
        value_settings={"event_payload_key": "size"},
        dimension_payload_keys=["size", "region"],
        reason="other keys",
    )
    assert changed["customer_mapping"] == {"event_payload_key": "account", "type": "by_id"}
    assert (changed["value_settings"], changed["dimension_payload_keys"]) == (
        {"event_payload_key": "size"}, ["size", "region"],
    )  # fmt: skip
    assert (changed["default_aggregation"], changed["event_time_window"]) == ({"formula": "last"}, "hour")
    without = asking.send_json(path, asking.keys["admin"], {"dimension_payload_keys": [], "reason": "none"})
    assert without["dimension_payload_keys"] is None


def test_the_same_change_again_is_answered_as_the_first(ledger: Ledger, asking: Asking) -> None:
    """With its idempotency key; without one the rules are in force already, which is refused."""
    given_seats(ledger)
    meter = asking.meter("seats")
    first = asking.post(f"{meter}/rules", event_time_window="day", reason="by day", headers={"Idempotency-Key": "k"})
    again = asking.post(f"{meter}/rules", event_time_window="day", reason="by day", headers={"Idempotency-Key": "k"})
    assert again == first
    assert asking.refused("POST", f"{meter}/rules", event_time_window="day", reason="by day") == (
        400, "parameter_invalid", "",
    )  # fmt: skip
    assert asking.get(meter)["revision"] == 2


def test_rules_that_cannot_read_what_is_recorded_are_refused(ledger: Ledger, asking: Asking) -> None:
    """With the first event that stands in the way, and nothing changed."""
    given_seats(ledger)
    meter = asking.meter("seats")
    for path in (f"{meter}/rules_preview", f"{meter}/rules"):
        reason: Json = {} if path.endswith("preview") else {"reason": "x"}
        found = asking.send("POST", path, value_settings={"event_payload_key": "nothing"}, **reason)
        assert (found.status_code, found.json()["error"]["code"]) == (400, "rules_cannot_read")
        assert "can't read 4 of the meter events" in found.json()["error"]["message"]
    assert asking.get(meter)["revision"] == 1


def test_long_work_is_done_one_at_a_time(ledger: Ledger, asking: Asking, metering: Metering) -> None:
    """Others are refused at once, and may come again; what reads goes on."""
    given_seats(ledger)
    meter = asking.meter("seats")
    works: list[tuple[str, Json]] = [
        (f"{meter}/rules_preview", {"event_time_window": "day"}),
        (f"{meter}/rules", {"event_time_window": "day", "reason": "x"}),
        ("/v1/billing/verification", {}),
    ]
    with metering.keeper().alone("long work") as is_alone:
        assert is_alone
        for path, given in works:
            found = asking.send("POST", path, **given)
            assert (found.status_code, found.json()["error"]["code"]) == (409, "rebuild_running")
            assert found.headers["Stripe-Should-Retry"] == "true"
        assert asking.get(meter)["revision"] == 1
    for path, given in works:
        asking.post(path, **given)


def test_many_that_want_long_work_leave_threads_to_others(ledger: Ledger, asking: Asking) -> None:
    """All at once: each is done or refused with 409, and whoever reads is answered."""
    given_seats(ledger)

    async def all_at_once() -> list[int]:
        verifying = [asking.asked("POST", "/v1/billing/verification") for _ in range(20)]
        reading = [asking.asked("GET", "/v1/billing/meters", "read") for _ in range(20)]
        return [one.status_code for one in await asyncio.gather(*verifying, *reading)]

    statuses = asking.runner.run(all_at_once())
    assert set(statuses[:20]) <= {200, 409}
    assert 200 in statuses[:20]
    assert statuses[20:] == [200] * 20


def test_what_are_no_rules_is_refused(ledger: Ledger, asking: Asking) -> None:
    """With the parameter that says so; nothing given changes nothing, also where it is empty text."""
    given_seats(ledger)
    meter = asking.meter("seats")
    day: Json = {"event_time_window": "day"}

    def refused(call: str, scope: str = "admin", **given: object) -> tuple[int, str, str]:
        return asking.refused("POST", f"{meter}/{call}", scope, **given)

    assert refused("rules", **day) == (400, "parameter_missing", "reason")
    assert refused("rules", reason="x") == (400, "parameter_invalid", "")
    assert refused("rules", reason="x", event_time_window="") == (400, "parameter_invalid", "")
    assert refused("rules", reason="x", event_time_window="week") == (400, "parameter_invalid", "event_time_window")
    assert refused("rules", reason="x", default_aggregation={"formula": "max"}) == (
        400, "parameter_invalid", "default_aggregation[formula]",
    )  # fmt: skip
    assert refused("rules", reason="x", customer_mapping={"type": "by_id"}) == (
        400, "parameter_missing", "customer_mapping[event_payload_key]",
    )  # fmt: skip
    assert refused("rules", reason="x", dimension_payload_keys=["a", "a"]) == (
        400, "parameter_invalid", "dimension_payload_keys",
    )  # fmt: skip
    assert refused("rules", "read", **day, reason="x") == (403, "more_permissions_required", "")
    assert refused("rules_preview", "read", **day) == (403, "more_permissions_required", "")
    assert refused("rules_preview", **day, timezone="Mars") == (400, "unknown_timezone", "timezone")
    assert refused("rules_preview", **day, window="week") == (400, "parameter_invalid", "window")
    assert refused("rules_preview", **day, limit=1_001) == (400, "parameter_invalid", "limit")
    nowhere = "/v1/billing/meters/mtr_none/rules"
    assert asking.refused("POST", nowhere, **day, reason="x") == (404, "resource_missing", "id")


def test_a_generation_is_deleted(ledger: Ledger, asking: Asking) -> None:
    """One that a preview built, and not the live one."""
    given_seats(ledger)
    number = asking.post(f"{asking.meter('seats')}/rules_preview", event_time_window="day")["generation"]
    path = f"{PROJECTION}/generations"
    deleted = asking.send("DELETE", f"{path}/{number}")
    assert deleted.json() == {"object": "billing.projection_generation", "deleted": True, "number": number}
    (live,) = asking.get(PROJECTION)["generations"]
    assert live["state"] == "live"
    assert asking.refused("DELETE", f"{path}/{live['number']}") == (409, "generation_in_use", "generation")
    for given in (number, 0, -1, "x", "9" * 30, "\u0661"):
        assert asking.refused("DELETE", f"{path}/{given}") == (404, "resource_missing", "generation")
    assert asking.refused("DELETE", f"{path}/{number}", "read") == (403, "more_permissions_required", "")


def test_the_projection_tells_how_far_it_is(ledger: Ledger, asking: Asking, metering: Metering) -> None:
    """It isn't brought up to date by asking; of a generation under other rules these are told."""
    given_seats(ledger)
    position = ledger.position()
    ledger.given("12T10:00  acme seats 1")
    found = asking.get(PROJECTION)
    assert (found["object"], found["position"], found["lag"]) == ("billing.projection", position, 1)
    assert (found["head"], found["livemode"]) == (position + 1, True)
    meter = asking.meter("seats")
    asking.post(f"{meter}/rules_preview", event_time_window="day")
    now = asking.get(PROJECTION)
    assert (now["lag"], [one["state"] for one in now["generations"]]) == (0, ["live", "ready"])
    rules = {name: one["event_time_window"] for name, one in now["generations"][1]["rules"].items()}
    assert rules == {meter.rpartition("/")[2]: "day"}
    assert now["generations"][0]["rules"] == {}


def test_a_new_ledger_has_a_projection(asking: Asking) -> None:
    """Before anything was asked of it."""
    assert asking.get(PROJECTION)["lag"] >= 0
