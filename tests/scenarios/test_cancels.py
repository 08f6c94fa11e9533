"""Cancels: a cancelled event counts as if it had never been reported."""

from ..notation import Ledger


def test_a_cancelled_event_counts_no_more(ledger: Ledger) -> None:
    """A cancel takes the event out of sum, count and last."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10  id=a
        10:45  acme calls  4  id=b
        cancel b
    """)
    ledger.then(total="acme calls 10", count=1, last="10")
    assert ledger.explained("acme calls") == ["a counted", "b cancelled"]


def test_a_cancelled_report_uncovers_the_one_it_replaced(ledger: Ledger) -> None:
    """In an hourly window the previous report counts again once the newest is cancelled."""
    ledger.given("""
        meter  seats  last per hour
        10:05  acme seats 10  id=a
        10:45  acme seats  4  id=b
        cancel b
    """)
    ledger.then(total="acme seats 10")


def test_a_cancel_uncovers_the_previous_arrival_not_the_previous_timestamp(ledger: Ledger) -> None:
    """What a cancel uncovers is the newest arrival of the rest."""
    ledger.given("""
        meter  seats  last per day
        10:50  acme seats 1  id=a
        10:10  acme seats 2  id=b
        10:30  acme seats 3  id=c
        cancel c
    """)
    ledger.then(total="acme seats 2", count=1)
    assert ledger.explained("acme seats") == ["b counted", "c cancelled", "a overwritten by b"]


def test_cancelling_an_overwritten_report_changes_no_figure(ledger: Ledger) -> None:
    """What didn't count can be cancelled too; then it can't be uncovered any more."""
    ledger.given("""
        meter  seats  sum per hour
        10:05  acme seats 10  id=a
        10:45  acme seats  4  id=b
        cancel a
    """)
    ledger.then(total="acme seats 4", count=1)
    ledger.given("cancel b").then(total="acme seats 0", count=0, last="None")


def test_cancelling_twice_is_one_cancel(ledger: Ledger) -> None:
    """The second cancel gives the first cancellation, with its reason and time, and writes nothing."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10  id=a
        cancel a  at=10:06  reason=error  by=ops
    """)
    head = ledger.position()
    ledger.clock.now = ledger.clock.now.replace(hour=11)
    again = ledger.metering.cancel("calls", "a", reason="another", by="somebody")
    assert (again.reason, again.by, f"{again.cancelled_at:%H:%M}") == ("error", "ops", "10:06")
    assert ledger.position() == head
    ledger.then(total="acme calls 0")


def test_a_cancelled_event_can_be_cancelled_again_for_ever(ledger: Ledger) -> None:
    """The time to cancel binds the first cancel only: a retry years later is given the first."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10  id=a
        cancel a
        cancel a  at=2030-01-01T00:00
    """)


def test_a_cancel_names_the_meter_of_its_event(ledger: Ledger) -> None:
    """Another meter's event can't be cancelled, and stays counted."""
    ledger.given("""
        meter  calls  sum
        meter  seats  sum
        10:05  acme calls 10  id=a
    """)
    ledger.when("cancel a  of=seats").answered("invalid_cancel_configuration")
    ledger.then(total="acme calls 10")


def test_a_cancel_within_24_hours_of_recording(ledger: Ledger) -> None:
    """The time to cancel runs from recorded_at, not from occurred_at: a late report can be cancelled."""
    ledger.given("""
        meter  calls  sum
        05T10:00  acme calls 10  id=a  recorded=10:00
        cancel a  at=11T10:00
    """)
    ledger.then(total="acme calls 0")


def test_a_cancel_after_24_hours_is_refused(ledger: Ledger) -> None:
    """One microsecond later than 24 hours after its recording, the event stays counted."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 10  id=a
    """)
    ledger.when("cancel a  at=11T10:00:00.000001").answered("invalid_cancel_configuration")
    ledger.then(total="acme calls 10")


def test_what_was_never_recorded_is_not_cancelled(ledger: Ledger) -> None:
    """An unknown identifier, an unknown meter, and an identifier that was only refused."""
    ledger.given("meter  calls  sum")
    ledger.when("""
        10:05  acme calls ten  id=refused
        cancel refused  of=calls
        cancel nobody   of=calls
        cancel nobody   of=nothing
    """).answered("payload_invalid_value", "invalid_cancel_configuration", "invalid_cancel_configuration", "no_meter")


def test_a_cancel_and_a_new_report_correct_a_figure(ledger: Ledger) -> None:
    """A wrong report is corrected by cancelling it and reporting again under another identifier."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 1000  id=wrong
        cancel wrong
        10:05  acme calls 10    id=right
    """)
    ledger.then(total="acme calls 10", count=1)


def test_a_cancel_leaves_the_other_customers_and_hours_alone(ledger: Ledger) -> None:
    """Counting a bucket anew counts all else in it as before."""
    ledger.given("""
        meter  calls  sum  by region
        10:05  acme calls 1   id=a  region=eu
        10:06  acme calls 2   id=b  region=us
        10:07  beta calls 4   id=c  region=eu
        11:05  acme calls 8   id=d  region=eu
        11T10:05  acme calls 16  id=e  region=eu
    """)
    ledger.then(total="* calls 31")
    ledger.given("cancel a").then(total="* calls 30", count=4)
    ledger.then(total="acme calls 2", between="10:00 11:00").then(total="acme calls 8", between="11:00 12:00")
