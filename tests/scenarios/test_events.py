"""Events and explanations: every meter event of a total, with its verdict."""

import pytest
from tallybook.application import Metering, TallybookError, Verdict

from ..notation import Ledger, moment


def test_an_explanation_has_each_event_s_verdict(ledger: Ledger) -> None:
    """Counted, superseded by an identifier, or cancelled with time, reason and author; with the submitted payload."""
    ledger.given("""
        meter  seats  sum per hour  by region
        10:05  acme seats 10  id=a  region=eu  note=x
        10:45  acme seats  4  id=b  region=eu
        10:50  acme seats  3  id=c  region=eu
        cancel c  at=11:00  reason=error  by=ops
    """)
    events = ledger.metering.explain("seats", "acme", moment("10:00"), moment("11:00")).events
    assert [event.verdict for event in events] == [Verdict.SUPERSEDED, Verdict.COUNTED, Verdict.CANCELLED]
    first, second, third = events
    assert first.payload == {"customer": "acme", "seats": "10", "region": "eu", "note": "x"}
    assert (first.superseded_by, second.superseded_by, third.superseded_by) == ("b", None, None)
    assert (third.cancelled_at, third.reason, third.by) == (moment("11:00"), "error", "ops")
    assert (first.event_name, first.customer, str(first.value)) == ("seats", "acme", "10")
    assert first.dimensions == {"region": "eu"}
    assert (first.occurred_at, first.recorded_at, first.position) == (moment("10:05"), moment("10:05"), 2)


def test_a_range_lists_the_events_of_whole_windows(ledger: Ledger) -> None:
    """Explanations and lists have the events of the windows that start in the range, also those after its end."""
    ledger.given("""
        meter  seats  sum per hour
        10:05  acme seats 10  id=a
        10:45  acme seats  4  id=b
    """)
    first, second = ledger.metering.explain("seats", "acme", moment("10:00"), moment("10:30")).events
    assert (first.identifier, first.verdict, first.superseded_by) == ("a", "superseded", "b")
    assert (second.identifier, second.verdict) == ("b", "counted")
    listed = ledger.metering.events("seats", start=moment("10:00"), end=moment("10:30"))
    assert [event.identifier for event in listed] == ["a", "b"]
    page = ledger.metering.events("seats", start=moment("10:00"), end=moment("10:30"), starting_after="a")
    assert [event.identifier for event in page] == ["b"]
    assert ledger.metering.explain("seats", "acme", moment("10:30"), moment("11:00")).events == ()
    assert ledger.metering.events("seats", start=moment("10:30"), end=moment("11:00")) == []


def test_an_explanation_has_rules_and_position(ledger: Ledger) -> None:
    """It has the rules and the position of the ledger."""
    ledger.given("""
        meter  seats  last per day
        10:05  acme seats 10
        10:06  acme seats  4
    """)
    now = ledger.metering.explain("seats", "acme", moment("10:00"), moment("11:00"))
    earlier = ledger.metering.explain("seats", "acme", moment("10:00"), moment("11:00"), as_of=2)
    assert (now.formula, now.event_time_window, now.revision) == ("last", "day", 1)
    assert (now.position, earlier.position) == (3, 2)


def test_events_are_listed_by_the_time_they_occurred(ledger: Ledger) -> None:
    """The order is (occurred_at, position), of one or all customers; start and end of the range are optional."""
    ledger.given("""
        meter  calls  sum
        10:45  acme calls 1  id=a
        10:05  beta calls 2  id=b
        10:05  acme calls 3  id=c
        11:00  acme calls 4  id=d
    """)
    events = ledger.metering.events
    assert [event.identifier for event in events("calls")] == ["b", "c", "a", "d"]
    assert [event.identifier for event in events("calls", customer="acme")] == ["c", "a", "d"]
    assert [event.identifier for event in events("calls", start=moment("10:45"))] == ["a", "d"]
    assert [event.identifier for event in events("calls", end=moment("10:45"))] == ["b", "c"]
    assert [event.identifier for event in events("calls", start=moment("10:05"), end=moment("11:00"))] == [
        "b",
        "c",
        "a",
    ]
    assert events("calls", customer="nobody") == []


def test_events_page_by_page(ledger: Ledger) -> None:
    """Each page starts after the last identifier of the previous one; no event is missing or repeated."""
    ledger.given("meter  calls  sum")
    for number in range(7):
        ledger.given(f"10:0{number // 3}  acme calls {number}  id=e{number}")
    listed: list[str] = []
    after = None
    while page := ledger.metering.events("calls", limit=2, starting_after=after):
        listed += [event.identifier for event in page]
        after = listed[-1]
    assert listed == [f"e{number}" for number in range(7)]


def test_a_superseded_event_is_superseded_on_every_page(ledger: Ledger) -> None:
    """A page that starts inside a window uses the events of the whole window."""
    ledger.given("""
        meter  seats  sum per hour
        10:30  acme seats 1  id=newest-but-one
        10:10  acme seats 2  id=newest
        10:20  acme seats 3  id=cancelled
        cancel cancelled
    """)
    (first,) = ledger.metering.events("seats", limit=1)
    rest = ledger.metering.events("seats", starting_after=first.identifier)
    assert [(event.identifier, str(event.verdict)) for event in (first, *rest)] == [
        ("newest", "counted"),
        ("cancelled", "cancelled"),
        ("newest-but-one", "superseded"),
    ]


def test_one_event_equals_its_list_entry(ledger: Ledger) -> None:
    """Its verdict is the same, although it depends on other events of the same window and customer."""
    ledger.given("""
        meter  seats  sum per hour  by region
        10:05  acme seats 10  id=superseded  region=eu
        10:45  acme seats  4  id=counted  region=eu
        10:45  beta seats  5  id=of-another-customer  region=eu
        10:45  acme seats  6  id=of-another-region  region=us
        10:50  acme seats  3  id=cancelled  region=eu
        cancel cancelled  at=11:00  reason=error  by=ops
    """)
    ledger.given("""
        meter  calls  sum
        10:45  acme calls 1  id=of-another-meter
    """)
    listed = [event for meter in ("seats", "calls") for event in ledger.metering.events(meter)]
    assert len(listed) == 6
    assert [ledger.metering.event(event.identifier) for event in listed] == listed
    superseded, counted = ledger.metering.event("superseded"), ledger.metering.event("counted")
    assert (superseded.verdict, superseded.superseded_by) == (Verdict.SUPERSEDED, "counted")
    assert counted.verdict is Verdict.COUNTED


def test_one_event_as_of_a_position(ledger: Ledger) -> None:
    """The event is parsed under the rules in force at the position or time, which may have another customer key."""
    ledger.given("""
        meter  seats  last per hour
        10:05  acme seats 10  id=a  region=eu
        10:06  beta seats 4  id=b  region=eu
        cancel a  at=11:00
    """)
    event = ledger.metering.event
    ledger.metering.rules.change("seats", {"customer_key": "region"}, reason="by region")
    assert (event("b").customer, str(event("b").verdict), event("a").verdict) == ("eu", "counted", "cancelled")
    assert (event("b", as_of=3).customer, event("a", as_of=3).verdict) == ("beta", "counted")
    assert event("a", as_of=moment("10:05")).verdict == "counted"
    assert event("a", as_of=moment("11:00")).verdict == "cancelled"
    for before in (1, moment("10:04")):
        with pytest.raises(TallybookError) as exc_info:
            event("a", as_of=before)
        assert (exc_info.value.code, exc_info.value.field) == ("meter_event_not_found", "identifier")


def test_a_list_continues_only_after_an_event_of_its_own_meter(metering: Metering) -> None:
    """A cursor of another meter is rejected, because it would skip events."""
    for event_name in ("calls", "seats"):
        metering.meters.configure(event_name)
        metering.record(event_name, {"stripe_customer_id": "acme", "value": "1"}, identifier=f"{event_name}-1")
    with pytest.raises(TallybookError) as exc_info:
        metering.events("calls", starting_after="seats-1")
    assert (exc_info.value.code, exc_info.value.field) == ("invalid_identifier", "starting_after")
