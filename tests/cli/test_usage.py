"""The commands `record` and `cancel`."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tallybook.application import Metering
from tallybook.application.system_user import system_user

from .command_line import CommandLine


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    line = CommandLine(tmp_path)
    line.run("meter", "configure", "tokens", "--customer-key", "customer", "--value-key", "tokens")
    return line


def test_a_meter_event_is_recorded_once_however_often_it_is_sent(tallybook: CommandLine) -> None:
    """The second time, it is a duplicate at the first position, with status 0."""
    arguments = ("record", "tokens", "customer=acme", "tokens=25", "--identifier", "req-1")
    receipt = {"identifier": "req-1", "position": 2, "outcome": "accepted", "error": None}
    assert tallybook.run_json(*arguments) == receipt
    assert tallybook.run_json(*arguments) == receipt | {"outcome": "duplicate"}
    assert tallybook.run_json("total", "tokens", "acme")["value"] == "25"


def test_an_identifier_with_different_content_is_rejected(tallybook: CommandLine) -> None:
    """The exit status is 1, and the error has Stripe's code and the field."""
    tallybook.run("record", "tokens", "customer=acme", "tokens=25", "--identifier", "req-1")
    arguments = ("record", "tokens", "customer=acme", "tokens=26", "--identifier", "req-1")
    assert tallybook.run_error(*arguments) == ("duplicate_meter_event", "identifier")


def test_a_payload_value_may_contain_equals_signs(tallybook: CommandLine) -> None:
    """The first equals sign ends the key."""
    tallybook.run("record", "tokens", "customer=a=b", "tokens=1")
    assert tallybook.run_json("total", "tokens", "a=b")["value"] == "1"


@pytest.mark.parametrize("pairs", [["customer"], ["=acme"], ["customer=a", "customer=b"], []])
def test_a_payload_that_is_not_pairs_is_a_usage_error(tallybook: CommandLine, pairs: list[str]) -> None:
    """The exit status is 2."""
    assert "Usage:" in tallybook.run("record", "tokens", *pairs, status=2).stderr


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e3", "+1", "1,000", " 1", "true", ""])
def test_a_value_that_is_not_a_plain_decimal_is_rejected(tallybook: CommandLine, value: str) -> None:
    """The error names the payload key."""
    assert tallybook.run_error("record", "tokens", "customer=a", f"tokens={value}") == (
        "payload_invalid_value",
        "tokens",
    )


def test_an_old_meter_event_needs_backfill(tallybook: CommandLine) -> None:
    """An event of 36 days ago is rejected without `--backfill`; a time without an offset is in UTC."""
    day = f"{datetime.now(UTC) - timedelta(days=36):%Y-%m-%d}"
    arguments = (
        "record",
        "tokens",
        "customer=acme",
        "tokens=25",
        "--identifier",
        "old",
        "--timestamp",
        f"{day}T23:59:59",
    )
    assert tallybook.run_error(*arguments) == ("timestamp_too_far_in_past", "timestamp")
    assert tallybook.run_json(*arguments, "--backfill")["outcome"] == "accepted"
    (event,) = tallybook.run_json("events", "tokens", "--period", day)
    assert event["occurred_at"] == f"{day}T23:59:59Z"


def test_an_unparseable_time_is_a_usage_error(tallybook: CommandLine) -> None:
    """The error names the option."""
    stderr = tallybook.run("record", "tokens", "customer=a", "tokens=1", "--timestamp", "noon", status=2).stderr
    assert "--timestamp" in stderr


def test_a_cancellation_keeps_its_reason_and_is_returned_again(tallybook: CommandLine) -> None:
    """Cancelling twice is one cancellation: the second call returns the first result."""
    tallybook.run("record", "tokens", "customer=acme", "tokens=25", "--identifier", "req-1")
    first = tallybook.run_json("cancel", "tokens", "req-1", "--reason", "a test", "--on-behalf-of", "ops")
    assert (first["identifier"], first["reason"], first["by"]) == ("req-1", "a test", system_user())
    assert tallybook.run_json("cancel", "tokens", "req-1", "--reason", "another") == first
    assert tallybook.run_json("total", "tokens", "acme")["count"] == 0
    (again,) = tallybook.lines("cancel", "tokens", "req-1")
    assert again.startswith("cancelled before: req-1 at ")
    assert again.endswith("on behalf of ops: a test")
    assert tallybook.lines("cancel", "tokens", "req-1", "--reason", "another") == [
        again,
        "The reason 'another' is not stored.",
    ]
    assert tallybook.lines("cancel", "tokens", "req-1", "--reason", "a test") == [again]


def test_an_unknown_event_cannot_be_cancelled(tallybook: CommandLine) -> None:
    """The error has Stripe's code, also with `--any-age`."""
    assert tallybook.run_error("cancel", "tokens", "nothing", "--any-age")[0] == "invalid_cancel_configuration"


def test_any_age_lifts_the_limit_on_cancellations(tmp_path: Path) -> None:
    """An event recorded 25 hours ago can be cancelled only with `--any-age`."""
    tallybook, yesterday = CommandLine(tmp_path), datetime.now(UTC) - timedelta(hours=25)
    with Metering.open(tallybook.url, clock=lambda: yesterday) as metering:
        metering.meters.configure("tokens", customer_key="customer", value_key="tokens")
        metering.record("tokens", {"customer": "acme", "tokens": "25"}, identifier="req-1")
    assert tallybook.run_error("cancel", "tokens", "req-1") == ("invalid_cancel_configuration", "identifier")
    assert tallybook.run_json("cancel", "tokens", "req-1", "--any-age")["identifier"] == "req-1"
