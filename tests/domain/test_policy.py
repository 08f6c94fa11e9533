"""Limits of time: each is accepted itself, and refused a microsecond beyond."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import ValidationError
from tallybook.application import AcceptancePolicy, Metering, TallybookError

from ..notation import Clock, moment

NOW = moment("12:00")
MICROSECOND = timedelta(microseconds=1)
PAYLOAD = {"customer": "acme", "value": "1"}


def answer(policy: AcceptancePolicy, occurred_at: datetime) -> str:
    """What a report of `occurred_at` is answered at NOW."""
    with Metering.open("sqlite://", policy=policy, clock=Clock(NOW)) as metering:
        metering.configure_meter("calls", customer_key="customer")
        try:
            return metering.record("calls", PAYLOAD, timestamp=occurred_at).outcome
        except TallybookError as error:
            return error.code


def cancelled(metering: Metering) -> str:
    """What a cancel is answered."""
    try:
        metering.cancel("calls", "a")
    except TallybookError as error:
        return error.code
    return "cancelled"


@pytest.mark.parametrize(
    ("after_now", "answered"),
    [
        (timedelta(0), "accepted"),
        (-timedelta(days=35), "accepted"),
        (-timedelta(days=35) - MICROSECOND, "timestamp_too_far_in_past"),
        (timedelta(minutes=5), "accepted"),
        (timedelta(minutes=5) + MICROSECOND, "timestamp_in_future"),
    ],
)
def test_a_use_is_at_most_35_days_old_and_5_minutes_ahead(after_now: timedelta, answered: str) -> None:
    """35 days and 5 minutes exactly are accepted, one microsecond more is refused."""
    assert answer(AcceptancePolicy(), NOW + after_now) == answered


@pytest.mark.parametrize(
    ("policy", "after_now", "answered"),
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
def test_each_limit_can_be_set_and_lifted(policy: AcceptancePolicy, after_now: timedelta, answered: str) -> None:
    """None lifts one limit and leaves the other."""
    assert answer(policy, NOW + after_now) == answered


def test_limits_are_of_moments_not_of_clock_faces() -> None:
    """The same moment told in another timezone is as old."""
    west = timezone(timedelta(hours=-11))
    assert answer(AcceptancePolicy(), (NOW - timedelta(days=35)).astimezone(west)) == "accepted"
    assert answer(AcceptancePolicy(), (NOW - timedelta(days=35) - MICROSECOND).astimezone(west)) != "accepted"


@pytest.mark.parametrize(
    ("policy", "after", "answered"),
    [
        (AcceptancePolicy(), timedelta(hours=24), "cancelled"),
        (AcceptancePolicy(), timedelta(hours=24) + MICROSECOND, "invalid_cancel_configuration"),
        (AcceptancePolicy(cancel_window=timedelta(0)), timedelta(0), "cancelled"),
        (AcceptancePolicy(cancel_window=timedelta(0)), MICROSECOND, "invalid_cancel_configuration"),
        (AcceptancePolicy(cancel_window=None), timedelta(days=20_000), "cancelled"),
    ],
)
def test_a_use_can_be_cancelled_for_24_hours(policy: AcceptancePolicy, after: timedelta, answered: str) -> None:
    """24 hours exactly after its recording is in time, one microsecond more is not; None lifts the limit."""
    clock = Clock(NOW)
    with Metering.open("sqlite://", policy=policy, clock=clock) as metering:
        metering.configure_meter("calls", customer_key="customer")
        metering.record("calls", PAYLOAD, identifier="a")
        clock.now = NOW + after
        assert cancelled(metering) == answered


@pytest.mark.parametrize(
    "limits",
    [
        {"max_age": timedelta(seconds=-1)}, {"max_ahead": timedelta(seconds=-1)}, {"max_digits": 0},
        {"cancel_window": timedelta(seconds=-1)}, {"max_height": 3},
        {"grace": timedelta(seconds=-1)}, {"grace": timedelta(hours=72, microseconds=1)},
    ],
)  # fmt: skip
def test_a_policy_holds_no_nonsense(limits: dict[str, object]) -> None:
    """Negative spans, no digits at all and unknown limits are refused."""
    with pytest.raises(ValidationError):
        AcceptancePolicy.model_validate(limits)


def test_the_defaults_are_stripe_s() -> None:
    """35 days, 5 minutes, 24 hours, 15 digits, an hour of grace."""
    policy = AcceptancePolicy()
    assert (policy.max_age, policy.max_ahead) == (timedelta(days=35), timedelta(minutes=5))
    assert (policy.cancel_window, policy.max_digits) == (timedelta(hours=24), 15)
    assert policy.grace == timedelta(hours=1)


@pytest.mark.parametrize(
    ("occurred_at", "answered"),
    [
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-11))), "timestamp_in_future"),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=11))), "timestamp_too_far_in_past"),
        (datetime.max.replace(tzinfo=UTC), "timestamp_in_future"),
        (datetime.min.replace(tzinfo=UTC), "timestamp_too_far_in_past"),
    ],
)
def test_the_ends_of_time_are_refused(occurred_at: datetime, answered: str) -> None:
    """Also where the moment has no name in UTC: such a report is refused and fails no neighbour."""
    with Metering.open("sqlite://", clock=Clock(NOW)) as metering:
        metering.configure_meter("calls", customer_key="customer")
        good = {"event_name": "calls", "payload": PAYLOAD}
        first, second = metering.record_many([good | {"timestamp": occurred_at}, good])
    assert first.error is not None
    assert first.error.code in (answered, "invalid_timestamp")
    assert first.error.field == "timestamp"
    assert second.outcome == "accepted"


def test_times_are_kept_in_utc_to_the_microsecond(metering: Metering, clock: Clock) -> None:
    """A timestamp of any offset is the same moment in UTC."""
    clock.now = NOW
    metering.configure_meter("calls", customer_key="customer")
    given = datetime(2026, 11, 10, 1, 2, 3, 456_789, tzinfo=timezone(timedelta(hours=-9, minutes=-30)))
    metering.record("calls", PAYLOAD, timestamp=given)
    (event,) = metering.events("calls")
    assert event.occurred_at.isoformat() == "2026-11-10T10:32:03.456789+00:00"
    assert event.recorded_at == NOW
    assert event.recorded_at.tzinfo is UTC
