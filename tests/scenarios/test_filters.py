"""Filters: events that don't match are stored, have the verdict `filtered`, and count once the filter changes."""

import pytest
from tallybook.application import Verdict
from tallybook.domain.errors import IncompatibleRules

from ..notation import Ledger, moment

DAY = moment("10"), moment("11")


def test_an_event_that_does_not_match_is_stored_and_not_counted(ledger: Ledger) -> None:
    """It is accepted, listed and explained, and contributes nothing."""
    ledger.given("meter  calls  sum  where kind=ok|warn").when("""
        10:05  acme calls 10  id=a  kind=ok
        10:15  acme calls  4  id=b  kind=error
        10:25  acme calls  7  id=c  kind=warn
        10:35  acme calls  1  id=d
    """).outcomes_are("accepted", "accepted", "accepted", "accepted")
    ledger.then(total="acme calls 17", count=2)
    assert ledger.explanation("acme calls") == ["a counted", "b filtered", "c counted", "d filtered"]
    assert ledger.contributions("acme calls") == ["a 10", "b 0", "c 7", "d 0"]
    event = ledger.metering.event("b")
    assert (event.verdict, event.value, event.superseded_by) == (Verdict.FILTERED, None, None)
    assert event.payload == {"customer": "acme", "calls": "4", "kind": "error"}


def test_a_filtered_event_needs_a_customer_only(ledger: Ledger) -> None:
    """Its value may be missing or no number, and dimensions may be missing: it may be of another kind."""
    ledger.given("meter  calls  sum  by region  where kind=ok")
    ledger.when("""
        10:05  acme calls -     kind=other
        10:15  acme calls many  kind=other
        10:25  acme calls 1     kind=ok
        10:35  acme calls -     kind=ok  region=eu
        10:45  acme calls many  kind=ok  region=eu
        10:55  acme calls 1     kind=ok  region=eu
    """).outcomes_are(
        "accepted", "accepted", "missing_dimension_payload_keys", "payload_no_value_defined", "payload_invalid_value",
        "accepted",
    )  # fmt: skip
    (receipt,) = ledger.metering.record_many([{"event_name": "calls", "payload": {"kind": "other"}}])
    assert receipt.error is not None
    assert receipt.error.code == "payload_no_customer_defined"
    ledger.then(total="acme calls 1", count=1)


def test_a_filtered_event_supersedes_nothing(ledger: Ledger) -> None:
    """The newest event of the hour that matches counts; cancelling it restores the one before."""
    ledger.given("""
        meter  seats  last per hour  where kind=ok
        10:05  acme seats 10  id=a  kind=ok
        10:15  acme seats  4  id=b  kind=ok
        10:25  acme seats  7  id=c  kind=test
    """)
    ledger.then(total="acme seats 4", count=1)
    assert ledger.explanation("acme seats") == ["a superseded by b", "b counted", "c filtered"]
    ledger.given("cancel b")
    ledger.then(total="acme seats 10")
    assert ledger.explanation("acme seats") == ["a counted", "b cancelled", "c filtered"]


def test_a_cancelled_event_that_does_not_match_is_cancelled(ledger: Ledger) -> None:
    """Its verdict says that it was cancelled, with the reason; the total is the same."""
    ledger.given("""
        meter  calls  count  where kind=ok
        10:05  acme calls 1  id=a  kind=test
        10:15  acme calls 1  id=b  kind=ok
        cancel a  reason=error
    """)
    ledger.then(total="acme calls 1")
    assert ledger.explanation("acme calls") == ["a cancelled", "b counted"]
    assert ledger.metering.event("a").reason == "error"


def test_events_count_once_the_filter_changes(ledger: Ledger) -> None:
    """Those that matched before don't count any more; as of before the change, they do."""
    ledger.given("""
        meter  calls  sum  where kind=ok
        10:05  acme calls 10  id=a  kind=ok
        10:15  acme calls  4  id=b  kind=test
        change calls  sum  where kind=test  at=11:00
    """)
    ledger.then(total="acme calls 4").then(total="acme calls 10", as_of="10:30")
    assert ledger.explanation("acme calls") == ["a filtered", "b counted"]
    assert ledger.explanation("acme calls", as_of=3) == ["a counted", "b filtered"]
    ledger.given("change calls sum")
    ledger.then(total="acme calls 14")
    ledger.given("change calls sum where kind=ok")
    ledger.then(total="acme calls 10", as_of=3).then(total="acme calls 10")


def test_the_difference_of_a_filter_is_seen_first(ledger: Ledger) -> None:
    """A candidate counts under the filter, and the live totals stay until it is promoted."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10  kind=ok
        10:15  acme calls  4  kind=test
        10:25  beta calls  3  kind=ok
    """)
    candidate = ledger.metering.generations.build_candidate("calls", {"filter": {"key": "kind", "equals": "ok"}})
    (difference,) = ledger.metering.generations.diff(candidate.number).differences
    assert (difference.customer, difference.before, difference.after, difference.difference) == ("acme", 14, 10, -4)
    ledger.then(total="acme calls 14")


def test_a_filter_is_not_lifted_while_events_lack_what_they_need(ledger: Ledger) -> None:
    """The error names the events that would have no value."""
    ledger.given("""
        meter  calls  sum  where kind=ok
        10:05  acme calls 10  kind=ok
        10:15  acme calls  -  kind=other
    """)
    with pytest.raises(IncompatibleRules) as exc_info:
        ledger.metering.rules.change("calls", {"filter": None}, reason="a test")
    assert exc_info.value.count == 1
    ledger.when("""
        change calls sum
        change calls count
    """).outcomes_are("incompatible_rules", "changed")
    ledger.then(total="acme calls 2")


def test_a_number_is_compared_as_a_number(ledger: Ledger) -> None:
    """9 is less than 10, and a text that is no number doesn't match."""
    ledger.given("""
        meter  calls  count  where size>=9,size<100
        10:05  acme calls 1  id=a  size=9.0
        10:15  acme calls 1  id=b  size=10
        10:25  acme calls 1  id=c  size=8.99
        10:35  acme calls 1  id=d  size=100
        10:45  acme calls 1  id=e  size=large
        10:55  acme calls 1  id=f
    """)
    ledger.then(total="acme calls 2")
    assert ledger.contributions("acme calls") == ["a 1", "b 1", "c 0", "d 0", "e 0", "f 0"]


@pytest.mark.parametrize(
    ("where", "counted"),
    [
        ("kind=ok", "a"),
        ("kind!=ok", "bcd"),
        ("kind=ok|test", "ab"),
        ("kind!=ok|test", "cd"),
        ("kind", "abc"),
        ("kind!", "d"),
        ("kind,plan!", "ac"),
        ("kind!=ok,plan=free", "bd"),
    ],
)
def test_conditions_combine(ledger: Ledger, where: str, counted: str) -> None:
    """A missing key equals no text; the empty text is a text."""
    ledger.given(f"""
        meter  calls  count  where {where}
        10:05  acme calls 1  id=a  kind=ok
        10:15  acme calls 1  id=b  kind=test  plan=free
        10:25  acme calls 1  id=c  kind=
        10:35  acme calls 1  id=d  plan=free
    """)
    contributions = ledger.contributions("acme calls")
    assert [line.split()[0] for line in contributions if line.endswith(" 1")] == list(counted)


def test_groups_leave_out_filtered_events(ledger: Ledger) -> None:
    """A group with filtered events only doesn't exist; so does a customer without others."""
    ledger.given("""
        meter  calls  sum  by region?  where kind=ok
        10:05  acme calls 1  region=eu  kind=ok
        10:15  acme calls 2  region=us  kind=test
        10:25  acme calls 4             kind=ok
        10:35  beta calls 8  region=eu  kind=test
    """)
    assert ledger.groups("* calls by region") == ["- 4", "eu 1"]
    assert ledger.totals("calls") == ["acme 5"]
    assert ledger.metering.verify().is_equal


def test_a_closed_period_stays_when_the_filter_changes(ledger: Ledger) -> None:
    """The difference is by the rules in force, which isn't owed; a late filtered event is listed and adds nothing."""
    ledger.given("""
        meter  calls  sum  where kind=ok
        10:05  acme calls 5  id=a  kind=ok
        10:15  acme calls 3  id=b  kind=test
        close  acme calls 10 11  at=11T02:00
        10:25  acme calls 2  id=c  kind=test
    """)
    assert ledger.adjustments("calls") == ["acme 10: +0, c filtered +0"]
    ledger.given("change calls sum")
    assert ledger.closed_periods("calls") == ["acme 10: 5"]
    assert ledger.adjustments("calls") == ["acme 10: +0, c filtered +0, by the rules in force +5"]
    assert ledger.metering.verify().is_equal


def test_a_retry_of_a_filtered_event_is_a_duplicate(ledger: Ledger) -> None:
    """Its identifier is taken as any other."""
    ledger.given("meter calls sum where kind=ok")
    ledger.when("""
        10:05  acme calls 5  id=a  kind=test
        10:05  acme calls 5  id=a  kind=test
        10:05  acme calls 5  id=a  kind=ok
    """).outcomes_are("accepted", "duplicate", "duplicate_meter_event")
    ledger.then(total="acme calls 0", count=0)
