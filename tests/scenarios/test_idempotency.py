"""Identifiers: one meter event in a ledger, forever."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from ..notation import Ledger


def test_a_repeated_meter_event_is_a_duplicate(ledger: Ledger) -> None:
    """The same content under the same identifier has the outcome `duplicate`, and nothing is written."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10  id=a
    """)
    head = ledger.position()
    ledger.when("10:05  acme calls 10  id=a").outcomes_are("duplicate")
    assert ledger.position() == head
    ledger.then(total="acme calls 10", count=1)


def test_different_content_is_a_conflict(ledger: Ledger) -> None:
    """Another value, customer, timestamp, meter or payload key under an existing identifier is a conflict."""
    ledger.given("""
        meter  calls  sum
        meter  seats  sum
        10:05  acme calls 10  id=a
    """)
    ledger.when("""
        10:05  acme calls 11     id=a
        10:05  beta calls 10     id=a
        10:06  acme calls 10     id=a
        10:05  acme seats 10     id=a
        10:05  acme calls 10     id=a  region=eu
        10:05  acme calls 10.0   id=a
    """).outcomes_are(*["duplicate_meter_event"] * 6)
    ledger.then(total="acme calls 10", count=1)


def test_a_retry_with_a_default_timestamp_is_a_duplicate(ledger: Ledger) -> None:
    """A timestamp is compared only if it is present: a retry without it is a duplicate."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 1  id=other
        now    acme calls 10  id=a
        11:30  acme calls 1  id=later
    """)
    ledger.when("""
        now    acme calls 10  id=a
        10:05  acme calls 10  id=a
        10:06  acme calls 10  id=a
    """).outcomes_are("duplicate", "duplicate", "duplicate_meter_event")
    ledger.then(total="acme calls 11", count=2, between="10:05 10:06")


def test_an_identifier_stays_reserved_after_a_cancellation(ledger: Ledger) -> None:
    """The identifier of a cancelled event still causes a duplicate or a conflict, and the event doesn't count."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10  id=a
        cancel a
    """)
    ledger.when("""
        10:05  acme calls 10  id=a
        10:05  acme calls 20  id=a
    """).outcomes_are("duplicate", "duplicate_meter_event")
    ledger.then(total="acme calls 0")


def test_a_retry_after_the_policy_s_age_is_a_duplicate(ledger: Ledger) -> None:
    """A recorded event is a duplicate, even if a new event would be rejected as too old."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10  id=a
    """)
    ledger.when("""
        10:05  acme calls 10  id=a  recorded=2027-11-10T00:00
        10:05  acme calls 11  id=a  recorded=2027-11-10T00:00
        10:05  acme calls 10  id=b  recorded=2027-11-10T00:00
    """).outcomes_are("duplicate", "duplicate_meter_event", "timestamp_too_far_in_past")


def test_a_retry_after_the_meter_was_deactivated_is_a_duplicate(ledger: Ledger) -> None:
    """An inactive meter rejects new meter events, and still detects duplicates."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10  id=a
        deactivate calls
    """)
    ledger.when("""
        10:05  acme calls 10  id=a
        10:05  acme calls 11  id=a
        10:05  acme calls 10  id=b
    """).outcomes_are("duplicate", "duplicate_meter_event", "archived_meter")


def test_a_rejected_meter_event_leaves_its_identifier_free(ledger: Ledger) -> None:
    """A rejected meter event doesn't use up its identifier."""
    ledger.given("meter  calls  sum")
    ledger.when("""
        10:05  acme calls ten  id=a
        10:05  acme calls 10   id=a
    """).outcomes_are("payload_invalid_value", "accepted")
    ledger.then(total="acme calls 10")


def test_an_invalid_conflicting_retry_is_a_conflict(ledger: Ledger) -> None:
    """A conflict is reported before any other error of the meter event."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10  id=a
    """)
    ledger.when("10:05  acme calls ten  id=a").outcomes_are("duplicate_meter_event")


def test_without_identifiers_each_meter_event_is_new(ledger: Ledger) -> None:
    """Generated identifiers differ, so no meter event is taken for a retry."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10
        10:05  acme calls 10
    """)
    ledger.then(total="acme calls 20", count=2)


def test_identifiers_are_compared_exactly(ledger: Ledger) -> None:
    """Identifiers that differ in case or Unicode normalization are different."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 1  id=caf\u00e9
        10:05  acme calls 2  id=cafe\u0301
        10:05  acme calls 4  id=CAF\u00c9
    """)
    ledger.then(total="acme calls 7")


@pytest.mark.parametrize("fold", [0, 1])
@pytest.mark.parametrize("local", ["2026-10-25T02:30", "2026-03-29T02:30", "2026-10-25T12:00"])
def test_a_retry_at_an_hour_that_comes_twice_is_a_duplicate(ledger: Ledger, local: str, fold: int) -> None:
    """Timestamps are compared as instants: the same instant in local time is the same content, even at a DST change."""
    berlin = datetime.fromisoformat(local).replace(tzinfo=ZoneInfo("Europe/Berlin"), fold=fold)
    ledger.clock.now = berlin.astimezone(UTC)
    ledger.given("meter  calls  sum")
    payload = {"customer": "acme", "calls": "1"}
    outcomes = [
        str(ledger.metering.record("calls", payload, identifier="a", timestamp=timestamp).outcome)
        for timestamp in (berlin, berlin, berlin.astimezone(UTC), berlin.astimezone(ZoneInfo("Asia/Tokyo")))
    ]
    assert outcomes == ["accepted", "duplicate", "duplicate", "duplicate"]
