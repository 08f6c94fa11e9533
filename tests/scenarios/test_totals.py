"""Totals: exact sum, count and last over a half-open range."""

import pytest

from ..notation import Ledger


def test_a_range_includes_its_start_and_excludes_its_end(ledger: Ledger) -> None:
    """[start, end) on occurred_at, to the microsecond."""
    ledger.given("""
        meter            calls  sum
        09:59:59.999999  acme calls 1
        10:00            acme calls 2
        10:59:59.999999  acme calls 4
        11:00            acme calls 8
    """)
    ledger.then(total="acme calls 6", between="10:00 11:00")
    ledger.then(total="acme calls 2", between="10:00 10:59:59.999999")
    ledger.then(total="acme calls 1", between="09:59:59.999999 10:00")
    ledger.then(total="acme calls 14", between="10:00 11:00:00.000001")


def test_an_empty_range_is_zero(ledger: Ledger) -> None:
    """Without usage the value is 0, the count 0 and last None; an empty range has no usage."""
    ledger.given("""
        meter  seats  last
        10:00  acme seats 2
    """)
    ledger.then(total="acme seats 0", sum="0", count=0, last="None", billable="0", between="11:00 12:00")
    ledger.then(total="acme seats 0", count=0, between="10:00 10:00")
    ledger.then(total="nobody seats 0", count=0)
    assert ledger.totals("seats", "11:00 12:00") == []
    assert ledger.summaries("acme seats by hour in UTC", "11:00 15:00") == []


def test_each_total_has_sum_count_and_last(ledger: Ledger) -> None:
    """The formula selects which of them is the value."""
    for formula, value in (("sum", "14"), ("count", "2"), ("last", "4")):
        ledger.given(f"""
            meter  {formula}s  {formula}
            10:05  acme {formula}s 10
            10:45  acme {formula}s  4
        """)
        ledger.then(total=f"acme {formula}s {value}", sum="14", count=2, last="4")


def test_last_is_by_the_time_it_occurred(ledger: Ledger) -> None:
    """A late meter event that occurred earlier is not the last one."""
    ledger.given("""
        meter  seats  last
        10:45  acme seats  4
        10:05  acme seats 10
    """)
    ledger.then(total="acme seats 4")


def test_last_at_the_same_time_is_by_position(ledger: Ledger) -> None:
    """Of two events at the same time, the one recorded later is the last."""
    ledger.given("""
        meter  seats  last
        10:05  acme seats 10  id=b
        10:05  acme seats  4  id=a
    """)
    ledger.then(total="acme seats 4")


def test_last_of_all_customers(ledger: Ledger) -> None:
    """The last of the whole meter is the last of all customers, by (occurred_at, position)."""
    ledger.given("""
        meter  seats  last
        10:05  beta seats  5
        10:05  acme seats 10
        10:04  core seats  3
    """)
    ledger.then(total="* seats 10", count=3)


def test_a_negative_total_stays_negative_and_bills_nothing(ledger: Ledger) -> None:
    """Negative values are allowed; the total is negative, and its billable quantity is 0."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls  10
        10:06  acme calls -10.5
        10:06  beta calls  3
    """)
    ledger.then(total="acme calls -0.5", billable="0").then(total="beta calls 3", billable="3")
    ledger.then(total="* calls 2.5", billable="2.5")
    ledger.then(total="acme calls 10", between="10:05 10:06", billable="10")


def test_a_negative_last_bills_nothing(ledger: Ledger) -> None:
    """The billable quantity is never less than 0, under any formula."""
    ledger.given("""
        meter  seats  last
        10:05  acme seats -1
    """)
    ledger.then(total="acme seats -1", billable="0")


def test_decimals_are_exact(ledger: Ledger) -> None:
    """0.1 + 0.2 = 0.3, and adding a small number to a large one is exact."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 0.1
        10:05  acme calls 0.2
    """)
    ledger.then(total="acme calls 0.3")
    ledger.given("10:05  acme calls 999999999999999").given("10:05  acme calls 0.00000000000001")
    ledger.then(total="acme calls 999999999999999.30000000000001")


def test_a_count_meter_counts_events_without_a_value(ledger: Ledger) -> None:
    """Under count the value may be missing; present values are still summed."""
    ledger.given("""
        meter  calls  count
        10:05  acme calls -
        10:06  acme calls 3
        10:07  acme calls -
    """)
    ledger.then(total="acme calls 3", sum="3", count=3, last="None")
    ledger.then(total="acme calls 2", last="3", between="10:05 10:07")


def test_a_count_meter_rejects_an_invalid_value(ledger: Ledger) -> None:
    """A value must be a number, even if the formula doesn't need it."""
    ledger.given("meter  calls  count")
    ledger.when("10:05  acme calls many").outcomes_are("payload_invalid_value")


def test_sum_and_last_meters_need_a_value(ledger: Ledger) -> None:
    """Only count works without values."""
    ledger.given("""
        meter  calls  sum
        meter  seats  last
    """)
    ledger.when("""
        10:05  acme calls -
        10:05  acme seats -
    """).outcomes_are("payload_no_value_defined", "payload_no_value_defined")


def test_dimensions_are_required(ledger: Ledger) -> None:
    """Each dimension key must be in the payload; an empty dimension value is a value."""
    ledger.given("meter  calls  sum  by region,plan")
    ledger.when("""
        10:05  acme calls 1  region=eu
        10:05  acme calls 2  region=  plan=
        10:05  acme calls 4  region=eu  plan=pro
    """).outcomes_are("missing_dimension_payload_keys", "accepted", "accepted")
    ledger.then(total="acme calls 6", count=2)


def test_a_late_meter_event_is_in_the_period_it_occurred_in(ledger: Ledger) -> None:
    """occurred_at decides the period, recorded_at does not."""
    ledger.given("""
        meter      calls  sum
        10:05      acme calls 1
        2026-10-31T23:59  acme calls 2
    """)
    ledger.then(total="acme calls 2", between="2026-10-01T00:00 2026-11-01T00:00")
    ledger.then(total="acme calls 1", between="2026-11-01T00:00 2026-12-01T00:00")


def test_meters_are_counted_separately(ledger: Ledger) -> None:
    """An event of one meter doesn't count for another, whatever its payload contains."""
    ledger.given("""
        meter  calls  sum
        meter  seats  last
        10:05  acme calls 10
        10:05  acme seats  4  calls=1000
    """)
    ledger.then(total="acme calls 10").then(total="acme seats 4")


def test_totals_are_ordered_by_customer(ledger: Ledger) -> None:
    """One total for each customer with counted usage, ordered by name."""
    ledger.given("""
        meter  calls  sum
        10:05  core calls 3
        10:06  acme calls 1  id=a
        10:07  Beta calls 0
        10:08  acme calls 2
        10:09  dodo calls 9  id=d
        cancel d
    """)
    assert ledger.totals("calls") == ["Beta 0", "acme 3", "core 3"]


def test_a_total_of_all_of_time(ledger: Ledger) -> None:
    """A range may cover all years, for one customer and for all."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 1
    """)
    ledger.then(total="acme calls 1", between="0001-01-01T00:00 9999-12-31T23:59")
    ledger.then(total="* calls 1", between="0001-01-01T00:00 9999-12-31T23:59")


@pytest.mark.parametrize(
    ("window", "hour", "day"),
    [("", "7", "15"), ("per hour", "4", "12"), ("per day", "0", "8")],
    ids=["raw", "hour", "day"],
)
def test_earlier_totals_are_updated(ledger: Ledger, window: str, hour: str, day: str) -> None:
    """Queried after each event, the totals of an hour, its day and all time include the next event, late or not."""
    ledger.given(f"meter  calls  sum  {window}")
    for line in ("10:05  acme calls 1", "10:15  acme calls 2", "10:05  acme calls 4", "11:05  acme calls 8"):
        ledger.given(line)
        ledger.then(of="acme calls", between="10:00 11:00").then(of="acme calls", between="00:00 11T00:00")
    ledger.then(total=f"acme calls {hour}", between="10:00 11:00")
    ledger.then(total=f"acme calls {day}", between="00:00 11T00:00").then(total=f"acme calls {day}")
    ledger.then(total=f"acme calls {'0' if window == 'per day' else '8'}", between="11:00 12:00")
