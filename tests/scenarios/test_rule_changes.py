"""Rule changes: past usage is counted under the new rules, and earlier results can still be queried."""

from collections.abc import Mapping
from datetime import datetime

import pytest
from tallybook.application import InvalidParameter

from ..notation import Ledger, moment

NOVEMBER = "2026-11-01T00:00 2026-12-01T00:00"


def test_all_of_the_past_is_counted_by_the_new_rules(ledger: Ledger) -> None:
    """The newest event of each day counts instead of every event; as of the day before, every event counts."""
    ledger.given("""
        meter   seats  sum
        10:05   acme seats 10
        12:00   acme seats  4
        11T10:00  acme seats  3
        change  seats  sum per day  at=12T08:00
    """)
    ledger.then(total="acme seats 7")
    ledger.then(total="acme seats 17", as_of="12T07:59").then(total="acme seats 14", as_of=3)


def test_as_of_before_a_meter_was_configured_its_first_rules_count_nothing(ledger: Ledger) -> None:
    """The totals are 0 under the configured rules, whatever the rules in force now."""
    ledger.given("""
        meter   calls  sum
        10:05   acme calls 10
        change  calls  last per day
    """)
    start, end = (moment(time_text) for time_text in NOVEMBER.split())
    for as_of in (0, moment("2025-12-31T00:00")):
        explained = ledger.metering.explain("calls", "acme", start, end, as_of=as_of)
        assert (explained.formula, explained.revision, explained.total.count) == ("sum", 1, 0)


def test_events_supersede_each_other_after_a_dimension_is_removed(ledger: Ledger) -> None:
    """One event per hour counts for each region, then one for all regions; as of before, both counted."""
    ledger.given("""
        meter   seats  sum per hour by region
        10:05   acme seats 10  id=a  region=eu
        10:45   acme seats  4  id=b  region=us
        change  seats  sum per hour  at=11:00
    """)
    ledger.then(total="acme seats 4").then(total="acme seats 14", as_of=3)
    assert ledger.explanation("acme seats") == ["a superseded by b", "b counted"]
    assert ledger.explanation("acme seats", as_of=3) == ["a counted", "b counted"]
    ledger.given("change  seats  sum per hour by region  at=12:00").then(total="acme seats 14")
    ledger.then(total="acme seats 4", as_of=4)


def test_events_incompatible_with_a_closed_period_s_rules_do_not_count(ledger: Ledger) -> None:
    """The period was closed as a sum: a later event without a value adds nothing to its adjustment."""
    ledger.given("""
        meter   calls  sum
        10:05   acme calls 10
        change  calls  count  at=2026-12-01T08:00
    """)
    start, end = (moment(time_text) for time_text in NOVEMBER.split())
    ledger.metering.periods.close("calls", "acme", start, end)
    ledger.given("""
        change  calls  sum  at=2026-12-01T09:00
    """)
    ledger.metering.periods.reopen("calls", "acme", start, end, reason="by value")
    ledger.metering.periods.close("calls", "acme", start, end, rules="current")
    ledger.given("""
        change  calls  count  at=2026-12-01T10:00
        20T10:00  acme calls -  id=without
        20T11:00  acme calls 5  id=with
    """)
    (adjustment,) = ledger.metering.periods.adjustments("calls")
    assert (adjustment.period.quantity, adjustment.quantity, adjustment.difference) == (10, 15, 5)
    assert [event.identifier for event in adjustment.events] == ["with"]


def test_changed_payload_keys_apply_and_earlier_ones_as_of_then(ledger: Ledger) -> None:
    """Counted by account and size; as of before, by customer and calls, even for a customer without an account."""
    ledger.given("""
        meter   calls  sum
        10:05   acme calls 10  id=a  account=one  size=7
        10:06   beta calls 20  id=b  account=one  size=8
        11T10:00  beta calls 30  id=c  account=two  size=9
        change  calls  sum  customer=account  value=size  at=12T08:00
    """)
    assert ledger.totals("calls") == ["one 15", "two 9"]
    ledger.then(total="one calls 15").then(total="acme calls 0", count=0).then(total="* calls 24")
    ledger.then(total="acme calls 10", as_of=4).then(total="beta calls 50", as_of=4)
    ledger.then(total="one calls 0", count=0, as_of=4).then(total="* calls 60", as_of=4)
    assert ledger.explanation("beta calls", as_of=4) == ["b counted", "c counted"]
    assert [event.customer for event in ledger.metering.events("calls", as_of=4)] == ["acme", "beta", "beta"]
    assert [event.customer for event in ledger.metering.events("calls", customer="beta", as_of=4)] == ["beta", "beta"]
    ledger.given("change  calls  sum  customer=account  at=12T09:00")
    ledger.then(total="one calls 30").then(total="one calls 15", as_of=5).then(total="two calls 9", as_of=5)


def test_totals_of_the_ledger_alone_read_each_event_by_the_rules_of_its_time(ledger: Ledger) -> None:
    """Rules that apply from a time on can't read the events before."""
    ledger.given("""
        meter  tokens  sum
        10:05  acme tokens 1
    """)
    metering = ledger.metering
    metering.rules.change("tokens", {"value_key": "size"}, reason="renamed", effective_from=moment("10T11:00"))
    ledger.given("11:05  acme tokens -  size=2")
    for start, end, value in (("10", "10T11:00", 1), ("10T11:00", "11", 2), ("10", "11", 3)):
        (total,) = metering.replay_totals("tokens", moment(start), moment(end))
        assert total.value == value


ANNOUNCED = moment("2100-01-01T00:00")
FREE_TESTS = {"filter": {"not": {"key": "env", "equals": "test"}}}


def change(ledger: Ledger, rules: Mapping[str, object], effective_from: datetime | None = None) -> None:
    ledger.metering.rules.change("calls", rules, reason="a new contract", effective_from=effective_from)


@pytest.mark.parametrize("effective_from", [None, moment("11T00:00")])
def test_a_change_does_not_put_announced_rules_in_force(ledger: Ledger, effective_from: datetime | None) -> None:
    """A rule that isn't named keeps the value that it has then, and no announcement is lost without a word."""
    ledger.given("""
        meter  calls  sum
        11T10:00  acme calls 2000
    """)
    change(ledger, {"multiplier": "1/1000"}, ANNOUNCED)
    with pytest.raises(InvalidParameter, match="'multiplier' changes for usage from 2100-01-01T00:00:00Z on") as error:
        change(ledger, FREE_TESTS, effective_from)
    assert error.value.field == "multiplier"
    with pytest.raises(InvalidParameter, match="'multiplier' changes"):
        ledger.metering.proposals.propose_rules("calls", FREE_TESTS, reason="free", effective_from=effective_from)
    ledger.then(total="acme calls 2000")
    change(ledger, {**FREE_TESTS, "multiplier": None}, effective_from)
    change(ledger, {"multiplier": "1/1000"}, ANNOUNCED)
    ledger.then(total="acme calls 2000")
    (announced,) = ledger.metering.meters.get("calls").upcoming
    assert announced.rules.filter is not None


def test_a_correction_of_all_usage_names_the_rules_that_changed_on_a_date(ledger: Ledger) -> None:
    """Its value before that date would be that of after it."""
    ledger.given("""
        meter  calls  sum
        10T10:00  acme calls 3000
        12T10:00  acme calls 2000
    """)
    change(ledger, {"multiplier": "1/1000"}, moment("11T00:00"))
    with pytest.raises(InvalidParameter, match="'multiplier' changes for usage from 2026-11-11T00:00:00Z on"):
        change(ledger, FREE_TESTS)
    change(ledger, {**FREE_TESTS, "multiplier": None})
    change(ledger, {"multiplier": "1/1000"}, moment("11T00:00"))
    assert ledger.totals("calls", "10 11") == ["acme 3000"]
    assert ledger.totals("calls", "11 13") == ["acme 2"]


def test_a_change_after_the_last_one_keeps_the_other_rules(ledger: Ledger) -> None:
    """Those of the time from which on it applies."""
    ledger.given("meter  calls  sum")
    change(ledger, {"multiplier": "2"}, moment("11T00:00"))
    change(ledger, FREE_TESTS, moment("12T00:00"))
    ledger.given("""
        10T10:00  acme calls 1
        11T10:00  acme calls 1  env=test
        12T10:00  acme calls 1
        12T11:00  acme calls 1  env=test
    """)
    assert [ledger.totals("calls", f"{day} {day + 1}") for day in (10, 11, 12)] == [["acme 1"], ["acme 2"], ["acme 2"]]
