"""Formulas: max, min, avg and unique_count, with cancellations and windows, and explained by their events."""

import pytest
from tallybook.application import Formula

from ..notation import Ledger


def test_a_maximum_comes_from_the_first_event_that_has_it(ledger: Ledger) -> None:
    """7 and 7.0 are the same number; the other events contribute nothing."""
    ledger.given("""
        meter  load  max
        10:05  acme load 3    id=a
        10:15  acme load 7    id=b
        10:25  acme load 7.0  id=c
        10:35  acme load 5    id=d
    """)
    ledger.then(total="acme load 7", sum="22.0", count=4, last="5", min="3", max="7")
    assert ledger.contributions("acme load") == ["a 0", "b 7", "c 0", "d 0"]


def test_a_minimum_may_be_negative(ledger: Ledger) -> None:
    """It is billed as 0."""
    ledger.given("""
        meter  load  min
        10:05  acme load 3     id=a
        10:15  acme load -0.5  id=b
        10:25  acme load 4     id=c
    """)
    ledger.then(total="acme load -0.5", billable="0", min="-0.5", max="4")
    assert ledger.contributions("acme load") == ["a 0", "b -0.5", "c 0"]


def test_each_event_contributes_its_share_of_an_average(ledger: Ledger) -> None:
    """Its value divided by the number of events."""
    ledger.given("""
        meter  load  avg
        10:05  acme load 10  id=a
        10:15  acme load 20  id=b
        10:25  acme load 30  id=c
        10:35  acme load 30  id=d
    """)
    ledger.then(total="acme load 22.5", sum="90", count=4)
    assert ledger.contributions("acme load") == ["a 2.5", "b 5.0", "c 7.5", "d 7.5"]


def test_an_average_without_a_finite_form_has_15_digits_after_the_point(ledger: Ledger) -> None:
    """The contributions add up to the rounded average all the same."""
    ledger.given("""
        meter  load  avg
        10:05  acme load 1  id=a
        10:15  acme load 2  id=b
        10:25  acme load 7  id=c
    """)
    ledger.then(total="acme load 3.333333333333333")
    assert ledger.contributions("acme load") == [
        "a 0.333333333333333", "b 0.666666666666667", "c 2.333333333333333",
    ]  # fmt: skip


def test_a_unique_count_counts_the_first_event_of_each_text(ledger: Ledger) -> None:
    """Texts are compared as they are: u1 and U1 differ, and so do 1 and 1.0."""
    ledger.given("""
        meter  users  unique_count
        10:05  acme users u1   id=a
        10:15  acme users u2   id=b
        10:25  acme users u1   id=c
        10:35  acme users U1   id=d
        10:45  acme users 1    id=e
        10:55  acme users 1.0  id=f
    """)
    ledger.then(total="acme users 5", sum="0", count=6, last="None", min="None", max="None")
    assert ledger.contributions("acme users") == ["a 1", "b 1", "c 0", "d 1", "e 1", "f 1"]


def test_a_unique_count_of_a_month_is_no_sum_of_days(ledger: Ledger) -> None:
    """A user of both days counts once in the month; so does a user of several customers in the count of all."""
    ledger.given("""
        meter    users  unique_count
        10:05    acme users u1
        10:15    acme users u2
        11T10:05  acme users u2
        11T10:15  beta users u2
    """)
    ledger.then(total="acme users 2").then(total="beta users 1").then(total="* users 2")
    assert ledger.summaries("acme users by day in UTC", "10 12") == [
        "11-10 00:00+0000 to 11-11 00:00+0000: 2",
        "11-11 00:00+0000 to 11-12 00:00+0000: 1",
    ]


def test_a_maximum_of_a_month_is_that_of_its_largest_day(ledger: Ledger) -> None:
    """Of all customers, it is that of the largest customer."""
    ledger.given("""
        meter    load  max
        10:05    acme load 3
        10:15    beta load 9
        11T10:05  acme load 8
        11T10:15  beta load 2
    """)
    assert ledger.totals("load") == ["acme 8", "beta 9"]
    ledger.then(total="* load 9").then(total="* load 8", between="11 12")
    assert ledger.summaries("acme load by day in UTC", "10 12") == [
        "11-10 00:00+0000 to 11-11 00:00+0000: 3",
        "11-11 00:00+0000 to 11-12 00:00+0000: 8",
    ]


@pytest.mark.parametrize(
    ("formula", "total", "without_b"),
    [("max", "9", "5"), ("min", "2", "2"), ("avg", "5", "3.666666666666667"), ("unique_count", "4", "3")],
)
def test_a_cancelled_event_is_in_no_formula(ledger: Ledger, formula: str, total: str, without_b: str) -> None:
    """As of the time before the cancellation, it is."""
    ledger.given(f"""
        meter  load  {formula}
        10:05  acme load 2  id=a
        10:15  acme load 9  id=b
        10:25  acme load 5  id=c
        10:35  acme load 4  id=d
        cancel b  at=10:45
    """)
    ledger.then(total=f"acme load {without_b}", count=3)
    ledger.then(total=f"acme load {total}", count=4, as_of="10:44")


def test_a_cancelled_maximum_is_replaced_by_the_next_event_with_its_value(ledger: Ledger) -> None:
    """The total stays, and another event explains it."""
    ledger.given("""
        meter  load  max
        10:05  acme load 7  id=a
        10:15  acme load 7  id=b
        cancel a
    """)
    ledger.then(total="acme load 7", count=1)
    assert ledger.contributions("acme load") == ["a 0", "b 7"]


@pytest.mark.parametrize(
    ("formula", "total"), [("max", "8"), ("min", "3"), ("avg", "5.5"), ("unique_count", "2"), ("sum", "11")]
)
def test_one_event_of_each_window_is_in_the_formula(ledger: Ledger, formula: str, total: str) -> None:
    """The newest of each hour: 9 and 1 are superseded."""
    ledger.given(f"""
        meter  load  {formula} per hour
        10:05  acme load 9  id=a
        10:45  acme load 3  id=b
        11:05  acme load 1  id=c
        11:45  acme load 8  id=d
    """)
    ledger.then(total=f"acme load {total}", count=2)
    assert ledger.explanation("acme load") == ["a superseded by b", "b counted", "c superseded by d", "d counted"]


def test_cancelling_the_newest_of_a_window_changes_the_maximum(ledger: Ledger) -> None:
    """The event before it counts again; a query of the hours after doesn't see it."""
    ledger.given("""
        meter  load  max per hour
        10:05  acme load 9  id=a
        10:45  acme load 3  id=b
        11:05  acme load 4  id=c
        cancel b  at=11:30
    """)
    ledger.then(total="acme load 9").then(total="acme load 4", as_of="11:29")
    ledger.then(total="acme load 4", between="11:00 12:00")


@pytest.mark.parametrize("formula", Formula)
def test_no_usage_is_0_under_every_formula(ledger: Ledger, formula: Formula) -> None:
    """Also if all events are cancelled or outside the range."""
    ledger.given(f"""
        meter  load  {formula}
        10:05  acme load 9  id=a
        cancel a
        12:05  beta load 9
    """)
    ledger.then(total="acme load 0", sum="0", count=0, last="None", min="None", max="None", billable="0")
    ledger.then(total="* load 0", count=0, between="10:00 12:00")
    assert ledger.totals("load", between="10:00 12:00") == []


def test_a_larger_late_event_moves_the_maximum_of_a_closed_period(ledger: Ledger) -> None:
    """The adjustment has the event that was the maximum and the one that is."""
    ledger.given("""
        meter  load  max
        10:05  acme load 3  id=a
        10:15  acme load 7  id=b
        close  acme load 10 11  at=11T02:00
        10:35  acme load 9  id=c
        10:45  acme load 8  id=d
    """)
    assert ledger.closed_periods("load") == ["acme 10: 7"]
    assert ledger.adjustments("load") == ["acme 10: +2, b counted -7, c counted +9, d counted +0"]


def test_a_late_event_with_a_known_value_owes_nothing(ledger: Ledger) -> None:
    """An earlier event of the same user is the first of its value now."""
    ledger.given("""
        meter  users  unique_count
        10:15  acme users u1  id=a
        close  acme users 10 11  at=11T02:00
        10:05  acme users u1  id=b
    """)
    assert ledger.adjustments("users") == ["acme 10: +0, b counted +1, a counted -1"]


def test_a_late_event_changes_the_share_of_all_others_in_an_average(ledger: Ledger) -> None:
    """The changes add up to the difference."""
    ledger.given("""
        meter  load  avg
        10:05  acme load 2  id=a
        10:15  acme load 4  id=b
        close  acme load 10 11  at=11T02:00
        10:25  acme load 6  id=c
    """)
    assert ledger.adjustments("load") == [
        "acme 10: +1, a counted -0.333333333333333, b counted -0.666666666666667, c counted +2"
    ]


def test_rules_change_between_formulas_and_back(ledger: Ledger) -> None:
    """Each earlier total can still be queried."""
    ledger.given("""
        meter   load  sum
        10:05   acme load 9  id=a
        10:15   acme load 5  id=b
        10:25   acme load 9  id=c
        change  load  max           at=11:00
        change  load  unique_count  at=12:00
        change  load  avg           at=13:00
        change  load  sum           at=14:00
    """)
    ledger.then(total="acme load 23")
    for as_of, total in (("10:30", "23"), ("11:30", "9"), ("12:30", "2"), ("13:30", "7.666666666666667")):
        ledger.then(total=f"acme load {total}", as_of=as_of)


def test_a_text_is_no_value_of_another_formula(ledger: Ledger) -> None:
    """A meter that counts users can't be changed to their sum."""
    ledger.given("""
        meter  users  unique_count
        10:05  acme users u1
    """)
    ledger.when("""
        change users sum
        change users count
        10:15  acme users -
    """).outcomes_are("incompatible_rules", "incompatible_rules", "payload_no_value_defined")
    ledger.then(total="acme users 1")
