"""Closed periods: the figure of an invoice stays, and what comes later is owed on the period that it belongs to."""

from collections.abc import Callable
from datetime import datetime

from tallybook.application import Metering

from ..notation import Clock, Ledger, moment


def test_late_usage_leaves_the_frozen_figure_and_is_owed_on_its_own_period(ledger: Ledger) -> None:
    """What happened on the 10th is owed on the 10th, also where it is told on the 12th."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5  id=a
        close  acme calls 10 11  at=11T01:00
        11T10:00  acme calls 3  id=b
        close  acme calls 11 12  at=12T01:00
        11:00  acme calls 2  id=late  recorded=12T02:00
    """)
    assert ledger.closed("calls") == ["acme 10: 5", "acme 11: 3"]
    assert ledger.owed("calls") == ["acme 10: +2, late counted +2"]


def test_closing_again_gives_the_first_answer(ledger: Ledger) -> None:
    """Also when usage came in between; nothing is written."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5
        close  acme calls 10 11  at=11T01:00
        11:00  acme calls 2  recorded=11T02:00
    """)
    head = ledger.position()
    ledger.when("close  acme calls 10 11  at=11T03:00").answered("closed 5")
    assert ledger.position() == head


def test_a_cancel_after_the_closing_is_owed_back(ledger: Ledger) -> None:
    """What counted is taken back, whole; what came late and was cancelled too is listed and changes nothing."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5  id=a
        10:01  acme calls 3  id=b
        close  acme calls 10 11  at=11T01:00
        cancel b
        11:00  acme calls 2  id=late  recorded=11T02:00
        cancel late
    """)
    assert ledger.owed("calls") == ["acme 10: -3, b cancelled -3, late cancelled +0"]


def test_a_cancel_before_the_closing_is_not_owed(ledger: Ledger) -> None:
    """A period to which nothing happened since has no adjustment."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5  id=a
        10:01  acme calls 3  id=b
        cancel b
        close  acme calls 10 11  at=11T01:00
    """)
    assert ledger.owed("calls") == []


def test_a_negative_report_corrects_a_closed_figure(ledger: Ledger) -> None:
    """A figure below 0 bills 0, so that never more is owed back than was billed."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5  id=a
        close  acme calls 10 11  at=11T01:00
        10:00  acme calls -7  id=b  recorded=11T02:00
    """)
    assert ledger.owed("calls") == ["acme 10: -7, b counted -7"]
    (owed,) = ledger.metering.adjustments("calls")
    assert (owed.quantity, owed.billable, owed.difference, owed.billable_difference) == (-2, 0, -7, -5)


def test_a_negative_total_bills_nothing(ledger: Ledger) -> None:
    """The figure stays negative; what comes later is billed only as far as it rises above 0."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls -5  id=a
        close  acme calls 10 11  at=11T01:00
    """)
    (closed,) = ledger.metering.closed_periods("calls")
    assert (closed.quantity, closed.billable) == (-5, 0)
    ledger.given("10:00  acme calls 8  id=b  recorded=11T02:00")
    (owed,) = ledger.metering.adjustments("calls")
    assert (owed.difference, owed.billable_difference) == (8, 3)


def test_a_count_counts_late_reports(ledger: Ledger) -> None:
    """One for each, whatever their values."""
    ledger.given("""
        meter  logins  count
        10:00  acme logins -  id=a
        10:01  acme logins -  id=b
        close  acme logins 10 11  at=11T01:00
        10:02  acme logins -  id=late  recorded=11T02:00
        cancel a
    """)
    assert ledger.owed("logins") == ["acme 10: +0, a cancelled -1, late counted +1"]


def test_the_last_value_moves_to_a_later_report(ledger: Ledger) -> None:
    """The one that was last gives up what it added to the figure; late ones that are not last change nothing."""
    ledger.given("""
        meter  seats  last
        10:00  acme seats 10  id=a
        12:00  acme seats  4  id=b
        close  acme seats 10 11  at=11T01:00
        11:00  acme seats  7  id=between  recorded=11T02:00
        13:00  acme seats  9  id=after    recorded=11T02:00
    """)
    assert ledger.owed("seats") == ["acme 10: +5, between counted +0, b counted -4, after counted +9"]


def test_the_last_value_moves_back_where_the_last_report_is_cancelled(ledger: Ledger) -> None:
    """The one before it, to which nothing happened itself, is told with what it adds now."""
    ledger.given("""
        meter  seats  last
        08:00  acme seats  3  id=first
        10:00  acme seats 10  id=a
        12:00  acme seats  4  id=b
        close  acme seats 10 11  at=11T01:00
        cancel b
    """)
    assert ledger.owed("seats") == ["acme 10: +6, a counted +10, b cancelled -4"]


def test_a_late_report_overwrites_in_its_window(ledger: Ledger) -> None:
    """In a window the one that counted is told with the one that took its place; a cancel puts it back."""
    ledger.given("""
        meter  seats  sum per hour
        10:05  acme seats 10  id=a
        11:05  acme seats  1  id=b
        close  acme seats 10 11  at=11T01:00
        10:01  acme seats  4  id=late  recorded=11T02:00
    """)
    assert ledger.owed("seats") == ["acme 10: -6, late counted +4, a overwritten -10"]
    ledger.given("cancel late")
    assert ledger.owed("seats") == ["acme 10: +0, late cancelled +0"]


def test_a_report_of_the_next_period_may_overwrite_in_a_window_that_both_share(ledger: Ledger) -> None:
    """What is overwritten from outside is owed back on its own period, and added to the other one."""
    ledger.given("""
        meter  seats  sum per day
        10T10:00  acme seats 10  id=a
        close  acme seats 10T00:00 10T12:00  at=10T13:00
        10T14:00  acme seats  4  id=b
    """)
    assert ledger.owed("seats") == ["acme 10: -10, a overwritten -10"]
    ledger.then(total="acme seats 4", between="10T12:00 11")


def test_a_reopened_period_is_closed_anew_and_both_closings_are_kept(ledger: Ledger) -> None:
    """With who asked and why; what is owed is told of the standing one only."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5  id=a
        close  acme calls 10 11  at=11T01:00
        11:00  acme calls 2  id=b  recorded=11T02:00
        reopen  acme calls 10 11  reason=error  by=ops
    """)
    assert ledger.owed("calls") == []
    ledger.given("""
        close  acme calls 10 11
        12:00  acme calls 1  id=c  recorded=11T03:00
    """)
    assert ledger.closed("calls") == ["acme 10: 5 reopened", "acme 10: 7"]
    assert ledger.owed("calls") == ["acme 10: +1, c counted +1"]
    (reopened,) = (one for one in ledger.metering.closed_periods("calls", reopened=True) if not one.is_standing)
    assert (reopened.reason, reopened.by, reopened.reopened_at) == ("error", "ops", moment("11T02:00"))
    assert [one.quantity for one in ledger.metering.closed_periods("calls")] == [7]


def test_closed_periods_as_of(ledger: Ledger) -> None:
    """What was closed, reopened and owed then is answered for ever."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5  id=a
        close  acme calls 10 11  at=11T01:00
        11:00  acme calls 2  id=b  recorded=11T02:00
        11:00  acme calls 3  id=c  recorded=11T03:00
        reopen  acme calls 10 11  reason=error
        close  acme calls 10 11  at=11T04:00
    """)
    assert ledger.closed("calls", as_of="11T00:59") == []
    assert ledger.closed("calls", as_of="11T01:00") == ["acme 10: 5"]
    assert ledger.closed("calls", as_of="11T03:00") == ["acme 10: 5 reopened"]
    assert ledger.closed("calls", as_of="11T04:00") == ["acme 10: 5 reopened", "acme 10: 10"]
    assert ledger.owed("calls", as_of="11T01:00") == []
    assert ledger.owed("calls", as_of="11T02:00") == ["acme 10: +2, b counted +2"]
    assert ledger.owed("calls", as_of=5) == ["acme 10: +5, b counted +2, c counted +3"]
    assert ledger.owed("calls") == []


def test_other_rules_are_told_apart_from_what_is_owed(ledger: Ledger) -> None:
    """A closed period is counted on by the rules that it was closed with; what new ones would make of it is no debt."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5  id=a
        close  acme calls 10 11  at=11T01:00
        change calls  count
        11:00  acme calls 2  id=b  recorded=11T02:00
    """)
    assert ledger.owed("calls") == ["acme 10: +2, b counted +2, by the rules in force -5"]
    assert ledger.owed("calls", as_of=3) == []


def test_a_period_under_other_rules_has_an_adjustment_though_nothing_happened(ledger: Ledger) -> None:
    """Nothing is owed, no event is listed, and what the new rules would change is told."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5  id=a
        10:01  beta calls 1  id=b
        close  acme calls 10 11  at=11T01:00
        close  beta calls 10 11
        change calls  count
    """)
    assert ledger.owed("calls") == ["acme 10: +0, by the rules in force -4"]


def test_what_the_rules_of_a_closing_can_t_read_is_not_owed_by_them(ledger: Ledger) -> None:
    """Under another value key the closed period counts on as it did; what says nothing under its key adds nothing."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5  id=a  tokens=50
        close  acme calls 10 11  at=11T01:00
        change calls  sum  value=tokens
        11:00  acme calls -  id=b  recorded=11T02:00  tokens=20
        11:00  acme calls 2  id=c  recorded=11T02:00  tokens=30
    """)
    assert ledger.owed("calls") == ["acme 10: +2, c counted +2, by the rules in force +93"]


def test_closed_periods_of_customers_that_the_rules_name_no_more(ledger: Ledger) -> None:
    """By another customer key nobody's usage is where it was; each closed period counts on for whom it was closed."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5  id=a  account=one
        10:00  beta calls 7  id=b  account=one
        close  acme calls 10 11  at=11T01:00
        close  beta calls 10 11
        close  acme calls 09 10
        change calls  sum  customer=account
        11:00  acme calls 1  id=c  account=two  recorded=11T02:00
        09T11:00  acme calls 3  id=d  account=two  recorded=11T02:00
    """)
    assert ledger.owed("calls") == [
        "acme 09: +3, d counted +3, by the rules in force -3",
        "acme 10: +1, c counted +1, by the rules in force -6",
        "beta 10: +0, by the rules in force -7",
    ]


def test_periods_of_other_customers_and_meters_are_left_alone(ledger: Ledger) -> None:
    """A closing is one customer's on one meter; who never used anything can be closed too."""
    ledger.given("""
        meter  calls  sum
        meter  seats  sum
        10:00  acme calls 5
        10:00  beta calls 7
        close  acme calls 10 11  at=11T01:00
        close  nobody calls 10 11
        close  acme seats 10 11
        10:30  beta calls 1   recorded=11T02:00
        10:30  nobody calls 2  id=first  recorded=11T02:00
    """)
    assert ledger.closed("calls") == ["acme 10: 5", "nobody 10: 0"]
    assert ledger.closed("seats") == ["acme 10: 0"]
    assert ledger.owed("calls") == ["nobody 10: +2, first counted +2"]
    assert ledger.owed("seats") == []


def test_a_closed_figure_is_explained_as_of_its_position(ledger: Ledger) -> None:
    """The same events, told by their digest, add up to the frozen figure for ever, also under other rules since."""
    ledger.given("""
        meter  seats  sum per hour
        10:05  acme seats 10  id=a
        10:45  acme seats  4  id=b
        close  acme seats 10 11  at=11T01:00
        10:50  acme seats 1  id=late  recorded=11T02:00
        cancel b
        change seats  last per hour
    """)
    (closed,) = ledger.metering.closed_periods("seats")
    explanation = ledger.metering.explain("seats", "acme", closed.start, closed.end, as_of=closed.position)
    assert explanation.total.value == closed.quantity == 4
    assert (explanation.digest, explanation.revision) == (closed.digest, closed.revision)
    now = ledger.metering.explain("seats", "acme", closed.start, closed.end)
    assert (now.total.value, now.revision, now.digest == closed.digest) == (1, 2, False)


class InterruptedClock(Clock):
    """A clock that is looked at, whereupon something else happens."""

    then: Callable[[], object] | None = None

    def __call__(self) -> datetime:
        now, then = self.now, self.then
        if then is not None:
            self.then = None
            then()
        return now


def test_a_closing_is_told_at_a_time_when_all_it_knows_was_recorded() -> None:
    """What is recorded while a period is being closed, and still gets into its figure, was known before the closing."""
    clock = InterruptedClock(moment("10"))
    with Metering.open("sqlite://", clock=clock) as metering:
        ledger = Ledger(metering, clock).given("""
            meter  calls  sum
            10:00  acme calls 5  id=a
        """)
        clock.then = lambda: ledger.given("10:30  acme calls 3  id=b  recorded=11T02:00")
        ledger.when("close  acme calls 10 11  at=11T01:00").answered("closed 8")
        assert ledger.closed("calls", as_of="11T01:59") == []
        assert ledger.closed("calls", as_of="11T02:00") == ["acme 10: 8"]


def test_a_clock_that_is_put_back_leaves_what_is_told_in_one_piece(ledger: Ledger) -> None:
    """Whoever knows of a closing knows of all before it: of what it froze, and of it before it was reopened."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5  id=a
        10:00  acme calls 3  id=b  recorded=11T06:00
        cancel a
        close  acme calls 10 11  at=11T03:00
        10:00  acme calls 2  id=c  recorded=11T05:00
    """)
    assert ledger.owed("calls", as_of="11T02:00") == []
    assert ledger.owed("calls", as_of="11T04:00") == []
    assert ledger.owed("calls", as_of="11T05:00") == ledger.owed("calls") == ["acme 10: +2, c counted +2"]
    ledger.clock.now = moment("11T01:00")
    ledger.given("reopen  acme calls 10 11  reason=error")
    assert ledger.closed("calls", as_of="11T02:00") == []
    assert ledger.closed("calls", as_of="11T04:00") == ["acme 10: 3 reopened"]
