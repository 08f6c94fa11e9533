"""Event time windows: the newest arrival of a UTC hour or day supersedes the events before it."""

from datetime import datetime

from ..notation import Ledger, moment


def test_without_a_window_every_event_counts(ledger: Ledger) -> None:
    """Every event counts, even two of the same customer at the same time."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10
        10:05  acme calls 10
        10:45  acme calls  4
    """)
    ledger.then(total="acme calls 24", count=3)


def test_in_an_hour_only_the_newest_arrival_counts(ledger: Ledger) -> None:
    """One event counts for each UTC hour, and the formula aggregates these events."""
    ledger.given("""
        meter  seats  sum  per hour
        10:05  acme seats 10
        10:45  acme seats  4
        11:00  acme seats  7
    """)
    ledger.then(total="acme seats 11", count=2, last="7")


def test_in_a_day_only_the_newest_arrival_counts(ledger: Ledger) -> None:
    """One event counts for each UTC day; the next day starts at midnight UTC."""
    ledger.given("""
        meter     seats  sum  per day
        00:00     acme seats 10
        23:59:59  acme seats  4
        11T00:00  acme seats  7
    """)
    ledger.then(total="acme seats 11", count=2)


def test_newest_is_by_arrival_not_by_timestamp(ledger: Ledger) -> None:
    """A later arrival supersedes an event with a later timestamp."""
    ledger.given("""
        meter  seats  sum  per hour
        10:45  acme seats 4   id=first
        10:05  acme seats 10  id=second
    """)
    ledger.then(total="acme seats 10", last="10")
    assert ledger.explanation("acme seats") == ["second counted", "first superseded by second"]


def test_an_hour_is_counted_for_each_customer(ledger: Ledger) -> None:
    """An event of one customer doesn't supersede an event of another in the same hour."""
    ledger.given("""
        meter  seats  sum  per hour
        10:05  acme seats 10
        10:10  beta seats  3
    """)
    ledger.then(total="* seats 13", count=2)
    assert ledger.totals("seats") == ["acme 10", "beta 3"]


def test_an_hour_is_counted_for_each_combination_of_dimension_values(ledger: Ledger) -> None:
    """An event supersedes another only if all their dimension values are equal."""
    ledger.given("""
        meter  seats  sum  per hour  by region,plan
        10:05  acme seats 10  region=eu  plan=pro
        10:10  acme seats  3  region=us  plan=pro
        10:15  acme seats  2  region=eu  plan=free
        10:20  acme seats  1  region=eu  plan=pro
    """)
    ledger.then(total="acme seats 6", count=3)


def test_a_window_belongs_whole_to_the_range_in_which_it_starts(ledger: Ledger) -> None:
    """A range that ends inside an hour has the whole hour, one that starts inside it has nothing of it."""
    ledger.given("""
        meter  seats  sum  per hour
        10:05  acme seats 10
        10:45  acme seats  4
    """)
    ledger.then(total="acme seats 4", count=1, between="10:00 10:30")
    ledger.then(total="acme seats 4", count=1, between="09:30 10:00:00.000001")
    ledger.then(total="acme seats 0", count=0, between="09:30 10:00")
    ledger.then(total="acme seats 0", count=0, between="10:30 11:00")
    ledger.then(total="acme seats 0", count=0, between="10:00:00.000001 10:59")


def test_a_total_has_the_range_of_its_windows(ledger: Ledger) -> None:
    """If the range cuts a window, the result says from and until when it has usage."""
    ledger.given("""
        meter  seats  sum  per hour
        10:05  acme seats 10
    """)

    def counted(start: str, end: str) -> tuple[datetime | None, datetime | None]:
        total = ledger.metering.total("seats", "acme", moment(start), moment(end))
        assert ledger.metering.explain("seats", "acme", moment(start), moment(end)).total == total
        return total.counted_from, total.counted_until

    assert counted("10:00", "11:00") == (None, None)
    assert counted("09:59", "11:00") == (moment("10:00"), None)
    assert counted("10:00", "10:00:01") == (None, moment("11:00"))
    assert counted("10:01", "10:59") == (moment("11:00"), moment("11:00"))


def test_a_day_is_in_the_hour_in_which_it_starts(ledger: Ledger) -> None:
    """With a day window, the event that counts for the day is in the hour of midnight in UTC."""
    ledger.given("""
        meter  seats  last  per day
        10:05  acme seats 10
        20:45  acme seats  4
    """)
    ledger.then(total="acme seats 0", last="None", between="20:00 21:00")
    ledger.then(total="acme seats 4", between="00:00 01:00")
    assert ledger.summaries("acme seats by hour in UTC", "00:00 11T00:00") == [
        "11-10 00:00+0000 to 11-10 01:00+0000: 4"
    ]


def test_a_late_meter_event_supersedes_its_hour(ledger: Ledger) -> None:
    """A late event counts in the hour in which it occurred, not in the hour in which it was recorded."""
    ledger.given("""
        meter  seats  sum  per hour
        10:05  acme seats 10
        15:00  acme seats  4
        10:01  acme seats  1
    """)
    ledger.then(total="acme seats 5", last="4")
    ledger.then(total="acme seats 1", between="10:00 11:00")
