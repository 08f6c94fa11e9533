"""Revocations of single cancellations, and cancellations of many meter events by one decision."""

from ...notation import Ledger
from .api_client import ApiClient, Json

ADJUSTMENTS, CANCELLATIONS = "/v1/billing/meter_event_adjustments", "/v1/billing/meter_event_cancellations"


def test_a_cancellation_is_revoked(ledger: Ledger, api: ApiClient) -> None:
    """The event counts again, and its history is part of it; a second request returns the same."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5  id=a
        cancel a  reason=test  by=ops
    """)
    revoke: Json = {"event_name": "calls", "cancel": {"identifier": "a"}, "reason": "mistake", "by": "finance"}
    revoked = api.post(f"{ADJUSTMENTS}/revoke", **revoke)
    assert (revoked["object"], revoked["reason"], revoked["by"], revoked["on_behalf_of"]) == (
        "billing.meter_event_revocation", "mistake", api.author(), "finance",
    )  # fmt: skip
    assert api.post(f"{ADJUSTMENTS}/revoke", **revoke) == revoked
    ledger.then(total="acme calls 5")
    (event,) = api.get("/v1/billing/meter_events", event_name="calls")["data"]
    (history,) = event["revoked_cancellations"]
    assert (event["status"], event["cancellation"]) == ("counted", None)
    assert (history["reason"], history["by"], history["revocation_reason"], history["revoked_by"]) == (
        "test", "ops", "mistake", api.author(),
    )  # fmt: skip
    unknown: Json = {"event_name": "calls", "cancel": {"identifier": "b"}, "reason": "mistake"}
    code = "invalid_cancel_configuration"
    assert api.error("POST", f"{ADJUSTMENTS}/revoke", **unknown) == (400, code, "cancel[identifier]")


def test_a_preview_is_not_stored(ledger: Ledger, api: ApiClient) -> None:
    """With an idempotency key too: the second request previews what was recorded meanwhile."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5  id=w-1
    """)
    key: Json = {"Idempotency-Key": "one"}
    selection: Json = {"event_name": "calls", "identifier_prefix": "w-"}
    assert api.send("POST", f"{CANCELLATIONS}/preview", "read", headers=key, **selection).json()["count"] == 1
    ledger.given("10:01  acme calls 6  id=w-2")
    assert api.send("POST", f"{CANCELLATIONS}/preview", "read", headers=key, **selection).json()["count"] == 2


def test_many_events_are_previewed_cancelled_and_counted_again(ledger: Ledger, api: ApiClient) -> None:
    """The digest of the preview is required to match; the decision is listed with its progress."""
    ledger.given("""
        meter  calls  sum  by region
        10:00  acme calls 5  id=w-1  region=eu
        10:01  acme calls 6  id=w-2  region=us
        10:02  beta calls 7  id=w-3  region=eu
        10:03  beta calls 8  id=ok   region=eu
        cancel w-2
    """)
    selection: Json = {"event_name": "calls", "identifier_prefix": "w-"}
    preview = api.post(f"{CANCELLATIONS}/preview", **selection)
    assert (preview["count"], preview["already_cancelled"], preview["too_old"]) == (2, 1, 0)
    assert [
        (row["customer"], row["aggregated_value"], row["new_aggregated_value"], row["difference"])
        for row in preview["rows"]
    ] == [("acme", 5, 0, -5), ("beta", 15, 8, -7)]
    create: Json = {**selection, "reason": "a wrong file", "digest": preview["digest"]}
    assert api.error("POST", CANCELLATIONS, **create | {"digest": "0"}) == (409, "preview_changed", "digest")
    cancelled = api.post(CANCELLATIONS, **create)
    assert (cancelled["status"], cancelled["count"], cancelled["cancelled_count"]) == ("cancelled", 2, 2)
    assert cancelled["selection"]["identifier_prefix"] == "w-"
    ledger.then(total="* calls 8")
    path, head = f"{CANCELLATIONS}/{cancelled['id']}", ledger.position()
    assert api.get(path) == api.post(f"{path}/resume") == cancelled
    revoked = api.post(f"{path}/revoke", reason="it was right", by="finance")
    assert (revoked["status"], revoked["revoked_count"], revoked["revocation"]["by"]) == ("revoked", 2, api.author())
    ledger.then(total="* calls 20")
    assert api.get(CANCELLATIONS, event_name="calls")["data"] == [revoked]
    assert api.get(path, as_of_position=head)["status"] == "cancelled"
    assert api.get(CANCELLATIONS, as_of_position=1)["data"] == []
    everything: Json = {"event_name": "calls", "reason": "why"}
    assert api.error("POST", CANCELLATIONS, **everything) == (400, "parameter_invalid", "customer")
    assert api.error("GET", f"{CANCELLATIONS}/unknown") == (404, "resource_missing", "id")
    in_the_us: Json = {"event_name": "calls", "dimension_filters": {"region": "us"}}
    assert api.post(f"{CANCELLATIONS}/preview", **in_the_us)["already_cancelled"] == 1
