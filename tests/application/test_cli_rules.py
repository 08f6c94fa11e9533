"""The command that changes rules: what would change, then the change."""

from pathlib import Path

import pytest
from tallybook.application import Metering

from .command_line import CommandLine
from .history import ANY_AGE, OCTOBER, october

SEATS = ("rules", "change", "tokens", "--formula", "last", "--window", "day")


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    return october(tmp_path)


def test_what_would_change_is_shown_before_anything_does(tallybook: CommandLine) -> None:
    """The sums before and after, the figures that differ, and what to run now; the words are quoted for a shell."""
    assert tallybook.lines(*SEATS, "--reason", "seats, not calls", "--by", "ops") == [
        "tokens counted by last per day (keys: customer, tokens), in generation 2, up to position 6",
        "meter    customers that differ   before   after   difference",
        "────────────────────────────────────────────────────────────",
        "tokens                       1    3,038      13       -3,025",
        "",
        "customer   month (UTC)   before   after   difference",
        "────────────────────────────────────────────────────",
        "acme       2025-10        3,020      -5       -3,025",
        "",
        "Nothing is changed yet.",
        "  tallybook projection diff 2                                           shows what it would change",
        "  tallybook projection promote 2 --reason 'seats, not calls' --by ops   lets it answer",
        "  tallybook projection drop 2                                           does away with it",
    ]
    assert tallybook.answer("meter", "show", "tokens")["revision"] == 1
    assert tallybook.answer("total", "tokens", "acme", *OCTOBER)["value"] == "3020"


def test_meters_that_are_not_concerned_are_not_told_of(tallybook: CommandLine) -> None:
    """The difference of the generation itself has them all."""
    tallybook.run("meter", "configure", "calls")
    change = tallybook.answer(*SEATS)["difference"]
    assert [one["event_name"] for one in change["meters"]] == ["tokens"]
    whole = tallybook.answer("projection", "diff", 2)
    assert [one["event_name"] for one in whole["meters"]] == ["calls", "tokens"]


def test_a_candidate_is_built_once(tallybook: CommandLine) -> None:
    """The second run finds the one that stands ready, also to put it in force."""
    first = tallybook.answer(*SEATS)
    assert first["candidate"]["number"] == 2
    assert tallybook.answer(*SEATS) == first
    assert tallybook.answer(*SEATS, "--reason", "seats", "--yes")["promotion"]["generation"]["number"] == 2
    assert len(tallybook.answer("projection", "status")) == 2


def test_with_yes_the_rules_are_put_in_force(tallybook: CommandLine) -> None:
    """All of the past counts by them; one document tells the candidate, the difference and the promotion."""
    answer = tallybook.answer(*SEATS, "--reason", "seats, not calls", "--by", "ops", "--yes")
    assert answer["event_name"] == "tokens"
    assert answer["rules"] == {
        "formula": "last",
        "event_time_window": "day",
        "customer_key": "customer",
        "value_key": "tokens",
        "dimension_keys": [],
    }
    assert [one["difference"] for one in answer["difference"]["differences"]] == ["-3025"]
    assert answer["promotion"]["retired"] == 1
    (meter,) = answer["promotion"]["meters"]
    assert (meter["revision"], meter["formula"], meter["event_time_window"]) == (2, "last", "day")
    assert tallybook.answer("total", "tokens", "acme", *OCTOBER)["value"] == "-5"
    assert tallybook.answer("total", "tokens", "acme", *OCTOBER, "--as-of", 6)["value"] == "3020"


def test_a_window_can_be_taken_away(tallybook: CommandLine) -> None:
    """By the word none; the formula stays as it is."""
    tallybook.run(*SEATS, "--reason", "seats", "--yes")
    tallybook.run("rules", "change", "tokens", "--window", "none", "--reason", "every event", "--yes")
    meter = tallybook.answer("meter", "show", "tokens")
    assert (meter["formula"], meter["event_time_window"], meter["revision"]) == ("last", None, 3)


def test_keys_can_be_changed_and_dimensions_taken_away(tallybook: CommandLine) -> None:
    """Facts stay as they were reported, so that another key can be read out of them."""
    with Metering.open(tallybook.url, policy=ANY_AGE) as metering:
        metering.configure_meter("calls", formula="count", dimension_keys=("region",))
        metering.record("calls", {"stripe_customer_id": "acme", "team": "red", "region": "eu"}, identifier="call-1")
    change = ("rules", "change", "calls", "--reason", "teams pay", "--yes")
    tallybook.run(*change, "--customer-key", "team", "--dimension-key", "region", "--dimension-key", "team")
    assert tallybook.answer("totals", "calls")[0]["customer"] == "red"
    assert tallybook.answer("meter", "show", "calls")["dimension_keys"] == ["region", "team"]
    tallybook.run(*change, "--no-dimension-keys")
    assert tallybook.answer("meter", "show", "calls")["dimension_keys"] == []


def test_rules_that_can_not_read_what_was_recorded_are_refused_with_the_payloads(tallybook: CommandLine) -> None:
    """The first 20 are listed, and how many more; no generation is left, and nothing changed, whatever --yes says."""
    with Metering.open(tallybook.url, policy=ANY_AGE) as metering:
        payload = {"customer": "acme", "tokens": "1"}
        metering.record_many({"event_name": "tokens", "payload": payload} for _ in range(20))
    words = ("rules", "change", "tokens", "--value-key", "tkns", "--reason", "a slip", "--yes")
    tallybook.environment["COLUMNS"] = "160"
    refused = tallybook.run(*words, status=1)
    assert refused.stderr.startswith("tallybook: rules_cannot_read: The new rules can't read 25 of the meter events")
    lines = refused.stdout.splitlines()
    assert lines[2].split()[:3] == ["2", "req-1", "payload_no_value_defined"]
    assert len(lines) == 2 + 20 + 1
    assert lines[-1] == "and 5 more."
    document = tallybook.refusal_document(*words)
    assert (document["code"], document["field"]) == ("rules_cannot_read", "rules")
    assert (document["count"], len(document["uses"])) == (25, 25)
    assert document["uses"][0] == {
        "position": 2,
        "identifier": "req-1",
        "event_name": "tokens",
        "code": "payload_no_value_defined",
        "message": "The payload must hold the value under 'tkns'.",
    }
    assert tallybook.answer("meter", "show", "tokens")["revision"] == 1
    assert len(tallybook.answer("projection", "status")) == 1


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("tokens", "--formula", "sum"), "parameter_invalid"),
        (("tokens", "--formula", "median"), "parameter_invalid"),
        (("tokens", "--window", "month"), "parameter_invalid"),
        (("nothing", "--formula", "sum"), "no_meter"),
    ],
)
def test_a_change_that_is_none_or_unknown_is_refused(tallybook: CommandLine, words: tuple[str, ...], code: str) -> None:
    """By its code, and no candidate is left."""
    assert tallybook.refusal("rules", "change", *words)[0] == code
    assert len(tallybook.answer("projection", "status")) == 1


@pytest.mark.parametrize("words", [(), ("--formula", "last", "--yes")])
def test_a_change_of_nothing_or_without_a_reason_is_wrong_usage(tallybook: CommandLine, words: tuple[str, ...]) -> None:
    """Before the ledger is opened."""
    assert "Error: " in tallybook.run("rules", "change", "tokens", *words, status=2).stderr
