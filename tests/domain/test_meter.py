"""The aggregates: which events their commands trigger."""

from datetime import timedelta

import pytest
from tallybook.domain import AcceptancePolicy, Meter, MeterEvent, Report, Rules
from tallybook.domain.errors import ArchivedMeter, InvalidCancel

from ..notation import moment

NOON = moment("12:00")
POLICY = AcceptancePolicy()
REPORT = Report("calls", {"stripe_customer_id": "acme", "value": "1"})


@pytest.fixture
def meter() -> Meter:
    """A meter of the default rules."""
    return Meter.configure("calls", "Calls", Rules(), at=NOON)


def names(aggregate: Meter | MeterEvent) -> list[str]:
    """The names of what happened since the last time of asking."""
    return [type(event).__name__ for event in aggregate.collect_events()]


def test_a_meter_is_configured_under_its_event_name(meter: Meter) -> None:
    """Its stream is named by its event name: one meter a name, for ever."""
    assert (meter.id, meter.event_name, meter.display_name, meter.revision) == ("meter/calls", "calls", "Calls", 1)
    assert names(meter) == ["Configured"]


def test_a_meter_s_life(meter: Meter) -> None:
    """Renamed, deactivated, reactivated: an event each, at the time given, and none where nothing changes."""
    later = NOON + timedelta(hours=1)
    meter.rename("Calls", at=later)
    meter.reactivate(at=later)
    assert names(meter) == ["Configured"]
    meter.rename("All calls", at=later)
    meter.deactivate(at=later)
    meter.deactivate(at=later + timedelta(hours=1))
    assert (meter.display_name, meter.is_active, meter.deactivated_at) == ("All calls", False, later)
    meter.reactivate(at=later)
    assert (meter.is_active, meter.deactivated_at) == (True, None)
    assert names(meter) == ["Renamed", "Deactivated", "Reactivated"]


def test_a_meter_decides_on_a_report(meter: Meter) -> None:
    """It gives the use to store, of now where the report has no timestamp, and triggers nothing itself."""
    meter.collect_events()
    use = meter.record(REPORT, at=NOON, policy=POLICY)
    assert (use.event_name, use.payload, use.occurred_at, use.recorded_at) == ("calls", REPORT.payload, NOON, NOON)
    assert names(meter) == []


def test_an_inactive_meter_refuses_before_all_else(meter: Meter) -> None:
    """Whatever is wrong with the report too."""
    meter.deactivate(at=NOON)
    with pytest.raises(ArchivedMeter):
        meter.record(Report("calls", {}), at=NOON, policy=POLICY)


@pytest.fixture
def event(meter: Meter) -> MeterEvent:
    """A meter event, recorded at noon."""
    return MeterEvent.record("a", meter.record(REPORT, at=NOON, policy=POLICY))


def test_a_cancel_carries_what_a_fold_needs(event: MeterEvent) -> None:
    """Meter, payload, time and position of the report, the reason and who asked; so no fold loads another stream."""
    event.collect_events()
    given = event.cancel("calls", recorded_position=7, at=NOON, policy=POLICY, reason="error", by="ops")
    (cancelled,) = event.collect_events()
    assert isinstance(cancelled, MeterEvent.EventCancelled)
    assert cancelled.model_dump(exclude={"timestamp"}) == {
        "event_name": "calls",
        "payload": REPORT.payload,
        "occurred_at": NOON,
        "recorded_position": 7,
        "reason": "error",
        "by": "ops",
    }
    assert (given.identifier, given.cancelled_at, given.reason, given.by) == ("a", NOON, "error", "ops")


def test_cancelling_twice_gives_the_first(event: MeterEvent) -> None:
    """The second triggers nothing, however late it comes."""
    first = event.cancel("calls", recorded_position=7, at=NOON, policy=POLICY)
    assert names(event) == ["UsageRecorded", "EventCancelled"]
    again = event.cancel("calls", recorded_position=7, at=NOON + timedelta(days=99), policy=POLICY, reason="other")
    assert again == first
    assert names(event) == []


def test_another_meter_s_event_is_not_cancelled(event: MeterEvent) -> None:
    """The meter must be named rightly, also the second time."""
    for _ in range(2):
        with pytest.raises(InvalidCancel):
            event.cancel("seats", recorded_position=7, at=NOON, policy=POLICY)
        event.cancel("calls", recorded_position=7, at=NOON, policy=POLICY)


@pytest.mark.parametrize(
    ("again", "same"),
    [
        (REPORT, True),
        (Report("calls", REPORT.payload, "a", NOON), True),
        (Report("calls", dict(reversed(REPORT.payload.items())), "a"), True),
        (Report("calls", REPORT.payload, "a", NOON + timedelta(microseconds=1)), False),
        (Report("seats", REPORT.payload), False),
        (Report("calls", REPORT.payload | {"region": "eu"}), False),
        (Report("calls", REPORT.payload | {"value": "1.0"}), False),
        (Report("calls", {"stripe_customer_id": "acme"}), False),
    ],
)
def test_what_is_the_same_content(event: MeterEvent, again: Report, same: bool) -> None:
    """Event name, payload in any order, and the timestamp if one was given."""
    assert event.use.is_said_by(again) is same
