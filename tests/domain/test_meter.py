"""The aggregates: which events their commands trigger."""

from datetime import timedelta

import pytest
from tallybook.domain import AcceptancePolicy, Meter, MeterEvent, MeterEventInput, Rules
from tallybook.domain.errors import InvalidCancellation, MeterInactive

from ..notation import moment

NOON = moment("12:00")
POLICY = AcceptancePolicy()
EVENT_INPUT = MeterEventInput("calls", {"stripe_customer_id": "acme", "value": "1"})


@pytest.fixture
def meter() -> Meter:
    """Return a meter with the default rules."""
    return Meter.configure("calls", "Calls", Rules(), at=NOON)


def event_names(aggregate: Meter | MeterEvent) -> list[str]:
    """Return the names of the events since the last call."""
    return [type(event).__name__ for event in aggregate.collect_events()]


def test_a_meter_is_configured_under_its_event_name(meter: Meter) -> None:
    """Its stream id contains its event name."""
    assert (meter.id, meter.event_name, meter.display_name, meter.revision) == ("meter/calls", "calls", "Calls", 1)
    assert event_names(meter) == ["Configured"]


def test_a_meter_s_life(meter: Meter) -> None:
    """Each change triggers one event with the given time; no change triggers none."""
    later = NOON + timedelta(hours=1)
    meter.rename("Calls", at=later)
    meter.reactivate(at=later)
    assert event_names(meter) == ["Configured"]
    meter.rename("All calls", at=later)
    meter.deactivate(at=later)
    meter.deactivate(at=later + timedelta(hours=1))
    assert (meter.display_name, meter.is_active, meter.deactivated_at) == ("All calls", False, later)
    meter.reactivate(at=later)
    assert (meter.is_active, meter.deactivated_at) == (True, None)
    assert event_names(meter) == ["Renamed", "Deactivated", "Reactivated"]


def test_a_meter_accepts_a_meter_event(meter: Meter) -> None:
    """It returns the data to store, with the time of recording if there is no timestamp, and triggers no event."""
    meter.collect_events()
    data = meter.accept(EVENT_INPUT, at=NOON, policy=POLICY)
    assert (data.event_name, data.payload, data.occurred_at, data.recorded_at) == (
        "calls",
        EVENT_INPUT.payload,
        NOON,
        NOON,
    )
    assert event_names(meter) == []


def test_an_inactive_meter_is_rejected_first(meter: Meter) -> None:
    """Even if the meter event is invalid too."""
    meter.deactivate(at=NOON)
    with pytest.raises(MeterInactive):
        meter.accept(MeterEventInput("calls", {}), at=NOON, policy=POLICY)


@pytest.fixture
def event(meter: Meter) -> MeterEvent:
    """Return a meter event recorded at noon."""
    return MeterEvent.create("a", meter.accept(EVENT_INPUT, at=NOON, policy=POLICY))


def test_a_cancellation_contains_the_fields_a_fold_needs(event: MeterEvent) -> None:
    """Meter, payload, time and position of the event, reason and author, so that a fold loads no other stream."""
    event.collect_events()
    cancellation = event.cancel("calls", recorded_position=7, at=NOON, policy=POLICY, reason="error", by="ops")
    (cancelled,) = event.collect_events()
    assert isinstance(cancelled, MeterEvent.EventCancelled)
    assert cancelled.model_dump(exclude={"timestamp"}) == {
        "event_name": "calls",
        "payload": EVENT_INPUT.payload,
        "occurred_at": NOON,
        "recorded_position": 7,
        "reason": "error",
        "by": "ops",
    }
    assert (cancellation.identifier, cancellation.cancelled_at, cancellation.reason, cancellation.by) == (
        "a",
        NOON,
        "error",
        "ops",
    )


def test_cancelling_twice_returns_the_first_cancellation(event: MeterEvent) -> None:
    """The second call triggers no event, at any later time."""
    first = event.cancel("calls", recorded_position=7, at=NOON, policy=POLICY)
    assert event_names(event) == ["UsageRecorded", "EventCancelled"]
    second_cancellation = event.cancel(
        "calls", recorded_position=7, at=NOON + timedelta(days=99), policy=POLICY, reason="other"
    )
    assert second_cancellation == first
    assert event_names(event) == []


def test_another_meter_s_event_is_not_cancelled(event: MeterEvent) -> None:
    """The meter must match, even in the second call."""
    for _ in range(2):
        with pytest.raises(InvalidCancellation):
            event.cancel("seats", recorded_position=7, at=NOON, policy=POLICY)
        event.cancel("calls", recorded_position=7, at=NOON, policy=POLICY)


@pytest.mark.parametrize(
    ("event_input", "same"),
    [
        (EVENT_INPUT, True),
        (MeterEventInput("calls", EVENT_INPUT.payload, "a", NOON), True),
        (MeterEventInput("calls", dict(reversed(EVENT_INPUT.payload.items())), "a"), True),
        (MeterEventInput("calls", EVENT_INPUT.payload, "a", NOON + timedelta(microseconds=1)), False),
        (MeterEventInput("seats", EVENT_INPUT.payload), False),
        (MeterEventInput("calls", EVENT_INPUT.payload | {"region": "eu"}), False),
        (MeterEventInput("calls", EVENT_INPUT.payload | {"value": "1.0"}), False),
        (MeterEventInput("calls", {"stripe_customer_id": "acme"}), False),
    ],
)
def test_content_equality(event: MeterEvent, event_input: MeterEventInput, same: bool) -> None:
    """Event name, payload in any order, and the timestamp if it is present."""
    assert event.data.matches(event_input) is same
