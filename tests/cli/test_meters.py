"""The commands for meters."""

from pathlib import Path

import pytest

from .command_line import CommandLine


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def test_configuring_a_meter_creates_a_ledger_and_returns_the_meter(tallybook: CommandLine) -> None:
    """All options of a meter are stored, and the JSON fields have the names of the Python attributes."""
    meter = tallybook.run_json(
        "meter", "configure", "seats", "--display-name", "Seats", "--formula", "last", "--window", "hour",
        "--customer-key", "customer", "--value-key", "seats", "--dimension-key", "region", "--dimension-key", "plan",
    )  # fmt: skip
    assert (tallybook.folder / "usage.db").exists()
    created_at = meter.pop("created_at")
    assert created_at.endswith("Z")
    assert meter.pop("updated_at") == created_at
    assert meter == {
        "event_name": "seats",
        "display_name": "Seats",
        "formula": "last",
        "event_time_window": "hour",
        "customer_key": "customer",
        "value_key": "seats",
        "dimension_keys": ["region", "plan"],
        "optional_dimension_keys": [],
        "filter": None,
        "multiplier": None,
        "rounding": None,
        "revision": 1,
        "status": "active",
        "deactivated_at": None,
        "upcoming": [],
        "source": None,
        "derived_meters": [],
    }


def test_configuring_again_returns_the_meter_and_different_rules_are_rejected(tallybook: CommandLine) -> None:
    """A script may configure its meters each time it runs."""
    assert tallybook.run_json("meter", "configure", "tokens") == tallybook.run_json("meter", "configure", "tokens")
    code, field = tallybook.run_error("meter", "configure", "tokens", "--formula", "count")
    assert (code, field) == ("meter_already_exists", "event_name")
    different = ("--formula", "count", "--filter", "region=eu", "--display-name", "Other")
    assert tallybook.run_error_json("meter", "configure", "tokens", *different)["message"] == (
        "A meter 'tokens' already exists with --display-name tokens, --formula sum, no filter. "
        "Its name is changed by 'tallybook meter rename', its rules by 'tallybook rules change'."
    )


def test_a_meter_is_listed_renamed_deactivated_and_reactivated(tallybook: CommandLine) -> None:
    """Each command prints the changed meter."""
    tallybook.run("meter", "configure", "tokens")
    tallybook.run("meter", "configure", "calls", "--formula", "count")
    assert tallybook.run_json("meter", "rename", "tokens", "Tokens used")["display_name"] == "Tokens used"
    assert tallybook.run_json("meter", "deactivate", "tokens")["status"] == "inactive"
    assert tallybook.run_error("record", "tokens", "stripe_customer_id=a", "value=1")[0] == "archived_meter"
    assert "inactive since" in tallybook.run("meter", "show", "tokens").stdout
    assert tallybook.run_json("meter", "reactivate", "tokens") == tallybook.run_json("meter", "show", "tokens")
    assert [meter["event_name"] for meter in tallybook.run_json("meter", "list")] == ["calls", "tokens"]


def test_meters_are_listed_in_a_table(tallybook: CommandLine) -> None:
    """The table has one line for each meter, below the column headings."""
    tallybook.run("meter", "configure", "seats", "--formula", "last", "--window", "day", "--value-key", "seats")
    head, _, line = tallybook.lines("meter", "list")
    assert head.split("   ")[0] == "meter"
    assert line.split() == ["seats", "seats", "last", "per", "day", "stripe_customer_id,", "seats", "active"]


def test_a_mistyped_ledger_name_creates_no_ledger(tallybook: CommandLine) -> None:
    """`meter configure` creates a missing ledger; other commands report an error."""
    for arguments in (
        ("meter", "list"),
        ("total", "tokens"),
        ("record", "tokens", "value=1"),
        ("cancel", "tokens", "a"),
    ):
        assert tallybook.run_error(*arguments) == ("ledger_unavailable", "url")
    assert list(tallybook.folder.iterdir()) == []


@pytest.mark.parametrize("url", ["mysql://host/db", "usage.db", "sqlite://host/usage.db", "sqlite:///usage.db?a=b"])
def test_an_invalid_ledger_url_is_rejected(tallybook: CommandLine, url: str) -> None:
    """The option takes precedence over the environment variable, and an invalid URL is an error."""
    assert tallybook.run_error("meter", "list", "--ledger", url) == ("invalid_ledger_url", "url")


def test_a_file_that_is_not_a_ledger_is_not_changed(tallybook: CommandLine) -> None:
    """The file is rejected, and its bytes are unchanged."""
    path = tallybook.write("usage.db", "a shopping list, long enough to be no SQLite file at all\n" * 20)
    before = path.read_bytes()
    assert tallybook.run_error("meter", "list") == ("not_a_ledger", "url")
    assert path.read_bytes() == before


def test_a_derived_meter_counts_the_events_of_its_source(tallybook: CommandLine) -> None:
    """It is shown with its source, also in the list, and the events that it can't read are listed."""
    keys = ("--source", "requests", "--value-key", "out")
    tallybook.run("meter", "configure", "requests", "--formula", "count")
    tallybook.run("record", "requests", "stripe_customer_id=acme", "kind=ping", "--identifier", "r-1")
    rejected = tallybook.run("meter", "configure", "out", *keys, status=1)
    assert "r-1" in rejected.stdout
    assert "incompatible_rules" in rejected.stderr
    assert tallybook.run_error("meter", "configure", "out", "--source", "nothing") == ("no_meter", "source")
    filtered = ("--filter", '{"key": "out", "exists": true}')
    meter = tallybook.run_json("meter", "configure", "out", *keys, *filtered)
    assert (meter["source"], meter["derived_meters"]) == ("requests", [])
    assert tallybook.run_json("meter", "show", "requests")["derived_meters"] == ["out"]
    assert "derived meters  out" in tallybook.run("meter", "show", "requests").stdout
    assert "source" in tallybook.run("meter", "list").stdout.splitlines()[0]
    assert tallybook.run_error("record", "out", "stripe_customer_id=acme", "out=1")[0] == "derived_meter"
    tallybook.run("record", "requests", "stripe_customer_id=acme", "out=5")
    assert [event["verdict"] for event in tallybook.run_json("events", "out")] == ["filtered", "counted"]
