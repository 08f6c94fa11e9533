"""Queries as of a time or a position in the ledger."""

from ..notation import Ledger, moment


def test_a_late_meter_event_is_not_visible_before_it_was_recorded(ledger: Ledger) -> None:
    """As of a time, only events recorded at or before it count."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10
        10:06  acme calls  4  recorded=12:00
    """)
    ledger.then(total="acme calls 14")
    ledger.then(total="acme calls 10", as_of="11:59:59.999999").then(total="acme calls 14", as_of="12:00")
    ledger.then(total="acme calls 0", count=0, as_of="10:04")


def test_an_event_counts_as_of_before_its_cancellation(ledger: Ledger) -> None:
    """A cancellation takes effect when it is recorded, not before."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10  id=a
        10:06  acme calls  4  id=b
        cancel b  at=12:00
    """)
    ledger.then(total="acme calls 14", as_of="11:59:59.999999").then(total="acme calls 10", as_of="12:00")
    assert ledger.explanation("acme calls", as_of=3) == ["a counted", "b counted"]
    assert ledger.explanation("acme calls", as_of=4) == ["a counted", "b cancelled"]


def test_as_of_a_position(ledger: Ledger) -> None:
    """A position identifies one state of the ledger, even if many events share a time of recording."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10  id=a
        10:05  acme calls  4  id=b
        cancel b
    """)
    for position, value in enumerate((0, 0, 10, 14, 10)):
        ledger.then(total=f"acme calls {value}", as_of=position)
    ledger.then(total="acme calls 10", as_of=1_000_000)


def test_as_of_before_a_superseding_meter_event(ledger: Ledger) -> None:
    """In a window, the newest arrival by then counts."""
    ledger.given("""
        meter  seats  last per hour
        10:05  acme seats 10  id=a
        10:45  acme seats  4  id=b
        cancel b  at=10:50
    """)
    ledger.then(total="acme seats 10", as_of="10:44").then(total="acme seats 4", as_of="10:45")
    ledger.then(total="acme seats 10", as_of="10:50")
    ledger.then(total="acme seats 4", as_of="10:49", between="10:00 10:30")
    ledger.then(total="acme seats 0", as_of="10:49", between="10:30 11:00")
    assert ledger.explanation("acme seats", as_of=3) == ["a superseded by b", "b counted"]


def test_as_of_the_day_of_the_invoice(ledger: Ledger) -> None:
    """The total on the day of the invoice can always be queried, however late usage arrives."""
    ledger.given("""
        meter     calls  sum
        2026-10-30T12:00  acme calls 100
        2026-10-31T12:00  acme calls  50  recorded=02T08:00
    """)
    october = "2026-10-01T00:00 2026-11-01T00:00"
    ledger.then(total="acme calls 100", between=october, as_of="01T00:00")
    ledger.then(total="acme calls 150", between=october)


def test_totals_and_summaries_as_of(ledger: Ledger) -> None:
    """Every query accepts as_of; customers and windows without usage by then are omitted."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10
        11:05  beta calls  4
    """)
    year = (ledger.clock.now.replace(month=1), ledger.clock.now.replace(month=12))
    totals = ledger.metering.totals("calls", *year, as_of=2)
    assert [(total.customer, str(total.value)) for total in totals] == [("acme", "10")]
    summaries = ledger.metering.summaries("calls", None, *year, window="hour", as_of=2)
    assert [str(summary.value) for summary in summaries] == ["10"]
    assert [event.customer for event in ledger.metering.events("calls", as_of=2)] == ["acme"]


def test_rules_in_force_are_the_same_for_a_meter_and_its_totals(ledger: Ledger) -> None:
    """Also between two changes."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10
        change calls  count  at=12:00
        change calls  last   at=13:00
    """)
    at = moment("11:30")
    explained = ledger.metering.explain("calls", "acme", moment("10:00"), moment("11:00"), as_of=at)
    assert explained.formula == ledger.metering.meters.get("calls", as_of=at).formula == "sum"
    ledger.then(total="acme calls 10", as_of="11:30").then(total="acme calls 10").then(of="acme calls", count=1)


def test_an_explanation_as_of_a_time_stays_the_same(ledger: Ledger) -> None:
    """Its position stays the same too, whatever is recorded later."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10
        10:06  acme calls  4  recorded=12:00
    """)
    query = "calls", "acme", moment("10:00"), moment("11:00")
    moments = [moment(at) for at in ("10:04", "10:05", "11:59", "12:00")]
    explained = [ledger.metering.explain(*query, as_of=at) for at in moments]
    assert [event.position for event in explained] == [1, 2, 2, 3]
    ledger.given("10:07  acme calls 1  recorded=13:00")
    assert [
        ledger.metering.explain(*query, as_of=moment(at)) for at in ("10:04", "10:05", "11:59", "12:00")
    ] == explained
