"""Identifiers: one use per ledger, for ever."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from ..notation import Ledger


def test_the_same_report_again_is_a_duplicate(ledger: Ledger) -> None:
    """The same content under the same identifier is answered `duplicate`, and nothing is written."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10  id=a
    """)
    head = ledger.position()
    ledger.when("10:05  acme calls 10  id=a").answered("duplicate")
    assert ledger.position() == head
    ledger.then(total="acme calls 10", count=1)


def test_other_content_is_a_conflict(ledger: Ledger) -> None:
    """Another value, customer, timestamp, meter or further payload key under a taken identifier is refused."""
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
    """).answered(*["duplicate_meter_event"] * 6)
    ledger.then(total="acme calls 10", count=1)


def test_a_retry_with_a_defaulted_now_is_the_same_report(ledger: Ledger) -> None:
    """A timestamp is content only where one was given: a retry that leaves it out is a duplicate."""
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
    """).answered("duplicate", "duplicate", "duplicate_meter_event")
    ledger.then(total="acme calls 11", count=2, between="10:05 10:06")


def test_an_identifier_stays_taken_after_a_cancel(ledger: Ledger) -> None:
    """A cancelled event's identifier gives a duplicate or a conflict as before, and is not counted again."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10  id=a
        cancel a
    """)
    ledger.when("""
        10:05  acme calls 10  id=a
        10:05  acme calls 20  id=a
    """).answered("duplicate", "duplicate_meter_event")
    ledger.then(total="acme calls 0")


def test_a_retry_after_the_policy_s_age_is_a_duplicate(ledger: Ledger) -> None:
    """What is recorded already is a duplicate, even where a new report of it would be refused as too old."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10  id=a
    """)
    ledger.when("""
        10:05  acme calls 10  id=a  recorded=2027-11-10T00:00
        10:05  acme calls 11  id=a  recorded=2027-11-10T00:00
        10:05  acme calls 10  id=b  recorded=2027-11-10T00:00
    """).answered("duplicate", "duplicate_meter_event", "timestamp_too_far_in_past")


def test_a_retry_after_the_meter_was_deactivated_is_a_duplicate(ledger: Ledger) -> None:
    """An inactive meter refuses new usage, and still knows what it recorded."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10  id=a
        deactivate calls
    """)
    ledger.when("""
        10:05  acme calls 10  id=a
        10:05  acme calls 11  id=a
        10:05  acme calls 10  id=b
    """).answered("duplicate", "duplicate_meter_event", "archived_meter")


def test_a_refused_report_leaves_its_identifier_free(ledger: Ledger) -> None:
    """An identifier is taken by what was recorded, not by what was refused."""
    ledger.given("meter  calls  sum")
    ledger.when("""
        10:05  acme calls ten  id=a
        10:05  acme calls 10   id=a
    """).answered("payload_invalid_value", "accepted")
    ledger.then(total="acme calls 10")


def test_a_conflicting_retry_that_is_invalid_says_that_it_conflicts(ledger: Ledger) -> None:
    """A taken identifier is told before what else is wrong with the report."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10  id=a
    """)
    ledger.when("10:05  acme calls ten  id=a").answered("duplicate_meter_event")


def test_without_identifiers_each_report_is_another_use(ledger: Ledger) -> None:
    """A generated identifier is never the same, so nothing is taken for a retry."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10
        10:05  acme calls 10
    """)
    ledger.then(total="acme calls 20", count=2)


def test_identifiers_are_compared_as_they_are(ledger: Ledger) -> None:
    """Neither case nor an accent's spelling makes two identifiers one."""
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
    """A timestamp is a moment: the same one in local time is the same content, also where clocks change."""
    berlin = datetime.fromisoformat(local).replace(tzinfo=ZoneInfo("Europe/Berlin"), fold=fold)
    ledger.clock.now = berlin.astimezone(UTC)
    ledger.given("meter  calls  sum")
    payload = {"customer": "acme", "calls": "1"}
    outcomes = [
        str(ledger.metering.record("calls", payload, identifier="a", timestamp=timestamp).outcome)
        for timestamp in (berlin, berlin, berlin.astimezone(UTC), berlin.astimezone(ZoneInfo("Asia/Tokyo")))
    ]
    assert outcomes == ["accepted", "duplicate", "duplicate", "duplicate"]
