"""Totals of all customers over HTTP, and the events behind one."""

from decimal import Decimal
from typing import Any

from tallybook.application import Metering

from ...notation import Clock, Ledger
from .asking import DAY, Asking, unix

NOVEMBER: dict[str, Any] = {"start_time": unix("01T00:00"), "end_time": unix("30T00:00")}


def test_totals_of_all_customers(ledger: Ledger, asking: Asking) -> None:
    """By customer, with the exact figure; a negative one bills nothing; who has no usage isn't there."""
    ledger.given("""
        meter  calls  sum
        10:00  bolt calls 0.10
        10:01  bolt calls 0.20
        10:02  acme calls -3
        10:03  cora calls 7   id=c
        10:04  dune calls 123456789012.345
        cancel c
    """)
    meter = asking.meter("calls")
    listed = asking.get(f"{meter}/totals", **NOVEMBER)
    assert (listed["object"], listed["url"], listed["has_more"]) == ("list", f"{meter}/totals", False)
    assert [
        (one["customer"], str(one["aggregated_value"]), str(one["billable_value"]), one["count"])
        for one in listed["data"]
    ] == [("acme", "-3", "0", 1), ("bolt", "0.30", "0.30", 2), ("dune", "123456789012.345", "123456789012.345", 1)]
    bolt = listed["data"][1]
    assert (bolt["object"], bolt["sum"], bolt["last"]) == ("billing.meter_total", Decimal("0.30"), Decimal("0.20"))
    assert (bolt["start_time"], bolt["end_time"], bolt["livemode"]) == (*NOVEMBER.values(), True)
    assert meter.endswith(bolt["meter"])


def test_pages_of_totals_hold_while_customers_come_and_go(ledger: Ledger, asking: Asking) -> None:
    """Forward and backward, from a customer who has gone meanwhile too."""
    ledger.given("meter calls sum")
    for name in "bdfhjl":
        ledger.given(f"10:00 {name} calls 1 id={name}")
    path = f"{asking.meter('calls')}/totals"
    first = asking.get(path, **NOVEMBER, limit=3)
    assert [one["customer"] for one in first["data"]] == ["b", "d", "f"]
    assert first["has_more"]
    ledger.given("""
        cancel f
        10:00  a calls 1
        10:00  g calls 1
    """)
    cursor = first["data"][-1]["id"]
    second = asking.get(path, **NOVEMBER, limit=3, starting_after=cursor)
    assert [one["customer"] for one in second["data"]] == ["g", "h", "j"]
    before = asking.get(path, **NOVEMBER, limit=2, ending_before=cursor)
    assert ([one["customer"] for one in before["data"]], before["has_more"]) == (["b", "d"], True)
    assert [one["customer"] for one in asking.pages(path, **NOVEMBER, limit=2)] == list("abdghjl")


def test_a_long_name_is_paged_over_too(metering: Metering, clock: Clock, asking: Asking) -> None:
    """Its digest stands for it in the id, which has to fit into a URL."""
    metering.configure_meter("calls")
    names = ["a", "b" * 5_000, "ü" * 5_000, "z"]
    for name in names:
        metering.record("calls", {"stripe_customer_id": name, "value": "1"})
    range_of_now = {"start_time": int(clock.now.timestamp()), "end_time": int(clock.now.timestamp()) + DAY}
    found = asking.pages(f"{asking.meter('calls')}/totals", **range_of_now, limit=1)
    assert [one["customer"] for one in found] == sorted(names)
    assert max(len(one["id"]) for one in found) < 500


def test_totals_as_they_were_known(ledger: Ledger, asking: Asking) -> None:
    """By a position and by a moment."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 1
    """)
    position = ledger.position()
    ledger.given("11:00  acme calls 5")
    path = f"{asking.meter('calls')}/totals"

    def asked(**given: object) -> list[Decimal]:
        return [one["aggregated_value"] for one in asking.get(path, **NOVEMBER, **given)["data"]]

    assert asked() == [6]
    assert asked(as_of_position=position) == [1]
    assert asked(as_of=unix("10:59")) == [1]
    assert asked(as_of=unix("10:00") - 1) == []


def test_an_explanation_adds_up(ledger: Ledger, asking: Asking) -> None:
    """Every event is in it, those that don't count with nothing; all contributions are the figure."""
    ledger.given("""
        meter   seats  sum per hour by region
        10:05   acme seats 10   id=a  region=eu
        10:45   acme seats 4.5  id=b  region=eu
        11:05   acme seats 7    id=c  region=eu
        11:06   acme seats 2    id=d  region=us
        11:07   bolt seats 100  id=e  region=us
        cancel  c  reason=error
    """)
    meter = asking.meter("seats")
    found = asking.get(f"{meter}/explanation", customer="acme", **NOVEMBER)
    events = found["events"]["data"]
    assert [(one["identifier"], one["status"], str(one["contribution"])) for one in events] == [
        ("a", "overwritten", "0"), ("b", "counted", "4.5"), ("c", "cancelled", "0"), ("d", "counted", "2"),
    ]  # fmt: skip
    assert found["total"]["aggregated_value"] == sum(one["contribution"] for one in events) == Decimal("6.5")
    assert events[0]["overwritten_by"] == "b"
    assert (found["object"], found["formula"], found["event_time_window"]) == (
        "billing.meter_explanation", "sum", "hour",
    )  # fmt: skip
    assert (found["revision"], found["position"]) == (1, ledger.position())
    (listed,) = (
        one for one in asking.get(f"{meter}/totals", **NOVEMBER)["data"] if one["customer"] == "acme"
    )  # fmt: skip
    assert found["total"] == listed
    everybody = asking.get(f"{meter}/explanation", **NOVEMBER)
    assert (everybody["total"]["customer"], everybody["total"]["aggregated_value"]) == (None, Decimal("106.5"))


def test_an_explanation_as_it_was(ledger: Ledger, asking: Asking) -> None:
    """Of the figure of the day that the invoice was made, by the rules of that day, and with their revision."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 5  id=a
        10:06  acme calls 2  id=b
    """)
    position = ledger.position()
    ledger.given("""
        change calls last at=11:00
        cancel b
    """)
    path = f"{asking.meter('calls')}/explanation"
    now = asking.get(path, customer="acme", **NOVEMBER)
    assert (now["total"]["aggregated_value"], now["formula"], now["revision"]) == (5, "last", 2)
    for known in ({"as_of_position": position}, {"as_of": unix("10:59")}):
        then = asking.get(path, customer="acme", **NOVEMBER, **known)
        assert (then["total"]["aggregated_value"], then["formula"], then["revision"]) == (7, "sum", 1)
        assert then["position"] == position
        assert then["digest"] != now["digest"]


def test_an_explanation_is_whole_or_refused(metering: Metering, clock: Clock, asking: Asking) -> None:
    """10,000 events are explained; one more is refused, with what to do."""
    metering.configure_meter("calls")

    def report(count: int) -> None:
        one = {"event_name": "calls", "payload": {"stripe_customer_id": "acme", "value": "1"}}
        metering.record_many([one] * count)

    path = f"{asking.meter('calls')}/explanation"
    asked: dict[str, Any] = {
        "customer": "acme",
        "start_time": int(clock.now.timestamp()),
        "end_time": int(clock.now.timestamp()) + DAY,
    }
    report(10_000)
    assert len(asking.get(path, **asked)["events"]["data"]) == 10_000
    report(1)
    assert asking.refused("GET", path, **asked) == (400, "too_many_meter_events", "end_time")


def test_an_explanation_of_large_payloads_is_refused(metering: Metering, clock: Clock, asking: Asking) -> None:
    """Before all of them are held at once: 10,000 such events would be more than 2 GB."""
    metering.configure_meter("calls")
    large = {f"key {number}": "x" * 5_000 for number in range(48)}
    one = {"event_name": "calls", "payload": {"stripe_customer_id": "acme", "value": "1", **large}}
    at = int(clock.now.timestamp())
    metering.record_many([one] * 80)
    path = f"{asking.meter('calls')}/explanation"
    asked: dict[str, Any] = {"start_time": at, "end_time": at + DAY}
    assert len(asking.get(path, **asked)["events"]["data"]) == 80
    metering.record_many([one] * 10)
    assert asking.refused("GET", path, **asked) == (400, "too_many_meter_events", "end_time")


def test_what_is_no_total_is_refused(ledger: Ledger, asking: Asking) -> None:
    """With the parameter that says so."""
    ledger.given("""
        meter  calls  sum
        meter  bytes  sum
        10:05  acme calls 5  id=a
        10:05  acme bytes 5  id=b
    """)
    meter, other = asking.meter("calls"), asking.meter("bytes")
    path = f"{meter}/totals"
    assert asking.refused("GET", "/v1/billing/meters/mtr_none/totals", **NOVEMBER) == (404, "resource_missing", "id")
    assert asking.refused("GET", path, start_time=0) == (400, "parameter_missing", "end_time")
    assert asking.refused("GET", path, start_time=2, end_time=1) == (400, "invalid_time_range", "start_time")
    assert asking.refused("GET", path, **NOVEMBER, limit=10_001) == (400, "parameter_invalid", "limit")
    of_other = asking.get(f"{other}/totals", **NOVEMBER)["data"][0]["id"]
    of_time = asking.get(path, start_time=0, end_time=NOVEMBER["end_time"])["data"][0]["id"]
    for cursor in (of_other, of_time, "mtrtot_WzFd", "mtrtot_e30", "nonsense"):
        for param in ("starting_after", "ending_before"):
            assert asking.refused("GET", path, **NOVEMBER, **{param: cursor}) == (400, "resource_missing", param)
    explanation = f"{meter}/explanation"
    assert asking.refused("GET", explanation, customer="acme", start_time=1) == (400, "parameter_missing", "end_time")
    assert asking.refused("GET", explanation, **NOVEMBER, limit=5) == (400, "parameter_unknown", "limit")
    assert asking.refused("GET", explanation, "record", **NOVEMBER) == (403, "more_permissions_required", "")
    nowhere = "/v1/billing/meters/mtr_none/explanation"
    assert asking.refused("GET", nowhere, **NOVEMBER) == (404, "resource_missing", "id")
