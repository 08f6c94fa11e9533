"""Events and explanations: every use behind a figure, and what became of it."""

import pytest
from tallybook.application import Metering, TallybookError, Verdict

from ..notation import Ledger, moment


def test_an_explanation_tells_each_event_s_verdict(ledger: Ledger) -> None:
    """Counted, overwritten by which, or cancelled when, why and on whose word; with the payload as reported."""
    ledger.given("""
        meter  seats  sum per hour  by region
        10:05  acme seats 10  id=a  region=eu  note=x
        10:45  acme seats  4  id=b  region=eu
        10:50  acme seats  3  id=c  region=eu
        cancel c  at=11:00  reason=error  by=ops
    """)
    events = ledger.metering.explain("seats", "acme", moment("10:00"), moment("11:00")).events
    assert [one.verdict for one in events] == [Verdict.OVERWRITTEN, Verdict.COUNTED, Verdict.CANCELLED]
    first, second, third = events
    assert first.payload == {"customer": "acme", "seats": "10", "region": "eu", "note": "x"}
    assert (first.overwritten_by, second.overwritten_by, third.overwritten_by) == ("b", None, None)
    assert (third.cancelled_at, third.reason, third.by) == (moment("11:00"), "error", "ops")
    assert (first.event_name, first.customer, str(first.value), first.dimensions) == ("seats", "acme", "10", ("eu",))
    assert (first.occurred_at, first.recorded_at, first.position) == (moment("10:05"), moment("10:05"), 2)


def test_an_explanation_names_who_overwrote_from_outside_the_range(ledger: Ledger) -> None:
    """An event may be overwritten by one that the range doesn't hold."""
    ledger.given("""
        meter  seats  sum per hour
        10:05  acme seats 10  id=a
        10:45  acme seats  4  id=b
    """)
    (only,) = ledger.metering.explain("seats", "acme", moment("10:00"), moment("10:30")).events
    assert (only.identifier, only.verdict, only.overwritten_by) == ("a", "overwritten", "b")


def test_an_explanation_tells_rules_and_position(ledger: Ledger) -> None:
    """By which rules, and knowing the ledger up to where."""
    ledger.given("""
        meter  seats  last per day
        10:05  acme seats 10
        10:06  acme seats  4
    """)
    now = ledger.metering.explain("seats", "acme", moment("10:00"), moment("11:00"))
    then = ledger.metering.explain("seats", "acme", moment("10:00"), moment("11:00"), as_of=2)
    assert (now.formula, now.event_time_window, now.revision) == ("last", "day", 1)
    assert (now.position, then.position) == (3, 2)


def test_events_are_listed_by_the_time_they_occurred(ledger: Ledger) -> None:
    """By (occurred_at, position), of one customer or of all, in a half-open range open at either end."""
    ledger.given("""
        meter  calls  sum
        10:45  acme calls 1  id=a
        10:05  beta calls 2  id=b
        10:05  acme calls 3  id=c
        11:00  acme calls 4  id=d
    """)
    events = ledger.metering.events
    assert [one.identifier for one in events("calls")] == ["b", "c", "a", "d"]
    assert [one.identifier for one in events("calls", customer="acme")] == ["c", "a", "d"]
    assert [one.identifier for one in events("calls", start=moment("10:45"))] == ["a", "d"]
    assert [one.identifier for one in events("calls", end=moment("10:45"))] == ["b", "c"]
    assert [one.identifier for one in events("calls", start=moment("10:05"), end=moment("11:00"))] == ["b", "c", "a"]
    assert events("calls", customer="nobody") == []


def test_events_page_by_page(ledger: Ledger) -> None:
    """Each page starts after the last identifier of the one before; none is left out, none comes twice."""
    ledger.given("meter  calls  sum")
    for number in range(7):
        ledger.given(f"10:0{number // 3}  acme calls {number}  id=e{number}")
    listed: list[str] = []
    after = None
    while page := ledger.metering.events("calls", limit=2, starting_after=after):
        listed += [one.identifier for one in page]
        after = listed[-1]
    assert listed == [f"e{number}" for number in range(7)]


def test_an_overwritten_event_is_overwritten_on_every_page(ledger: Ledger) -> None:
    """A page that begins inside a window still knows the whole window."""
    ledger.given("""
        meter  seats  sum per hour
        10:30  acme seats 1  id=newest-but-one
        10:10  acme seats 2  id=newest
        10:20  acme seats 3  id=cancelled
        cancel cancelled
    """)
    (first,) = ledger.metering.events("seats", limit=1)
    rest = ledger.metering.events("seats", starting_after=first.identifier)
    assert [(one.identifier, str(one.verdict)) for one in (first, *rest)] == [
        ("newest", "counted"),
        ("cancelled", "cancelled"),
        ("newest-but-one", "overwritten"),
    ]


def test_one_event_is_told_as_the_list_tells_it(ledger: Ledger) -> None:
    """With its verdict, which rests on others of its window, of its customer alone, also at its very moment."""
    ledger.given("""
        meter  seats  sum per hour  by region
        10:05  acme seats 10  id=overwritten  region=eu
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
    listed = [one for meter in ("seats", "calls") for one in ledger.metering.events(meter)]
    assert len(listed) == 6
    assert [ledger.metering.event(one.identifier) for one in listed] == listed
    overwritten, counted = ledger.metering.event("overwritten"), ledger.metering.event("counted")
    assert (overwritten.verdict, overwritten.overwritten_by) == (Verdict.OVERWRITTEN, "counted")
    assert counted.verdict is Verdict.COUNTED


def test_one_event_is_told_as_it_was_known(ledger: Ledger) -> None:
    """As of a position or a moment, and under the rules of then, which may have named other customers."""
    ledger.given("""
        meter  seats  last per hour
        10:05  acme seats 10  id=a  region=eu
        10:06  beta seats 4  id=b  region=eu
        cancel a  at=11:00
    """)
    event = ledger.metering.event
    ledger.metering.change_rules("seats", {"customer_key": "region"}, reason="by region")
    assert (event("b").customer, str(event("b").verdict), event("a").verdict) == ("eu", "counted", "cancelled")
    assert (event("b", as_of=3).customer, event("a", as_of=3).verdict) == ("beta", "counted")
    assert event("a", as_of=moment("10:05")).verdict == "counted"
    assert event("a", as_of=moment("11:00")).verdict == "cancelled"
    for before in (1, moment("10:04")):
        with pytest.raises(TallybookError) as refused:
            event("a", as_of=before)
        assert (refused.value.code, refused.value.field) == ("no_meter_event", "identifier")


def test_a_list_goes_on_after_an_event_of_its_own_meter_only(metering: Metering) -> None:
    """A cursor that was mixed up is refused; it would leave events out unseen."""
    for event_name in ("calls", "seats"):
        metering.configure_meter(event_name)
        metering.record(event_name, {"stripe_customer_id": "acme", "value": "1"}, identifier=f"{event_name}-1")
    with pytest.raises(TallybookError) as refused:
        metering.events("calls", starting_after="seats-1")
    assert (refused.value.code, refused.value.field) == ("invalid_identifier", "starting_after")
