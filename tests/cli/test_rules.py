"""The command `rules change`: it shows the difference first, and then makes the change."""

from pathlib import Path

import pytest
from tallybook.application import Metering

from .command_line import CommandLine
from .october_ledger import ANY_AGE, OCTOBER, october_ledger

SEATS = ("rules", "change", "tokens", "--formula", "last", "--window", "day")


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    return october_ledger(tmp_path)


def test_the_difference_is_shown_before_the_rules_change(tallybook: CommandLine) -> None:
    """The output has the totals before and after, their digest, and the next commands, quoted for a shell."""
    digest = tallybook.run_json(*SEATS)["difference"]["digest"]
    assert tallybook.lines(*SEATS, "--reason", "seats, not calls", "--on-behalf-of", "ops") == [
        "tokens counted by last per day (keys: customer, tokens), in generation 2, up to position 6",
        "meter    changed customers   before   after   difference",
        "────────────────────────────────────────────────────────",
        "tokens                   1    3,038      13       -3,025",
        "",
        "customer   month (UTC)   state   before   after   difference   billable before   billable after",
        "───────────────────────────────────────────────────────────────────────────────────────────────",
        "acme       2025-10       open     3,020      -5       -3,025             3,020                0",
        "",
        f"  digest          {digest}",
        "",
        "Nothing is changed yet.",
        "  tallybook projection diff 2                                                     show what it would change",
        "  tallybook projection promote 2 --reason 'seats, not calls' --on-behalf-of ops   make it live",
        "  tallybook projection drop 2                                                     delete it",
    ]
    assert tallybook.run_json("meter", "show", "tokens")["revision"] == 1
    assert tallybook.run_json("total", "tokens", "acme", *OCTOBER)["value"] == "3020"


def test_unaffected_meters_are_not_shown(tallybook: CommandLine) -> None:
    """`projection diff` shows all meters."""
    tallybook.run("meter", "configure", "calls")
    change = tallybook.run_json(*SEATS)["difference"]
    assert [meter["event_name"] for meter in change["meters"]] == ["tokens"]
    difference = tallybook.run_json("projection", "diff", 2)
    assert [meter["event_name"] for meter in difference["meters"]] == ["calls", "tokens"]


def test_a_candidate_is_built_once(tallybook: CommandLine) -> None:
    """The second run uses the existing candidate, also with `--yes`."""
    first = tallybook.run_json(*SEATS)
    assert first["candidate"]["number"] == 2
    assert tallybook.run_json(*SEATS) == first
    assert tallybook.run_json(*SEATS, "--reason", "seats", "--yes")["promotion"]["generation"]["number"] == 2
    assert len(tallybook.run_json("projection", "status")) == 2


def test_with_yes_the_rules_are_put_in_force(tallybook: CommandLine) -> None:
    """Past usage is counted under the new rules; one JSON document has the candidate, difference and promotion."""
    change = tallybook.run_json(*SEATS, "--reason", "seats, not calls", "--on-behalf-of", "ops", "--yes")
    assert change["event_name"] == "tokens"
    assert change["rules"] == {
        "formula": "last",
        "event_time_window": "day",
        "customer_key": "customer",
        "value_key": "tokens",
        "dimension_keys": [],
    }
    assert [difference["difference"] for difference in change["difference"]["differences"]] == ["-3025"]
    assert change["promotion"]["retired"] == 1
    (meter,) = change["promotion"]["meters"]
    assert (meter["revision"], meter["formula"], meter["event_time_window"]) == (2, "last", "day")
    assert tallybook.run_json("total", "tokens", "acme", *OCTOBER)["value"] == "-5"
    assert tallybook.run_json("total", "tokens", "acme", *OCTOBER, "--as-of", 6)["value"] == "3020"


def test_a_window_can_be_removed(tallybook: CommandLine) -> None:
    """`--window none` removes the window and leaves the formula unchanged."""
    tallybook.run(*SEATS, "--reason", "seats", "--yes")
    tallybook.run("rules", "change", "tokens", "--window", "none", "--reason", "every event", "--yes")
    meter = tallybook.run_json("meter", "show", "tokens")
    assert (meter["formula"], meter["event_time_window"], meter["revision"]) == ("last", None, 3)


def test_keys_can_be_changed_and_dimensions_removed(tallybook: CommandLine) -> None:
    """Payloads are stored as submitted, so another key can be parsed later."""
    with Metering.open(tallybook.url, policy=ANY_AGE) as metering:
        metering.meters.configure("calls", formula="count", dimension_keys=("region",))
        metering.record("calls", {"stripe_customer_id": "acme", "team": "red", "region": "eu"}, identifier="call-1")
    change = ("rules", "change", "calls", "--reason", "teams pay", "--yes")
    tallybook.run(*change, "--customer-key", "team", "--dimension-key", "region", "--dimension-key", "team")
    assert tallybook.run_json("totals", "calls")[0]["customer"] == "red"
    assert tallybook.run_json("meter", "show", "calls")["dimension_keys"] == ["region", "team"]
    tallybook.run(*change, "--no-dimension-keys")
    assert tallybook.run_json("meter", "show", "calls")["dimension_keys"] == []


def test_incompatible_rules_are_rejected_with_the_payloads(tallybook: CommandLine) -> None:
    """The first 20 payloads and the number of the others are listed; nothing is changed, even with `--yes`."""
    with Metering.open(tallybook.url, policy=ANY_AGE) as metering:
        payload = {"customer": "acme", "tokens": "1"}
        metering.record_many({"event_name": "tokens", "payload": payload} for _ in range(20))
    arguments = ("rules", "change", "tokens", "--value-key", "tkns", "--reason", "a slip", "--yes")
    tallybook.environment["COLUMNS"] = "160"
    completed = tallybook.run(*arguments, status=1)
    assert completed.stderr.startswith("tallybook: incompatible_rules: The new rules can't read 25 of the meter events")
    lines = completed.stdout.splitlines()
    assert lines[2].split()[:3] == ["2", "req-1", "payload_no_value_defined"]
    assert len(lines) == 2 + 20 + 1
    assert lines[-1] == "and 5 more."
    document = tallybook.run_error_json(*arguments)
    assert (document["code"], document["field"]) == ("incompatible_rules", "rules")
    assert (document["count"], len(document["events"])) == (25, 25)
    assert document["events"][0] == {
        "position": 2,
        "identifier": "req-1",
        "event_name": "tokens",
        "code": "payload_no_value_defined",
        "message": "The payload must hold the value under 'tkns'.",
    }
    assert tallybook.run_json("meter", "show", "tokens")["revision"] == 1
    assert len(tallybook.run_json("projection", "status")) == 1


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("tokens", "--formula", "sum"), "parameter_invalid"),
        (("tokens", "--formula", "median"), "parameter_invalid"),
        (("tokens", "--window", "month"), "parameter_invalid"),
        (("nothing", "--formula", "sum"), "no_meter"),
    ],
)
def test_an_empty_or_unknown_change_is_rejected(tallybook: CommandLine, arguments: tuple[str, ...], code: str) -> None:
    """The error has a specific code, and no candidate remains."""
    assert tallybook.run_error("rules", "change", *arguments)[0] == code
    assert len(tallybook.run_json("projection", "status")) == 1


@pytest.mark.parametrize("arguments", [(), ("--formula", "last", "--yes")])
def test_a_change_without_options_or_reason_is_a_usage_error(
    tallybook: CommandLine, arguments: tuple[str, ...]
) -> None:
    """The error is raised before the ledger is opened."""
    assert "Error: " in tallybook.run("rules", "change", "tokens", *arguments, status=2).stderr
