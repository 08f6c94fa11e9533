"""The commands that record usage and cancel it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tallybook.application import Metering

from .command_line import CommandLine


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    line = CommandLine(tmp_path)
    line.run("meter", "configure", "tokens", "--customer-key", "customer", "--value-key", "tokens")
    return line


def test_a_use_is_recorded_once_however_often_it_is_sent(tallybook: CommandLine) -> None:
    """The second time it is a duplicate at the first one's position, with status 0."""
    words = ("record", "tokens", "customer=acme", "tokens=25", "--identifier", "req-1")
    receipt = {"identifier": "req-1", "position": 2, "outcome": "accepted", "error": None}
    assert tallybook.answer(*words) == receipt
    assert tallybook.answer(*words) == receipt | {"outcome": "duplicate"}
    assert tallybook.answer("total", "tokens", "acme")["value"] == "25"


def test_an_identifier_with_other_content_is_refused(tallybook: CommandLine) -> None:
    """Status 1, Stripe's code, and the field."""
    tallybook.run("record", "tokens", "customer=acme", "tokens=25", "--identifier", "req-1")
    words = ("record", "tokens", "customer=acme", "tokens=26", "--identifier", "req-1")
    assert tallybook.refusal(*words) == ("duplicate_meter_event", "identifier")


def test_a_payload_value_may_hold_equals_signs(tallybook: CommandLine) -> None:
    """Only the first one ends the key."""
    tallybook.run("record", "tokens", "customer=a=b", "tokens=1")
    assert tallybook.answer("total", "tokens", "a=b")["value"] == "1"


@pytest.mark.parametrize("pairs", [["customer"], ["=acme"], ["customer=a", "customer=b"], []])
def test_a_payload_that_is_not_pairs_is_wrong_usage(tallybook: CommandLine, pairs: list[str]) -> None:
    """Status 2, as for anything typed wrongly."""
    assert "Usage:" in tallybook.run("record", "tokens", *pairs, status=2).stderr


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e3", "+1", "1,000", " 1", "true", ""])
def test_a_value_that_is_no_plain_decimal_is_refused(tallybook: CommandLine, value: str) -> None:
    """The refusal names the payload key."""
    assert tallybook.refusal("record", "tokens", "customer=a", f"tokens={value}") == ("payload_invalid_value", "tokens")


def test_an_old_use_needs_backfill(tallybook: CommandLine) -> None:
    """36 days ago is refused, and accepted with --backfill; a time without an offset is in UTC."""
    day = f"{datetime.now(UTC) - timedelta(days=36):%Y-%m-%d}"
    words = ("record", "tokens", "customer=acme", "tokens=25", "--identifier", "old", "--timestamp", f"{day}T23:59:59")
    assert tallybook.refusal(*words) == ("timestamp_too_far_in_past", "timestamp")
    assert tallybook.answer(*words, "--backfill")["outcome"] == "accepted"
    (event,) = tallybook.answer("events", "tokens", "--period", day)
    assert event["occurred_at"] == f"{day}T23:59:59Z"


def test_a_time_that_can_not_be_read_is_wrong_usage(tallybook: CommandLine) -> None:
    """The option is named."""
    said = tallybook.run("record", "tokens", "customer=a", "tokens=1", "--timestamp", "noon", status=2).stderr
    assert "--timestamp" in said


def test_a_cancel_keeps_its_reason_and_is_given_again(tallybook: CommandLine) -> None:
    """Cancelling twice is one cancel: the second answer is the first one's."""
    tallybook.run("record", "tokens", "customer=acme", "tokens=25", "--identifier", "req-1")
    first = tallybook.answer("cancel", "tokens", "req-1", "--reason", "a test", "--by", "ops")
    assert (first["identifier"], first["reason"], first["by"]) == ("req-1", "a test", "ops")
    assert tallybook.answer("cancel", "tokens", "req-1", "--reason", "another") == first
    assert tallybook.answer("total", "tokens", "acme")["count"] == 0
    assert "by ops: a test" in tallybook.run("cancel", "tokens", "req-1").stdout


def test_what_is_not_there_can_not_be_cancelled(tallybook: CommandLine) -> None:
    """Refused with Stripe's code; a limit lifted doesn't change it."""
    assert tallybook.refusal("cancel", "tokens", "nothing", "--any-age")[0] == "invalid_cancel_configuration"


def test_any_age_lifts_the_limit_on_cancels(tallybook: CommandLine) -> None:
    """What was recorded 25 hours ago can be cancelled with --any-age only."""
    yesterday = datetime.now(UTC) - timedelta(hours=25)
    with Metering.open(tallybook.url, clock=lambda: yesterday) as metering:
        metering.record("tokens", {"customer": "acme", "tokens": "25"}, identifier="req-1")
    assert tallybook.refusal("cancel", "tokens", "req-1") == ("invalid_cancel_configuration", "identifier")
    assert tallybook.answer("cancel", "tokens", "req-1", "--any-age")["identifier"] == "req-1"
