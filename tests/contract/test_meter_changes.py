"""The contract of following meters: what happened to them, in order, with the meter as it was then."""

import pytest
from tallybook.application import MeterChange, Metering
from tallybook.domain.errors import InvalidParameter

from .histories import START


def told(changes: list[MeterChange]) -> list[tuple[str, str]]:
    """What happened, and to which meter."""
    return [(change.happened, change.meter.event_name) for change in changes]


def happen(metering: Metering) -> None:
    """Two meters have a history, between usage."""
    metering.configure_meter("tokens", customer_key="customer")
    metering.record("tokens", {"customer": "acme", "value": "1"}, timestamp=START)
    metering.configure_meter("seats", display_name="Seats", formula="last", customer_key="customer")
    metering.rename_meter("tokens", "Tokens")
    metering.record("tokens", {"customer": "acme", "value": "2"}, timestamp=START)
    metering.deactivate_meter("tokens")
    metering.reactivate_meter("tokens")
    metering.change_rules("seats", {"formula": "count"}, reason="seats are counted")


def test_what_happened_to_meters_is_told_in_order(metering: Metering) -> None:
    """In the order of the ledger over all meters; usage isn't told."""
    assert metering.meter_changes() == []
    happen(metering)
    changes = metering.meter_changes()
    assert told(changes) == [
        ("Configured", "tokens"), ("Configured", "seats"), ("Renamed", "tokens"), ("Deactivated", "tokens"),
        ("Reactivated", "tokens"), ("RulesChanged", "seats"),
    ]  # fmt: skip
    assert [change.position for change in changes] == [1, 3, 4, 6, 7, 8]


def test_a_change_shows_the_meter_as_it_was_then_and_before(metering: Metering) -> None:
    """Whatever has become of it since."""
    happen(metering)
    configured, _, renamed, deactivated, _, changed = metering.meter_changes()
    assert configured.before is None
    assert (configured.meter.display_name, configured.meter.status) == ("tokens", "active")
    assert renamed.before is not None
    assert (renamed.before.display_name, renamed.meter.display_name) == ("tokens", "Tokens")
    assert deactivated.meter.status == "inactive"
    assert changed.before is not None
    assert (changed.before.formula, changed.meter.formula, changed.meter.revision) == ("last", "count", 2)


def test_changes_are_followed_from_where_one_was(metering: Metering) -> None:
    """After a position, so many at a time."""
    happen(metering)
    every = metering.meter_changes()
    assert metering.meter_changes(limit=2) == every[:2]
    assert metering.meter_changes(after=3, limit=2) == every[2:4]
    assert metering.meter_changes(after=8) == []


@pytest.mark.parametrize("wrong", [{"after": -1}, {"after": "1"}, {"limit": 0}, {"limit": 10_001}])
def test_changes_out_of_range_are_refused(metering: Metering, wrong: dict[str, int]) -> None:
    """The field is named."""
    with pytest.raises(InvalidParameter) as refused:
        metering.meter_changes(**wrong)
    assert refused.value.field == next(iter(wrong))
