"""Windows: the newest report of a UTC hour or day replaces those before it."""

from ..notation import Ledger


def test_without_a_window_every_event_counts(ledger: Ledger) -> None:
    """Raw, every event counts, also two of the same customer at the same moment."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10
        10:05  acme calls 10
        10:45  acme calls  4
    """)
    ledger.then(total="acme calls 24", count=3)


def test_in_an_hour_only_the_newest_arrival_counts(ledger: Ledger) -> None:
    """Each UTC hour gives one report, and the formula runs over the survivors."""
    ledger.given("""
        meter  seats  sum  per hour
        10:05  acme seats 10
        10:45  acme seats  4
        11:00  acme seats  7
    """)
    ledger.then(total="acme seats 11", count=2, last="7")


def test_in_a_day_only_the_newest_arrival_counts(ledger: Ledger) -> None:
    """Each UTC day gives one report; midnight UTC begins the next."""
    ledger.given("""
        meter     seats  sum  per day
        00:00     acme seats 10
        23:59:59  acme seats  4
        11T00:00  acme seats  7
    """)
    ledger.then(total="acme seats 11", count=2)


def test_newest_is_by_arrival_not_by_timestamp(ledger: Ledger) -> None:
    """A report that arrives later replaces one that is said to have occurred later."""
    ledger.given("""
        meter  seats  sum  per hour
        10:45  acme seats 4   id=first
        10:05  acme seats 10  id=second
    """)
    ledger.then(total="acme seats 10", last="10")
    assert ledger.explained("acme seats") == ["second counted", "first overwritten by second"]


def test_an_hour_is_counted_for_each_customer(ledger: Ledger) -> None:
    """One customer's report replaces none of another's in the same hour."""
    ledger.given("""
        meter  seats  sum  per hour
        10:05  acme seats 10
        10:10  beta seats  3
    """)
    ledger.then(total="* seats 13", count=2)
    assert ledger.totals("seats") == ["acme 10", "beta 3"]


def test_an_hour_is_counted_for_each_combination_of_dimension_values(ledger: Ledger) -> None:
    """A report replaces the one before it only where all their dimension values are the same."""
    ledger.given("""
        meter  seats  sum  per hour  by region,plan
        10:05  acme seats 10  region=eu  plan=pro
        10:10  acme seats  3  region=us  plan=pro
        10:15  acme seats  2  region=eu  plan=free
        10:20  acme seats  1  region=eu  plan=pro
    """)
    ledger.then(total="acme seats 6", count=3)


def test_an_event_overwritten_first_is_out_of_every_range(ledger: Ledger) -> None:
    """Overwritten first, range second: a range with only the overwritten event in it is empty."""
    ledger.given("""
        meter  seats  sum  per hour
        10:05  acme seats 10
        10:45  acme seats  4
    """)
    ledger.then(total="acme seats 0", count=0, between="10:00 10:30")
    ledger.then(total="acme seats 0", count=0, between="10:00 10:45")
    ledger.then(total="acme seats 4", count=1, between="10:30 11:00")


def test_an_event_overwritten_is_out_of_every_range_of_a_day(ledger: Ledger) -> None:
    """Under a window of a day, an hour of it holds nothing but the report that stands for the day."""
    ledger.given("""
        meter  seats  last  per day
        10:05  acme seats 10
        20:45  acme seats  4
    """)
    ledger.then(total="acme seats 0", last="None", between="10:00 11:00")
    ledger.then(total="acme seats 4", between="20:00 21:00")
    assert ledger.summaries("acme seats by hour in UTC", "00:00 11T00:00") == [
        "11-10 20:00+0000 to 11-10 21:00+0000: 4"
    ]


def test_a_late_report_replaces_its_hour(ledger: Ledger) -> None:
    """A report of an hour long past counts there, and not in the hour it was recorded in."""
    ledger.given("""
        meter  seats  sum  per hour
        10:05  acme seats 10
        15:00  acme seats  4
        10:01  acme seats  1
    """)
    ledger.then(total="acme seats 5", last="4")
    ledger.then(total="acme seats 1", between="10:00 11:00")
