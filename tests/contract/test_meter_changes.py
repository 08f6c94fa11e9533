"""The contract of meter changes: the events of all meters in order, with the meter as of each event."""

import pytest
from tallybook.application import MeterChange, Metering
from tallybook.application.ledger.ledger import Ledger
from tallybook.domain import Meter
from tallybook.domain.errors import InvalidParameter, MeterNotFound

from .histories import START


def change_pairs(changes: list[MeterChange]) -> list[tuple[str, str]]:
    """Return the kind and the event name of each change."""
    return [(change.change, change.meter.event_name) for change in changes]


def record_changes(metering: Metering) -> None:
    """Record changes of two meters, with usage between them."""
    metering.meters.configure("tokens", customer_key="customer")
    metering.record("tokens", {"customer": "acme", "value": "1"}, timestamp=START)
    metering.meters.configure("seats", display_name="Seats", formula="last", customer_key="customer")
    metering.meters.rename("tokens", "Tokens")
    metering.record("tokens", {"customer": "acme", "value": "2"}, timestamp=START)
    metering.meters.deactivate("tokens")
    metering.meters.reactivate("tokens")
    metering.rules.change("seats", {"formula": "count"}, reason="seats are counted")


def test_meter_changes_are_returned_in_order(metering: Metering) -> None:
    """Changes of all meters are in the order of the ledger, without usage."""
    assert metering.meters.changes() == []
    record_changes(metering)
    changes = metering.meters.changes()
    assert change_pairs(changes) == [
        ("Configured", "tokens"), ("Configured", "seats"), ("Renamed", "tokens"), ("Deactivated", "tokens"),
        ("Reactivated", "tokens"), ("RulesChanged", "seats"),
    ]  # fmt: skip
    assert [change.position for change in changes] == [1, 3, 4, 6, 7, 8]


def test_a_change_shows_the_meter_as_it_was_then_and_before(metering: Metering) -> None:
    """Later changes of the meter don't affect it."""
    record_changes(metering)
    configured, _, renamed, deactivated, _, rules_changed = metering.meters.changes()
    assert configured.before is None
    assert (configured.meter.display_name, configured.meter.status) == ("tokens", "active")
    assert renamed.before is not None
    assert (renamed.before.display_name, renamed.meter.display_name) == ("tokens", "Tokens")
    assert deactivated.meter.status == "inactive"
    assert rules_changed.before is not None
    assert (rules_changed.before.formula, rules_changed.meter.formula, rules_changed.meter.revision) == (
        "last",
        "count",
        2,
    )


def test_changes_are_read_from_a_position(metering: Metering) -> None:
    """A call returns the changes after a position, up to a limit."""
    record_changes(metering)
    all_changes = metering.meters.changes()
    assert metering.meters.changes(limit=2) == all_changes[:2]
    assert metering.meters.changes(after=3, limit=2) == all_changes[2:4]
    assert metering.meters.changes(after=8) == []


def test_the_stream_of_a_meter_is_read_once(metering: Metering, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a page of changes of a meter with many would read the stream for each of them."""
    record_changes(metering)
    expected = [metering.meters.changes(after=change.position - 1, limit=1) for change in metering.meters.changes()]
    read: list[str] = []
    meter = Ledger.meter

    def observed(ledger: Ledger, event_name: str, version: int | None = None) -> Meter:
        read.append(event_name)
        return meter(ledger, event_name, version)

    monkeypatch.setattr(Ledger, "meter", observed)
    assert [[change] for change in metering.meters.changes()] == expected
    assert read == []
    assert [[change] for change in metering.meters.changes(after=3)] == expected[2:]
    assert read == ["tokens", "seats"]


@pytest.mark.parametrize("invalid_arguments", [{"after": -1}, {"after": "1"}, {"limit": 0}, {"limit": 10_001}])
def test_changes_out_of_range_are_rejected(metering: Metering, invalid_arguments: dict[str, int]) -> None:
    """The error names the field."""
    with pytest.raises(InvalidParameter) as exc_info:
        metering.meters.changes(**invalid_arguments)
    assert exc_info.value.field == next(iter(invalid_arguments))


def test_the_history_has_the_revisions_of_one_meter(metering: Metering) -> None:
    """Each has its position, effective time and reason; other changes and other meters aren't included."""
    record_changes(metering)
    metering.meters.configure("seats in use", formula="last")
    metering.rules.change("seats", {"formula": "max"}, reason="the contract", by="ops", effective_from=START)
    revisions = metering.meters.history("seats")
    assert [(revision.revision, revision.position, revision.rules.formula) for revision in revisions] == [
        (1, 3, "last"), (2, 8, "count"), (3, 10, "max"),
    ]  # fmt: skip
    assert [(revision.effective_from, revision.reason, revision.by) for revision in revisions] == [
        (None, None, None), (None, "seats are counted", None), (START, "the contract", "ops"),
    ]  # fmt: skip
    with pytest.raises(MeterNotFound):
        metering.meters.history("calls")
