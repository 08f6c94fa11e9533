"""Closed periods: the invoiced total stays, and later usage adjusts the period in which it occurred."""

from collections.abc import Callable
from datetime import datetime

from tallybook.application import Metering

from ..notation import Clock, Ledger, moment


def test_late_usage_keeps_the_frozen_total_and_adjusts_its_own_period(ledger: Ledger) -> None:
    """Usage of the 10th adjusts the 10th, even if it is recorded on the 12th."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5  id=a
        close  acme calls 10 11  at=11T01:00
        11T10:00  acme calls 3  id=b
        close  acme calls 11 12  at=12T01:00
        11:00  acme calls 2  id=late  recorded=12T02:00
    """)
    assert ledger.closed_periods("calls") == ["acme 10: 5", "acme 11: 3"]
    assert ledger.adjustments("calls") == ["acme 10: +2, late counted +2"]


def test_closing_again_returns_the_first_result(ledger: Ledger) -> None:
    """The second call writes nothing, even if usage was recorded in between."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5
        close  acme calls 10 11  at=11T01:00
        11:00  acme calls 2  recorded=11T02:00
    """)
    head = ledger.position()
    ledger.when("close  acme calls 10 11  at=11T03:00").outcomes_are("closed 5")
    assert ledger.position() == head


def test_a_cancellation_after_the_close_is_a_negative_adjustment(ledger: Ledger) -> None:
    """The whole value is subtracted; a late event that was cancelled too is listed and changes nothing."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5  id=a
        10:01  acme calls 3  id=b
        close  acme calls 10 11  at=11T01:00
        cancel b
        11:00  acme calls 2  id=late  recorded=11T02:00
        cancel late
    """)
    assert ledger.adjustments("calls") == ["acme 10: -3, b cancelled -3, late cancelled +0"]


def test_a_cancellation_before_the_close_is_not_adjusted(ledger: Ledger) -> None:
    """A period without later changes has no adjustment."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5  id=a
        10:01  acme calls 3  id=b
        cancel b
        close  acme calls 10 11  at=11T01:00
    """)
    assert ledger.adjustments("calls") == []


def test_a_negative_meter_event_adjusts_a_closed_total(ledger: Ledger) -> None:
    """A total below 0 bills 0, so a credit never exceeds the billed quantity."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5  id=a
        close  acme calls 10 11  at=11T01:00
        10:00  acme calls -7  id=b  recorded=11T02:00
    """)
    assert ledger.adjustments("calls") == ["acme 10: -7, b counted -7"]
    (adjustment,) = ledger.metering.periods.adjustments("calls")
    assert (adjustment.quantity, adjustment.billable, adjustment.difference, adjustment.billable_difference) == (
        -2,
        0,
        -7,
        -5,
    )


def test_a_negative_total_bills_nothing(ledger: Ledger) -> None:
    """The total stays negative; later usage is billed only as far as the total rises above 0."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls -5  id=a
        close  acme calls 10 11  at=11T01:00
    """)
    (closed,) = ledger.metering.periods.list("calls")
    assert (closed.quantity, closed.billable) == (-5, 0)
    ledger.given("10:00  acme calls 8  id=b  recorded=11T02:00")
    (adjustment,) = ledger.metering.periods.adjustments("calls")
    assert (adjustment.difference, adjustment.billable_difference) == (8, 3)


def test_a_count_counts_late_meter_events(ledger: Ledger) -> None:
    """Each event adds one, whatever its value."""
    ledger.given("""
        meter  logins  count
        10:00  acme logins -  id=a
        10:01  acme logins -  id=b
        close  acme logins 10 11  at=11T01:00
        10:02  acme logins -  id=late  recorded=11T02:00
        cancel a
    """)
    assert ledger.adjustments("logins") == ["acme 10: +0, a cancelled -1, late counted +1"]


def test_the_last_value_moves_to_a_later_meter_event(ledger: Ledger) -> None:
    """The previous last event loses its contribution; late events that are not last change nothing."""
    ledger.given("""
        meter  seats  last
        10:00  acme seats 10  id=a
        12:00  acme seats  4  id=b
        close  acme seats 10 11  at=11T01:00
        11:00  acme seats  7  id=between  recorded=11T02:00
        13:00  acme seats  9  id=after    recorded=11T02:00
    """)
    assert ledger.adjustments("seats") == ["acme 10: +5, between counted +0, b counted -4, after counted +9"]


def test_the_last_value_moves_back_if_the_last_meter_event_is_cancelled(ledger: Ledger) -> None:
    """The event before it, unchanged itself, is listed with its new contribution."""
    ledger.given("""
        meter  seats  last
        08:00  acme seats  3  id=first
        10:00  acme seats 10  id=a
        12:00  acme seats  4  id=b
        close  acme seats 10 11  at=11T01:00
        cancel b
    """)
    assert ledger.adjustments("seats") == ["acme 10: +6, a counted +10, b cancelled -4"]


def test_a_reopened_period_is_closed_again(ledger: Ledger) -> None:
    """Both versions are listed, with the reason and the author; only the present one has adjustments."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5  id=a
        close  acme calls 10 11  at=11T01:00
        11:00  acme calls 2  id=b  recorded=11T02:00
        reopen  acme calls 10 11  reason=error  by=ops
    """)
    assert ledger.adjustments("calls") == []
    ledger.given("""
        close  acme calls 10 11
        12:00  acme calls 1  id=c  recorded=11T03:00
    """)
    assert ledger.closed_periods("calls") == ["acme 10: 5 reopened", "acme 10: 7"]
    assert ledger.adjustments("calls") == ["acme 10: +1, c counted +1"]
    (reopened,) = (period for period in ledger.metering.periods.list("calls", reopened=True) if not period.is_closed)
    assert (reopened.reason, reopened.by, reopened.reopened_at) == ("error", "ops", moment("11T02:00"))
    assert [period.quantity for period in ledger.metering.periods.list("calls")] == [7]


def test_closed_periods_as_of(ledger: Ledger) -> None:
    """Closed periods, reopenings and adjustments of that time can always be queried."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5  id=a
        close  acme calls 10 11  at=11T01:00
        11:00  acme calls 2  id=b  recorded=11T02:00
        11:00  acme calls 3  id=c  recorded=11T03:00
        reopen  acme calls 10 11  reason=error
        close  acme calls 10 11  at=11T04:00
    """)
    assert ledger.closed_periods("calls", as_of="11T00:59") == []
    assert ledger.closed_periods("calls", as_of="11T01:00") == ["acme 10: 5"]
    assert ledger.closed_periods("calls", as_of="11T03:00") == ["acme 10: 5 reopened"]
    assert ledger.closed_periods("calls", as_of="11T04:00") == ["acme 10: 5 reopened", "acme 10: 10"]
    assert ledger.adjustments("calls", as_of="11T01:00") == []
    assert ledger.adjustments("calls", as_of="11T02:00") == ["acme 10: +2, b counted +2"]
    assert ledger.adjustments("calls", as_of=5) == ["acme 10: +5, b counted +2, c counted +3"]
    assert ledger.adjustments("calls") == []


def test_rule_differences_are_separate_from_adjustments(ledger: Ledger) -> None:
    """A closed period is counted under the rules it was closed with; the rules difference is not owed."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5  id=a
        close  acme calls 10 11  at=11T01:00
        change calls  count
        11:00  acme calls 2  id=b  recorded=11T02:00
    """)
    assert ledger.adjustments("calls") == ["acme 10: +2, b counted +2, by the rules in force -5"]
    assert ledger.adjustments("calls", as_of=3) == []


def test_a_period_under_other_rules_has_an_adjustment_without_new_events(ledger: Ledger) -> None:
    """Nothing is owed, no event is listed, and the rules difference is shown."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5  id=a
        10:01  beta calls 1  id=b
        close  acme calls 10 11  at=11T01:00
        close  beta calls 10 11
        change calls  count
    """)
    assert ledger.adjustments("calls") == ["acme 10: +0, by the rules in force -4"]


def test_events_incompatible_with_the_rules_of_a_closed_period_are_not_adjusted(ledger: Ledger) -> None:
    """Under another value key the closed period is counted as before; an event without its value key adds nothing."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5  id=a  tokens=50
        close  acme calls 10 11  at=11T01:00
        change calls  sum  value=tokens
        11:00  acme calls -  id=b  recorded=11T02:00  tokens=20
        11:00  acme calls 2  id=c  recorded=11T02:00  tokens=30
    """)
    assert ledger.adjustments("calls") == ["acme 10: +2, c counted +2, by the rules in force +93"]


def test_closed_periods_of_customers_no_longer_named_by_the_rules(ledger: Ledger) -> None:
    """Under another customer key, each closed period is still counted for the customer it was closed for."""
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
    assert ledger.adjustments("calls") == [
        "acme 09: +3, d counted +3, by the rules in force -3",
        "acme 10: +1, c counted +1, by the rules in force -6",
        "beta 10: +0, by the rules in force -7",
    ]


def test_periods_of_other_customers_and_meters_are_not_affected(ledger: Ledger) -> None:
    """A period is closed for one customer on one meter, even if the customer has no usage."""
    ledger.given("""
        meter  calls  sum
        meter  seats  sum
        10:00  acme calls 5
        10:00  beta calls 7
        close  acme calls 10 11  at=11T01:00
        close  newco calls 10 11
        close  acme seats 10 11
        10:30  beta calls 1   recorded=11T02:00
        10:30  newco calls 2  id=first  recorded=11T02:00
    """)
    assert ledger.closed_periods("calls") == ["acme 10: 5", "newco 10: 0"]
    assert ledger.closed_periods("seats") == ["acme 10: 0"]
    assert ledger.adjustments("calls") == ["newco 10: +2, first counted +2"]
    assert ledger.adjustments("seats") == []


def test_a_closed_total_is_explained_as_of_its_position(ledger: Ledger) -> None:
    """The events of the digest always add up to the frozen total, even after a rule change."""
    ledger.given("""
        meter  seats  sum per hour
        10:05  acme seats 10  id=a
        10:45  acme seats  4  id=b
        close  acme seats 10 11  at=11T01:00
        10:50  acme seats 1  id=late  recorded=11T02:00
        cancel b
        change seats  last per hour
    """)
    (closed,) = ledger.metering.periods.list("seats")
    explanation = ledger.metering.explain("seats", "acme", closed.start, closed.end, as_of=closed.position)
    assert explanation.total.value == closed.quantity == 4
    assert (explanation.digest, explanation.revision) == (closed.digest, closed.revision)
    now = ledger.metering.explain("seats", "acme", closed.start, closed.end)
    assert (now.total.value, now.revision, now.digest == closed.digest) == (1, 2, False)


class InterruptedClock(Clock):
    """A clock that runs a function when it is read."""

    callback: Callable[[], object] | None = None

    def __call__(self) -> datetime:
        now, callback = self.now, self.callback
        if callback is not None:
            self.callback = None
            callback()
        return now


def test_a_closed_period_is_visible_once_its_events_were_recorded() -> None:
    """An event recorded during the closing that is in the total has a position before the closing."""
    clock = InterruptedClock(moment("10"))
    with Metering.open("sqlite://", clock=clock) as metering:
        ledger = Ledger(metering, clock).given("""
            meter  calls  sum
            10:00  acme calls 5  id=a
        """)
        clock.callback = lambda: ledger.given("10:30  acme calls 3  id=b  recorded=11T02:00")
        ledger.when("close  acme calls 10 11  at=11T01:00").outcomes_are("closed 8")
        assert ledger.closed_periods("calls", as_of="11T01:59") == []
        assert ledger.closed_periods("calls", as_of="11T02:00") == ["acme 10: 8"]


def test_a_clock_that_was_set_back_by_hours_closes_nothing(ledger: Ledger) -> None:
    """A closing is never known before its events; one that is a second behind gets the time of the last event."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5  id=a
        10:00  acme calls 3  id=b  recorded=11T06:00
    """)
    assert ledger.when("close  acme calls 10 11  at=11T03:00").outcomes == ["clock_behind"]
    assert ledger.closed_periods("calls") == []
    ledger.given("close  acme calls 10 11  at=11T05:59:59")
    assert ledger.closed_periods("calls", as_of="11T05:59:59") == []
    assert ledger.closed_periods("calls", as_of="11T06:00") == ["acme 10: 8"]


def test_long_unique_values_are_whole_in_an_adjustment(ledger: Ledger) -> None:
    """While it is computed, short keys of them are in memory."""
    texts = {name: name * 100 for name in "abc"}
    ledger.given(f"""
        meter  users  unique_count
        10:00  acme users {texts["a"]}  id=a
        10:01  acme users {texts["b"]}  id=b
        10:02  acme users {texts["b"]}  id=again
        close  acme users 10 11  at=11T01:00
        cancel b
        cancel a
        11:00  acme users {texts["c"]}  id=late  recorded=11T02:00
    """)
    (adjustment,) = ledger.metering.periods.adjustments("users")
    changes = {event.identifier: (event.unique_value, event.change) for event in adjustment.events}
    assert changes == {"a": (texts["a"], -1), "b": (texts["b"], -1), "again": (texts["b"], 1), "late": (texts["c"], 1)}


def test_a_long_unique_value_is_owed_once(ledger: Ledger) -> None:
    """A text that was used before the closing, or before a settlement, is no new one afterwards."""
    billed, late = "b" * 65, "l" * 65
    ledger.given(f"""
        meter  users  unique_count
        10:00  acme users {billed}
        close  acme users 10 11  at=11T01:00
        10:30  acme users {billed}  recorded=11T02:00
        10:31  acme users {late}    recorded=11T02:01
    """)
    (adjustment,) = ledger.metering.periods.adjustments("users")
    assert (adjustment.quantity, adjustment.difference) == (2, 1)
    ledger.given(f"""
        settle  acme users 10 11  document=INV-2
        10:32   acme users {late}  recorded=11T02:02
    """)
    (adjustment,) = ledger.metering.periods.adjustments("users")
    assert (adjustment.quantity, adjustment.difference) == (2, 0)
