"""Changes of rules for usage from a time on, as the command line shows and makes them."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tallybook.application import Metering

from .command_line import CommandLine
from .october_ledger import OCTOBER, october_ledger, record_tokens

THOUSANDS = ("rules", "change", "tokens", "--multiplier", "1/1000", "--rounding", "up", "--reason", "per 1,000")
FROM_OCTOBER = ("--effective-from", "2025-10-01")
FROM_2100 = ("--effective-from", "2100-01-01")
SEPTEMBER_TO_OCTOBER = ("--from", "2025-09-01", "--to", "2025-11-01")


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    return october_ledger(tmp_path)


def test_a_change_applies_to_usage_from_a_time_on(tallybook: CommandLine) -> None:
    """Usage before it keeps its rules, and the output says from when on the new ones apply."""
    lines = tallybook.lines(*THOUSANDS, *FROM_OCTOBER, "--yes")
    rules = "sum, times 1/1000, rounded up to 1 (keys: customer, tokens) for usage from 2025-10-01 00:00:00Z on"
    assert lines[0] == f"tokens counted by {rules}, in generation 2, up to position 6"
    assert f"tokens is now counted by {rules}, rules revision 2." in lines
    assert tallybook.run_json("total", "tokens", "zeta", "--period", "2025-09")["billable"] == "11"
    assert tallybook.run_json("total", "tokens", "zeta", *OCTOBER)["billable"] == "1"


def test_the_time_is_local_and_in_the_json(tallybook: CommandLine) -> None:
    """It follows --timezone as other times do; without it the change applies to all usage."""
    change = tallybook.run_json(*THOUSANDS, *FROM_OCTOBER, "--timezone", "Europe/Berlin")
    assert change["effective_from"] == "2025-09-30T22:00:00Z"
    assert change["candidate"]["effective_from"] == {"tokens": "2025-09-30T22:00:00Z"}
    (status,) = tallybook.lines("projection", "status")[3:]
    assert status.endswith("tokens: multiplier 1/1000, rounding up to 1 for usage from 2025-09-30 22:00:00Z on")
    assert tallybook.run_json(*THOUSANDS)["effective_from"] is None
    promoted = tallybook.run_json(*THOUSANDS, *FROM_OCTOBER, "--yes")["promotion"]
    assert promoted["effective_from"] == {"tokens": "2025-10-01T00:00:00Z"}


def test_an_effective_time_in_a_window_is_rejected(tallybook: CommandLine) -> None:
    """The rules of a window of a day can change at midnight only. Text that is no time is a usage error."""
    window = ("rules", "change", "tokens", "--formula", "last", "--window", "day")
    error = tallybook.run_error(*window, "--effective-from", "2025-10-01T12:00")
    assert error == ("invalid_effective_from", "effective_from")
    assert "'--effective-from'" in tallybook.run(*THOUSANDS, "--effective-from", "tomorrow", status=2).stderr


def test_the_difference_says_which_windows_are_closed(tallybook: CommandLine) -> None:
    """It has the billable quantities of each window, open, closed and partly closed."""
    tallybook.run("period", "close", "tokens", "zeta", "--period", "2025-09")
    tallybook.run("period", "close", "tokens", "zeta", "--period", "2025-10-09")
    tallybook.run(*THOUSANDS)
    lines = tallybook.lines("projection", "diff", 2)
    assert [line.split() for line in lines[7:10]] == [
        ["acme", "2025-10", "open", "3,020", "3.02", "-3,016.98", "3,020", "4"],
        ["zeta", "2025-09", "closed", "11", "0.011", "-10.989", "11", "1"],
        ["zeta", "2025-10", "partly", "closed", "7", "0.007", "-6.993", "7", "1"],
    ]
    differences = tallybook.run_json("projection", "diff", 2)["differences"]
    assert [(row["state"], row["billable_before"], row["billable_after"]) for row in differences] == [
        ("open", "3020", "4"), ("closed", "11", "1"), ("partly_closed", "7", "1"),
    ]  # fmt: skip


def test_the_difference_of_a_rounding_is_that_of_the_billable_quantities(tallybook: CommandLine) -> None:
    """The totals are the same. The largest difference is first."""
    lines = tallybook.lines("rules", "change", "tokens", "--rounding", "up:1000", "--reason", "per 1,000")
    assert "No total differs." not in lines
    assert [line.split() for line in lines if "open" in line] == [
        ["zeta", "2025-10", "open", "7", "7", "0", "7", "1,000"],
        ["zeta", "2025-09", "open", "11", "11", "0", "11", "1,000"],
        ["acme", "2025-10", "open", "3,020", "3,020", "0", "3,020", "4,000"],
    ]  # fmt: skip


def test_a_comparison_shows_what_a_rounding_changed(tallybook: CommandLine) -> None:
    """The total is the same at both positions, and is billed otherwise."""
    compare = ("compare", "tokens", "zeta", "--period", "2025-10", "--since", "6")
    assert not any("billable" in line for line in tallybook.lines(*compare))
    tallybook.run("rules", "change", "tokens", "--rounding", "up:1000", "--reason", "per 1,000", "--yes")
    assert [line.split() for line in tallybook.lines(*compare)[1:6]] == [
        ["before", "7"], ["after", "7"], ["difference", "0"], ["billable", "before", "7"],
        ["billable", "after", "1,000"],
    ]  # fmt: skip


def test_billable_quantities_that_are_the_totals_are_left_out(tallybook: CommandLine) -> None:
    """The text is shorter without them, and the JSON has them anyway."""
    change = ("rules", "change", "tokens", "--formula", "count", *FROM_OCTOBER)
    assert not any("billable" in line for line in tallybook.lines(*change))
    (acme, zeta) = tallybook.run_json(*change)["difference"]["differences"]
    assert (acme["after"], acme["billable_after"], zeta["after"], zeta["billable_after"]) == ("3", "3", "1", "1")


def test_a_promotion_names_the_digest_of_the_difference(tallybook: CommandLine) -> None:
    """It is rejected once the differences have changed; the digest of a new comparison is accepted."""
    digest = tallybook.run_json(*THOUSANDS)["difference"]["digest"]
    promote = ("projection", "promote", 2, "--reason", "per 1,000", "--digest")
    assert tallybook.run_error(*promote, "c0ffee") == ("parameter_invalid", "digest")
    assert "--digest must be" in tallybook.run_error_json(*promote, "c0ffee")["message"]
    record_tokens(tallybook, "req-6", "zeta", "1", "2025-10-10T09:00:00")
    assert tallybook.run_error(*promote, digest) == ("preview_changed", "digest")
    assert tallybook.run_error(*THOUSANDS, "--yes", "--digest", digest) == ("preview_changed", "digest")
    assert tallybook.run_json("meter", "show", "tokens")["revision"] == 1
    digest = tallybook.run_json("projection", "diff", 2)["digest"]
    assert tallybook.run_json(*promote, digest)["meters"][0]["revision"] == 2


def test_a_rule_change_names_the_digest_of_its_difference(tallybook: CommandLine) -> None:
    """The second run of the command makes the change that the first one showed."""
    (line,) = (line for line in tallybook.lines(*THOUSANDS) if line.startswith("  digest"))
    digest = line.removeprefix("  digest").strip()
    assert "--digest needs --yes" in tallybook.run(*THOUSANDS, "--digest", digest, status=2).stderr
    assert tallybook.run_json(*THOUSANDS, "--yes", "--digest", digest)["promotion"]["generation"]["number"] == 2


def test_a_selected_difference_has_no_digest(tallybook: CommandLine) -> None:
    """A promotion affects all usage, so only the difference of all usage can be approved."""
    with Metering.open(tallybook.url) as metering:
        metering.meters.configure("calls", dimension_keys=("region",))
    tallybook.run("rules", "change", "calls", "--formula", "count")
    assert tallybook.run_json("projection", "diff", 2, "--group-by", "region")["digest"] is None
    assert "digest" not in tallybook.run("projection", "diff", 2, "--group-by", "region").stdout


def test_a_range_across_a_change_is_rejected_with_the_time(tallybook: CommandLine) -> None:
    """The message names options and commands; the summaries have one line before and one after the change."""
    tallybook.run(*THOUSANDS, *FROM_OCTOBER, "--yes")
    total = ("total", "tokens", "zeta", *SEPTEMBER_TO_OCTOBER)
    assert tallybook.run_error(*total) == ("rules_change_in_range", "start")
    assert tallybook.run_error_json(*total)["message"] == (
        "The rules of 'tokens' change at 2025-10-01T00:00:00Z inside the range, so it has no single quantity. "
        "Use --from and --to for the time before or after that, or 'tallybook summaries' for both."
    )
    summaries = tallybook.run_json("summaries", "tokens", "zeta", *SEPTEMBER_TO_OCTOBER, "--window", "year")
    assert [(summary["end"], summary["value"]) for summary in summaries] == [
        ("2025-10-01T00:00:00Z", "11"), ("2025-11-01T00:00:00Z", "0.007"),
    ]  # fmt: skip


def test_an_announced_change_is_shown_with_the_meter(tallybook: CommandLine) -> None:
    """The meter has its present rules, and the announced ones with their time."""
    tallybook.environment["COLUMNS"] = "160"
    lines = tallybook.lines(*THOUSANDS, *FROM_2100, "--yes")
    announced = "sum, times 1/1000, rounded up to 1 (keys: customer, tokens)"
    assert f"tokens is now counted by {announced} for usage from 2100-01-01 00:00:00Z on, rules revision 2." in lines
    assert tallybook.lines("meter", "show", "tokens")[-1] == (
        f"  upcoming        from 2100-01-01 00:00:00Z: {announced}, rules revision 2"
    )
    meter = tallybook.run_json("meter", "show", "tokens")
    assert (meter["revision"], meter["multiplier"]) == (1, None)
    (upcoming,) = meter["upcoming"]
    assert (upcoming["effective_from"], upcoming["revision"]) == ("2100-01-01T00:00:00Z", 2)
    head, _, line = tallybook.lines("meter", "list")
    assert head.split()[-2:] == ["upcoming", "status"]
    assert "   sum, times 1/1000, rounded up to 1 from 2100-01-01 00:00:00Z   active" in line


def test_the_generation_before_an_announcement_is_promoted_again(tallybook: CommandLine) -> None:
    """Its rules differ from the announced ones, although those in effect today are the same."""
    tallybook.run(*THOUSANDS, *FROM_2100, "--yes")
    assert tallybook.lines("projection", "status")[2].endswith("tokens: multiplier none, rounding none")
    lines = tallybook.lines("projection", "promote", 1, "--reason", "not yet")
    assert lines[1] == "tokens is now counted by sum (keys: customer, tokens), rules revision 3."
    assert tallybook.run_json("meter", "show", "tokens")["upcoming"] == []


def test_the_same_rules_from_another_time_on(tallybook: CommandLine) -> None:
    """A generation in which only the time differs is described by the time."""
    tallybook.run(*THOUSANDS, *FROM_OCTOBER, "--yes")
    tallybook.run(*THOUSANDS, "--effective-from", "2025-09-01")
    assert tallybook.lines("projection", "status")[-1].endswith(
        "tokens: the same rules for usage from 2025-09-01 00:00:00Z on"
    )


def test_the_history_lists_all_revisions(tmp_path: Path) -> None:
    """Each has its position, time, author and reason, and the time of usage from which on it applies."""
    tallybook, now = CommandLine(tmp_path), datetime(2025, 11, 22, 9, 30, tzinfo=UTC)
    with Metering.open(tallybook.url, clock=lambda: now) as metering:
        metering.meters.configure("tokens", customer_key="customer", value_key="tokens")
        metering.meters.rename("tokens", "Tokens")
        metering.rules.change("tokens", {"formula": "max"}, reason="a trial", by="ops")
        metering.rules.change(
            "tokens", {"formula": "sum"}, reason="the contract", effective_from=datetime(2025, 12, 1, tzinfo=UTC)
        )
    tallybook.environment["COLUMNS"] = "160"
    head, _, *lines = tallybook.lines("meter", "history", "tokens")
    assert re.split("  +", head) == [
        "revision", "position", "recorded at", "effective from", "rules", "by", "reason",
    ]  # fmt: skip
    keys = "(keys: customer, tokens)"
    assert [re.split("  +", line.strip()) for line in lines[1:]] == [
        ["2", "3", "2025-11-22 09:30:00Z", "all usage", f"max {keys}", "ops", "a trial"],
        ["3", "4", "2025-11-22 09:30:00Z", "2025-12-01 00:00:00Z", f"sum {keys}", "the contract"],
    ]
    history = tallybook.run_json("meter", "history", "tokens")
    assert [(revision["revision"], revision["position"]) for revision in history] == [(1, 1), (2, 3), (3, 4)]
    assert [revision["effective_from"] for revision in history] == [None, None, "2025-12-01T00:00:00Z"]
    assert [(revision["by"], revision["reason"]) for revision in history] == [
        (None, None), ("ops", "a trial"), (None, "the contract"),
    ]  # fmt: skip
    assert history[2]["recorded_at"] == "2025-11-22T09:30:00Z"
    assert (history[1]["rules"]["formula"], history[2]["rules"]["formula"]) == ("max", "sum")
    assert tallybook.run_error("meter", "history", "tokns") == ("no_meter", "event_name")


def test_a_customer_without_usage_is_named_across_a_change(tallybook: CommandLine) -> None:
    """Customers are looked for at all times, although a range with a change of the formula has no total."""
    tallybook.run(*THOUSANDS, *FROM_OCTOBER, "--yes")
    lines = tallybook.lines("total", "tokens", "acmee", "--period", "2025-09")
    assert lines[-1] == "There is no usage of 'acmee' on tokens. Similar customers: acme."
