"""Meters: their rules are fixed before any usage; their display name and status may change."""

import pytest
from tallybook.application import MeterView, TallybookError

from ..notation import Ledger, moment


def test_an_inactive_meter_refuses_usage_and_answers(ledger: Ledger) -> None:
    """It takes no report, keeps its figures, and what was recorded can still be cancelled."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10  id=a
        10:06  acme calls  4  id=b
        deactivate calls
    """)
    ledger.when("10:07  acme calls 1").answered("archived_meter")
    ledger.then(total="acme calls 14")
    ledger.given("cancel b").then(total="acme calls 10")


def test_a_reactivated_meter_takes_usage_again(ledger: Ledger) -> None:
    """Deactivated and reactivated, a meter is as it was."""
    ledger.given("""
        meter  calls  sum
        deactivate calls
        reactivate calls
        10:05  acme calls 10
    """)
    ledger.then(total="acme calls 10")


def test_an_inactive_meter_keeps_its_name(ledger: Ledger) -> None:
    """Configured again under other rules, its event name is refused; under the same it is given as it is."""
    ledger.given("""
        meter  calls  sum
        deactivate calls
    """)
    ledger.when("""
        meter  calls  count
        meter  calls  sum
    """).answered("meter_already_exists", "configured")
    assert ledger.metering.meter("calls").status == "inactive"


def test_status_changes_once(ledger: Ledger) -> None:
    """Deactivating an inactive meter and reactivating an active one write nothing."""
    ledger.given("""
        meter  calls  sum
        reactivate calls
        deactivate calls
        deactivate calls
    """)
    assert ledger.position() == 2


def test_a_renamed_meter_counts_as_before(ledger: Ledger) -> None:
    """A rename changes what is shown and nothing that is counted."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10
        rename calls All the calls
        10:06  acme calls 4
    """)
    ledger.then(total="acme calls 14")
    assert ledger.metering.meter("calls").display_name == "All the calls"


def test_renaming_to_the_same_name_writes_nothing(ledger: Ledger) -> None:
    """There is no event where nothing happened."""
    ledger.given("""
        meter  calls  sum
        rename calls calls
    """)
    assert ledger.position() == 1


def test_a_meter_tells_its_rules_and_its_times(ledger: Ledger) -> None:
    """The view of a meter holds what it was configured with, and when it was deactivated."""
    ledger.given("meter  seats  last  per day  by region")
    ledger.clock.now = ledger.clock.now.replace(hour=5)
    view = ledger.metering.deactivate_meter("seats")
    assert (view.event_name, view.display_name, view.formula, view.event_time_window) == (
        "seats",
        "seats",
        "last",
        "day",
    )
    assert (view.customer_key, view.value_key, view.dimension_keys) == ("customer", "seats", ("region",))
    assert (view.status, view.deactivated_at, view.updated_at) == ("inactive", ledger.clock.now, ledger.clock.now)
    assert ledger.metering.reactivate_meter("seats").deactivated_at is None


def test_a_meter_has_stripe_s_defaults(ledger: Ledger) -> None:
    """Without arguments: a sum, raw, by `stripe_customer_id` and `value`."""
    view = ledger.metering.configure_meter("calls")
    assert (view.formula, view.event_time_window) == ("sum", None)
    assert (view.customer_key, view.value_key, view.dimension_keys) == ("stripe_customer_id", "value", ())


def test_meters_are_listed_by_event_name(ledger: Ledger) -> None:
    """Active and inactive, in order."""
    ledger.given("""
        meter  seats  last
        meter  calls  sum
        deactivate calls
    """)
    listed: list[MeterView] = ledger.metering.meters()
    assert [(one.event_name, one.status) for one in listed] == [("calls", "inactive"), ("seats", "active")]


def test_an_event_name_is_one_meter_s_for_ever(ledger: Ledger) -> None:
    """Other rules or another display name under a taken event name are refused."""
    ledger.metering.configure_meter("calls", display_name="Calls")
    ledger.metering.configure_meter("calls", display_name="Calls")
    ledger.metering.configure_meter("calls")
    for other in ({"display_name": "Other"}, {"formula": "last"}, {"event_time_window": "day"}, {"value_key": "n"}):
        with pytest.raises(TallybookError) as refused:
            ledger.metering.configure_meter("calls", **other)
        assert refused.value.code == "meter_already_exists"
    assert ledger.position() == 1


def test_a_meter_is_shown_as_it_was(ledger: Ledger) -> None:
    """As of each position: its name, its rules and their revision, its status, and when it last changed."""
    ledger.given("""
        meter  calls  sum
        change calls  last per day  at=11:00
        rename calls  All calls
        deactivate calls
    """)
    shown = [ledger.metering.meter("calls", as_of=position) for position in (1, 2, 3, 4)]
    assert [(one.display_name, one.formula, one.event_time_window) for one in shown] == [
        ("calls", "sum", None), ("calls", "last", "day"), ("All calls", "last", "day"), ("All calls", "last", "day"),
    ]  # fmt: skip
    assert [(one.revision, one.status) for one in shown[1:]] == [(2, "active"), (2, "active"), (2, "inactive")]
    assert shown[0].revision == 1
    assert [one.updated_at for one in shown[:2]] == [moment("2026-01-01T00:00"), moment("11:00")]
    assert shown[-1] == ledger.metering.meter("calls")
    assert ledger.metering.meter("calls", as_of=moment("10:59:59.999999")) == shown[0]
    assert ledger.metering.meter("calls", as_of=moment("11:00")) == shown[-1]


def test_meters_are_listed_as_they_were(ledger: Ledger) -> None:
    """A meter is in the list as of its configuring, and asked for before it there is none."""
    ledger.given("""
        meter  seats  last
        meter  calls  sum
        rename seats  Chairs
    """)
    listed = [[one.display_name for one in ledger.metering.meters(as_of=position)] for position in range(4)]
    assert listed == [[], ["seats"], ["calls", "seats"], ["calls", "Chairs"]]
    assert ledger.metering.meters(as_of=3) == ledger.metering.meters()
    for event_name, as_of in (("calls", 1), ("calls", moment("2025-12-31T23:59")), ("nothing", None), ("nothing", 3)):
        with pytest.raises(TallybookError) as refused:
            ledger.metering.meter(event_name, as_of=as_of)
        assert refused.value.code == "no_meter"
    with pytest.raises(TallybookError) as refused:
        ledger.metering.meters(as_of=-1)
    assert refused.value.code == "invalid_as_of"
