"""Meters: their rules are fixed before any usage; their display name and status may change."""

from typing import Any

import pytest
from tallybook.application import MeterView, TallybookError

from ..notation import Ledger, moment


def test_an_inactive_meter_rejects_usage_and_can_be_queried(ledger: Ledger) -> None:
    """It rejects meter events; its totals stay, and recorded events can still be cancelled."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10  id=a
        10:06  acme calls  4  id=b
        deactivate calls
    """)
    ledger.when("10:07  acme calls 1").outcomes_are("archived_meter")
    ledger.then(total="acme calls 14")
    ledger.given("cancel b").then(total="acme calls 10")


def test_a_reactivated_meter_accepts_usage_again(ledger: Ledger) -> None:
    """After deactivation and reactivation the meter is unchanged."""
    ledger.given("""
        meter  calls  sum
        deactivate calls
        reactivate calls
        10:05  acme calls 10
    """)
    ledger.then(total="acme calls 10")


def test_an_inactive_meter_keeps_its_name(ledger: Ledger) -> None:
    """Configuring the event name with other rules is an error; with the same rules the inactive meter is returned."""
    ledger.given("""
        meter  calls  sum
        deactivate calls
    """)
    ledger.when("""
        meter  calls  count
        meter  calls  sum
    """).outcomes_are("meter_already_exists", "configured")
    assert ledger.metering.meters.get("calls").status == "inactive"


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
    """A rename changes the display name and no total."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10
        rename calls All the calls
        10:06  acme calls 4
    """)
    ledger.then(total="acme calls 14")
    assert ledger.metering.meters.get("calls").display_name == "All the calls"


def test_renaming_to_the_same_name_writes_nothing(ledger: Ledger) -> None:
    """A change to the present value writes no event."""
    ledger.given("""
        meter  calls  sum
        rename calls calls
    """)
    assert ledger.position() == 1


def test_a_meter_has_its_rules_and_times(ledger: Ledger) -> None:
    """The view of a meter has its configuration and the time of deactivation."""
    ledger.given("meter  seats  last  per day  by region")
    ledger.clock.now = ledger.clock.now.replace(hour=5)
    meter = ledger.metering.meters.deactivate("seats")
    assert (meter.event_name, meter.display_name, meter.formula, meter.event_time_window) == (
        "seats",
        "seats",
        "last",
        "day",
    )
    assert (meter.customer_key, meter.value_key, meter.dimension_keys) == ("customer", "seats", ("region",))
    assert (meter.status, meter.deactivated_at, meter.updated_at) == ("inactive", ledger.clock.now, ledger.clock.now)
    assert ledger.metering.meters.reactivate("seats").deactivated_at is None


def test_a_meter_has_stripe_s_defaults(ledger: Ledger) -> None:
    """The defaults are a sum without a window, and the keys `stripe_customer_id` and `value`."""
    meter = ledger.metering.meters.configure("calls")
    assert (meter.formula, meter.event_time_window) == ("sum", None)
    assert (meter.customer_key, meter.value_key, meter.dimension_keys) == ("stripe_customer_id", "value", ())


def test_meters_are_listed_by_event_name(ledger: Ledger) -> None:
    """Active and inactive meters, ordered by name."""
    ledger.given("""
        meter  seats  last
        meter  calls  sum
        deactivate calls
    """)
    listed: list[MeterView] = ledger.metering.meters.list()
    assert [(meter.event_name, meter.status) for meter in listed] == [("calls", "inactive"), ("seats", "active")]


def test_an_event_name_belongs_to_one_meter_forever(ledger: Ledger) -> None:
    """Other rules or another display name under an existing event name is an error."""
    ledger.metering.meters.configure("calls", display_name="Calls")
    ledger.metering.meters.configure("calls", display_name="Calls")
    ledger.metering.meters.configure("calls")
    others: list[tuple[dict[str, Any], str]] = [
        ({"display_name": "Other"}, "display_name='Calls'"),
        ({"formula": "last"}, "formula='sum'"),
        ({"event_time_window": "day"}, "no event_time_window"),
        ({"value_key": "n", "dimension_keys": ["region"]}, "value_key='value', dimension_keys=[]"),
    ]
    for other, present in others:
        with pytest.raises(TallybookError) as exc_info:
            ledger.metering.meters.configure("calls", **other)  # type: ignore[arg-type]
        assert exc_info.value.code == "meter_already_exists"
        assert f" already exists with {present}. " in exc_info.value.message
    assert ledger.position() == 1


def test_a_meter_as_of_a_position(ledger: Ledger) -> None:
    """Display name, rules, revision, status and time of the last change are those of the position."""
    ledger.given("""
        meter  calls  sum
        change calls  last per day  at=11:00
        rename calls  All calls
        deactivate calls
    """)
    versions = [ledger.metering.meters.get("calls", as_of=position) for position in (1, 2, 3, 4)]
    assert [(meter.display_name, meter.formula, meter.event_time_window) for meter in versions] == [
        ("calls", "sum", None), ("calls", "last", "day"), ("All calls", "last", "day"), ("All calls", "last", "day"),
    ]  # fmt: skip
    assert [(meter.revision, meter.status) for meter in versions[1:]] == [(2, "active"), (2, "active"), (2, "inactive")]
    assert versions[0].revision == 1
    assert [meter.updated_at for meter in versions[:2]] == [moment("2026-01-01T00:00"), moment("11:00")]
    assert versions[-1] == ledger.metering.meters.get("calls")
    assert ledger.metering.meters.get("calls", as_of=moment("10:59:59.999999")) == versions[0]
    assert ledger.metering.meters.get("calls", as_of=moment("11:00")) == versions[-1]


def test_meters_as_of_a_position(ledger: Ledger) -> None:
    """A meter is listed as of its configuration; before that, it is not found."""
    ledger.given("""
        meter  seats  last
        meter  calls  sum
        rename seats  Chairs
    """)
    listed = [[meter.display_name for meter in ledger.metering.meters.list(as_of=position)] for position in range(4)]
    assert listed == [[], ["seats"], ["calls", "seats"], ["calls", "Chairs"]]
    assert ledger.metering.meters.list(as_of=3) == ledger.metering.meters.list()
    for event_name, as_of in (("calls", 1), ("calls", moment("2025-12-31T23:59")), ("nothing", None), ("nothing", 3)):
        with pytest.raises(TallybookError) as exc_info:
            ledger.metering.meters.get(event_name, as_of=as_of)
        assert exc_info.value.code == "no_meter"
    with pytest.raises(TallybookError) as exc_info:
        ledger.metering.meters.list(as_of=-1)
    assert exc_info.value.code == "invalid_as_of"
