"""Error messages name options of the command line, not parameters of the library."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tallybook.application import Metering

from .command_line import CommandLine
from .october_ledger import OCTOBER, october_ledger

RECORD = ("record", "tokens", "customer=acme", "tokens=1", "--timestamp", "2020-01-01")


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    return october_ledger(tmp_path)


def test_an_old_timestamp_suggests_backfill(tallybook: CommandLine) -> None:
    """Text and JSON name the option instead of the acceptance policy of the library."""
    for message in (tallybook.run(*RECORD, status=1).stderr.strip(), tallybook.run_error_json(*RECORD)["message"]):
        assert message.endswith(" Use --backfill to record it.")
        assert "35 days" in message
        assert "max_age" not in message
        assert "policy" not in message


def test_an_imported_old_timestamp_suggests_backfill(tallybook: CommandLine) -> None:
    """The summary and the error file name the option."""
    path = tallybook.write("usage.csv", "timestamp,event_name,payload_customer,payload_tokens\n2020-01-01,tokens,a,1\n")
    errors = tallybook.folder / "errors.csv"
    output = tallybook.run("import", path, "--errors", errors, status=1).stdout
    for text in (output, errors.read_text()):
        assert "Use --backfill to record it." in text
        assert "max_age" not in text


def test_a_late_cancellation_suggests_any_age(tmp_path: Path) -> None:
    """The message also names the alternative: recording a negative value."""
    tallybook = CommandLine(tmp_path)
    with Metering.open(tallybook.url, clock=lambda: datetime.now(UTC) - timedelta(hours=25)) as metering:
        metering.meters.configure("tokens", customer_key="customer", value_key="tokens")
        metering.record("tokens", {"customer": "acme", "tokens": "1"}, identifier="old")
    message = tallybook.run_error_json("cancel", "tokens", "old")["message"]
    assert message.endswith("Use --any-age to cancel it, or record a negative value to correct it.")
    assert "cancel_window" not in message


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("events", "tokens", "--limit", "0"), "--limit"),
        (("summaries", "tokens", "--window", "week"), "--window"),
        (("total", "tokens", "--as-of", "-1"), "--as-of"),
        (("rules", "change", "tokens", "--window", "month"), "--window"),
        (("key", "create", "--scope", "write"), "--scope"),
        (("cancel", "tokens", "req-1", "--reason", ""), "--reason"),
        (
            ("archive", "prune", "old", "--checkpoints", "old.checkpoints", "--key", "old.pub", "--keep", "10d"),
            "--keep must be at least 35 days, ",
        ),
    ],
)
def test_a_parameter_is_named_by_its_option(tallybook: CommandLine, arguments: tuple[str, ...], option: str) -> None:
    """The field in the JSON keeps the name of the library's parameter."""
    error = tallybook.run_error_json(*arguments)
    assert option in error["message"]
    assert f"'{error['field']}'" not in error["message"]


def test_an_unknown_meter_suggests_similar_meters(tallybook: CommandLine) -> None:
    """Queries and commands suggest similar names, if there are any."""
    for arguments in (("total", "tokns"), ("meter", "show", "tokns"), ("record", "tokns", "customer=a", "tokens=1")):
        assert tallybook.run_error_json(*arguments)["message"].endswith(" Similar meters: tokens.")
    assert "Similar" not in tallybook.run_error_json("total", "seats")["message"]


def test_an_unknown_customer_suggests_similar_customers(tallybook: CommandLine) -> None:
    """The total is still zero; a customer with usage in another period is not unknown."""
    for command, *options in (("total",), ("summaries",), ("explain",), ("explain", "--limit", "9")):
        output = tallybook.lines(command, "tokens", "acm", *OCTOBER, *options)
        assert output[-1] == "There is no usage of 'acm' on tokens. Similar customers: acme."
        output = tallybook.lines(command, "tokens", "xyz", *OCTOBER, *options)
        assert output[-1] == "There is no usage of 'xyz' on tokens."
        assert "There is no usage" not in tallybook.run(command, "tokens", "acme", "--period", "2020", *options).stdout
    assert tallybook.run_json("total", "tokens", "acm", *OCTOBER)["value"] == "0"
    assert tallybook.run_json("explain", "tokens", "acm", *OCTOBER)["events"] == []
