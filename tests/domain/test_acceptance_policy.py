"""Time limits: the limit itself is accepted, one microsecond beyond it is rejected."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import ValidationError
from tallybook.application import AcceptancePolicy, Metering, TallybookError

from ..notation import Clock, moment

NOW = moment("12:00")
MICROSECOND = timedelta(microseconds=1)
PAYLOAD = {"customer": "acme", "value": "1"}


def outcome_at(policy: AcceptancePolicy, occurred_at: datetime) -> str:
    """Return the result of recording an event with `occurred_at` at NOW."""
    with Metering.open("sqlite://", policy=policy, clock=Clock(NOW)) as metering:
        metering.meters.configure("calls", customer_key="customer")
        try:
            return metering.record("calls", PAYLOAD, timestamp=occurred_at).outcome
        except TallybookError as error:
            return error.code


def cancel_outcome(metering: Metering) -> str:
    """Return the result of a cancellation."""
    try:
        metering.cancel("calls", "a")
    except TallybookError as error:
        return error.code
    return "cancelled"


@pytest.mark.parametrize(
    ("after_now", "expected"),
    [
        (timedelta(0), "accepted"),
        (-timedelta(days=35), "accepted"),
        (-timedelta(days=35) - MICROSECOND, "timestamp_too_far_in_past"),
        (timedelta(minutes=5), "accepted"),
        (timedelta(minutes=5) + MICROSECOND, "timestamp_in_future"),
    ],
)
def test_a_meter_event_is_at_most_35_days_old_and_5_minutes_ahead(after_now: timedelta, expected: str) -> None:
    """35 days and 5 minutes exactly are accepted, one microsecond more is rejected."""
    assert outcome_at(AcceptancePolicy(), NOW + after_now) == expected


@pytest.mark.parametrize(
    ("policy", "after_now", "expected"),
    [
        (AcceptancePolicy(max_age=None), -timedelta(days=20_000), "accepted"),
        (AcceptancePolicy(max_age=None), timedelta(minutes=6), "timestamp_in_future"),
        (AcceptancePolicy(max_ahead=None), timedelta(days=20_000), "accepted"),
        (AcceptancePolicy(max_ahead=None), -timedelta(days=36), "timestamp_too_far_in_past"),
        (AcceptancePolicy(max_age=timedelta(0)), -MICROSECOND, "timestamp_too_far_in_past"),
        (AcceptancePolicy(max_age=timedelta(0)), timedelta(0), "accepted"),
        (AcceptancePolicy(max_ahead=timedelta(0)), MICROSECOND, "timestamp_in_future"),
        (AcceptancePolicy(max_age=timedelta.max), -timedelta(days=20_000), "accepted"),
        (AcceptancePolicy(max_ahead=timedelta.max), timedelta(days=20_000), "accepted"),
    ],
)
def test_each_limit_can_be_set_and_lifted(policy: AcceptancePolicy, after_now: timedelta, expected: str) -> None:
    """None removes one limit and leaves the other."""
    assert outcome_at(policy, NOW + after_now) == expected


def test_limits_are_independent_of_the_timezone() -> None:
    """The same instant in another timezone has the same age."""
    west = timezone(timedelta(hours=-11))
    assert outcome_at(AcceptancePolicy(), (NOW - timedelta(days=35)).astimezone(west)) == "accepted"
    assert outcome_at(AcceptancePolicy(), (NOW - timedelta(days=35) - MICROSECOND).astimezone(west)) != "accepted"


@pytest.mark.parametrize(
    ("policy", "after", "expected"),
    [
        (AcceptancePolicy(), timedelta(hours=24), "cancelled"),
        (AcceptancePolicy(), timedelta(hours=24) + MICROSECOND, "invalid_cancel_configuration"),
        (AcceptancePolicy(cancel_window=timedelta(0)), timedelta(0), "cancelled"),
        (AcceptancePolicy(cancel_window=timedelta(0)), MICROSECOND, "invalid_cancel_configuration"),
        (AcceptancePolicy(cancel_window=None), timedelta(days=20_000), "cancelled"),
    ],
)
def test_a_meter_event_can_be_cancelled_for_24_hours(policy: AcceptancePolicy, after: timedelta, expected: str) -> None:
    """24 hours exactly after its recording is in time, one microsecond more is not; None lifts the limit."""
    clock = Clock(NOW)
    with Metering.open("sqlite://", policy=policy, clock=clock) as metering:
        metering.meters.configure("calls", customer_key="customer")
        metering.record("calls", PAYLOAD, identifier="a")
        clock.now = NOW + after
        assert cancel_outcome(metering) == expected


@pytest.mark.parametrize(
    "limits",
    [
        {"max_age": timedelta(seconds=-1)}, {"max_ahead": timedelta(seconds=-1)}, {"max_digits": 0},
        {"cancel_window": timedelta(seconds=-1)}, {"max_height": 3},
        {"grace_period": timedelta(seconds=-1)}, {"grace_period": timedelta(hours=72, microseconds=1)},
    ],
)  # fmt: skip
def test_invalid_policies_are_rejected(limits: dict[str, object]) -> None:
    """Negative durations, zero digits and unknown limits are rejected."""
    with pytest.raises(ValidationError):
        AcceptancePolicy.model_validate(limits)


def test_the_defaults_are_stripe_s() -> None:
    """35 days, 5 minutes, 24 hours, 15 digits, an hour of grace."""
    policy = AcceptancePolicy()
    assert (policy.max_age, policy.max_ahead) == (timedelta(days=35), timedelta(minutes=5))
    assert (policy.cancel_window, policy.max_digits) == (timedelta(hours=24), 15)
    assert policy.grace_period == timedelta(hours=1)


@pytest.mark.parametrize(
    ("occurred_at", "expected"),
    [
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-11))), "timestamp_in_future"),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=11))), "timestamp_too_far_in_past"),
        (datetime.max.replace(tzinfo=UTC), "timestamp_in_future"),
        (datetime.min.replace(tzinfo=UTC), "timestamp_too_far_in_past"),
    ],
)
def test_the_ends_of_time_are_rejected(occurred_at: datetime, expected: str) -> None:
    """Even if the time is out of range in UTC: the event is rejected, and others in the batch are recorded."""
    with Metering.open("sqlite://", clock=Clock(NOW)) as metering:
        metering.meters.configure("calls", customer_key="customer")
        good = {"event_name": "calls", "payload": PAYLOAD}
        first, second = metering.record_many([good | {"timestamp": occurred_at}, good])
    assert first.error is not None
    assert first.error.code in (expected, "invalid_timestamp")
    assert first.error.field == "timestamp"
    assert second.outcome == "accepted"


def test_times_are_stored_in_utc_with_microseconds(metering: Metering, clock: Clock) -> None:
    """A timestamp with any offset is converted to the same instant in UTC."""
    clock.now = NOW
    metering.meters.configure("calls", customer_key="customer")
    local_time = datetime(2026, 11, 10, 1, 2, 3, 456_789, tzinfo=timezone(timedelta(hours=-9, minutes=-30)))
    metering.record("calls", PAYLOAD, timestamp=local_time)
    (event,) = metering.events("calls")
    assert event.occurred_at.isoformat() == "2026-11-10T10:32:03.456789+00:00"
    assert event.recorded_at == NOW
    assert event.recorded_at.tzinfo is UTC
