"""The commands for closed periods: `close`, `list`, `adjustments` and `reopen`."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tallybook.application import Metering
from tallybook.application.system_user import system_user

from .command_line import CommandLine
from .october_ledger import OCTOBER, october_ledger, record_tokens


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    return october_ledger(tmp_path)


def record_corrections(tallybook: CommandLine) -> None:
    """Close October for all customers, then cancel one of acme's meter events and record a late one."""
    tallybook.run("period", "run", "tokens", *OCTOBER)
    tallybook.run("cancel", "tokens", "req-2", "--reason", "bytes, not tokens", "--on-behalf-of", "ops")
    record_tokens(tallybook, "req-6", "acme", "30", "2025-10-31T23:59:00")


def test_a_closed_period_has_its_totals_and_their_position_and_rules(tallybook: CommandLine) -> None:
    """Closing again prints the first totals, and says that the period was closed before."""
    result = tallybook.run_json("period", "close", "tokens", "acme", *OCTOBER)
    period = result["period"]
    assert result["was_closed"] is False
    assert (period["customer"], period["quantity"], period["billable"], period["count"]) == ("acme", "3020", "3020", 3)
    assert (period["start"], period["end"]) == ("2025-10-01T00:00:00Z", "2025-11-01T00:00:00Z")
    assert (period["revision"], period["position"], len(period["digest"])) == (1, 6, 64)
    again = tallybook.run_json("period", "close", "tokens", "acme", *OCTOBER)
    assert again == {"period": period, "was_closed": True, "gaps": []}
    lines = tallybook.lines("period", "close", "tokens", "acme", *OCTOBER)
    assert lines[0] == "tokens, acme, 2025-10 was closed before"
    assert lines[1] == "  quantity        3,020"
    assert lines[-1] == f"  SHA-256         {period['digest']}"


def test_a_customer_that_never_had_usage_is_not_closed_by_mistake(tallybook: CommandLine) -> None:
    """The error names similar customers, and the option that closes the period nevertheless."""
    stderr = tallybook.run("period", "close", "tokens", "acne", *OCTOBER, status=1).stderr
    assert "customer_without_usage: The customer 'acne' never had usage on 'tokens'. Similar customers: acme." in stderr
    assert stderr.rstrip().endswith("Use --allow-empty to close an empty period.")
    closed = tallybook.run_json("period", "close", "tokens", "acne", *OCTOBER, "--allow-empty")
    assert closed["period"]["quantity"] == "0"


def test_a_gap_between_closed_periods_is_shown(tallybook: CommandLine) -> None:
    """Every command for periods shows a gap with its usage; a gap without usage is shown only at the closing."""
    tokyo, los_angeles = ("--timezone", "Asia/Tokyo"), ("--timezone", "America/Los_Angeles")
    september = tallybook.run("period", "close", "tokens", "acme", "--period", "2025-09", *tokyo).stdout
    assert "gap" not in september
    lines = tallybook.lines("period", "close", "tokens", "acme", "--period", "2025-10", *los_angeles)
    gap = "gap: acme, 2025-09-30 08:00:00 to 2025-10-01 00:00:00 (America/Los_Angeles) is in no closed period: "
    assert lines[-1] == f"{gap}no usage"
    assert "gap" not in tallybook.run("period", "list", "tokens").stdout
    record_tokens(tallybook, "req-7", "acme", "40", "2025-10-01T06:00:00")
    for command in (("list", "tokens"), ("list", "tokens", "acme"), ("adjustments", "tokens")):
        assert tallybook.lines("period", *command, *los_angeles)[-1] == f"{gap}1 event with 40"
    (found,) = tallybook.run_json("period", "close", "tokens", "acme", "--period", "2025-10", *los_angeles)["gaps"]
    assert found == {
        "event_name": "tokens", "customer": "acme", "value": "40", "count": 1,
        "start": "2025-09-30T15:00:00Z", "end": "2025-10-01T07:00:00Z",
    }  # fmt: skip


def test_a_period_is_not_closed_before_its_grace_period_ends(tmp_path: Path) -> None:
    """The default is an hour, and `--grace-period` changes it; also for a billing run."""
    tallybook = october_ledger(tmp_path)
    now = datetime.now(UTC)
    end = now - timedelta(minutes=30)
    with Metering.open(tallybook.url) as metering:
        metering.record("tokens", {"customer": "acme", "tokens": "1"}, timestamp=end - timedelta(minutes=1))
    span = ("--from", (end - timedelta(days=1)).isoformat(), "--to", end.isoformat())
    assert tallybook.run_error("period", "close", "tokens", "acme", *span) == ("period_not_ended", "end")
    assert tallybook.run_error("period", "run", *span) == ("period_not_ended", "end")
    assert (
        tallybook.run_error("period", "close", "tokens", "acme", *span, "--grace-period", 72)[0] == "period_not_ended"
    )
    assert (
        tallybook.run_json("period", "close", "tokens", "acme", *span, "--grace-period", 0)["period"]["quantity"] == "1"
    )
    assert (
        "less than or equal to 72"
        in tallybook.run("period", "close", "tokens", "acme", *span, "--grace-period", 73, status=2).stderr
    )


def test_adjustments_show_later_changes_and_their_reasons(tallybook: CommandLine) -> None:
    """An adjustment is signed and belongs to its closed period; the changes of its events add up to the difference."""
    assert tallybook.lines("period", "adjustments", "tokens") == [
        "No adjustments: no closed period has changed since it was closed or settled."
    ]
    record_corrections(tallybook)
    table = [
        "customer   period    frozen   now   difference   billable difference   rules difference",
        "───────────────────────────────────────────────────────────────────────────────────────",
        "acme       2025-10    3,020    50       -2,970                -2,970                  0",
    ]
    assert tallybook.lines("period", "adjustments", "tokens") == table
    lines = tallybook.lines("period", "adjustments", "tokens", "acme", "--events", *OCTOBER)
    assert lines[:3] == table
    assert lines[4] == "acme, 2025-10: -2,970 since it was closed"
    assert lines[5].split() == ["occurred", "at", "identifier", "value", "change", "when", "closed", "now"]
    assert lines[7].startswith("2025-10-05 09:20:00   req-2        3,000   -3,000   counted        cancelled ")
    assert lines[-1] == "2025-10-31 23:59:00   req-6           30      +30   not recorded   counted"

    (adjustment,) = tallybook.run_json("period", "adjustments", "tokens")
    assert (adjustment["period"]["quantity"], adjustment["quantity"]) == ("3020", "50")
    assert (adjustment["difference"], adjustment["billable_difference"]) == ("-2970", "-2970")
    assert [
        (event["identifier"], event["before"], event["verdict"], event["change"]) for event in adjustment["events"]
    ] == [
        ("req-2", "counted", "cancelled", "-3000"),
        ("req-6", None, "counted", "30"),
    ]


def test_adjustments_take_a_position_and_a_time_range(tallybook: CommandLine) -> None:
    """The closings are at the positions 8 and 9, the cancellation at 11, and the late meter event at 12."""
    record_corrections(tallybook)
    assert tallybook.run_json("period", "adjustments", "tokens", "--as-of", 10) == []
    (cancelled,) = tallybook.run_json("period", "adjustments", "tokens", "--as-of", 11)
    assert cancelled["difference"] == "-3000"
    assert tallybook.run_json("period", "adjustments", "tokens", "zeta") == []
    assert tallybook.run_json("period", "adjustments", "tokens", "--period", "2025-09") == []


def test_a_rule_change_causes_no_adjustment_of_a_closed_period(tallybook: CommandLine) -> None:
    """The rules difference is shown separately, without events."""
    tallybook.run("period", "close", "tokens", "acme", *OCTOBER)
    tallybook.run("rules", "change", "tokens", "--formula", "count", "--reason", "by call", "--yes")
    lines = tallybook.lines("period", "adjustments", "tokens", "--events")
    assert lines[2].split() == ["acme", "2025-10", "3,020", "3,020", "0", "0", "-3,017"]
    assert lines[-1] == "No event: only the rules were changed."


def test_a_reopened_period_is_closed_again_and_its_first_total_stays(tallybook: CommandLine) -> None:
    """The list has both closings, with author and reason of the reopening."""
    record_corrections(tallybook)
    lines = tallybook.lines(
        "period", "reopen", "tokens", "acme", *OCTOBER, "--reason", "wrong unit", "--on-behalf-of", "ops"
    )
    assert lines[0] == f"tokens, acme, 2025-10 is reopened by {system_user()} on behalf of ops: wrong unit"
    assert lines[1].endswith(" was 3,020; it stays in the ledger.")
    listed = tallybook.lines("period", "list", "tokens")
    assert [line.split()[0] for line in listed[2:]] == ["zeta"]
    assert tallybook.run_json("period", "close", "tokens", "acme", *OCTOBER)["period"]["quantity"] == "50"
    periods = tallybook.run_json("period", "list", "tokens", "acme", "--reopened")
    assert [(period["quantity"], period["reason"], period["on_behalf_of"]) for period in periods] == [
        ("3020", "wrong unit", "ops"),
        ("50", None, None),
    ]
    tallybook.environment["COLUMNS"] = "200"
    assert "on behalf of ops: wrong unit" in tallybook.run("period", "list", "tokens", "--reopened").stdout
    assert tallybook.run_json("period", "adjustments", "tokens") == []


def test_closed_periods_are_listed_by_time_and_as_of(tallybook: CommandLine) -> None:
    """A period selects the closed periods that overlap it, and `--as-of` those that were closed by then."""
    assert tallybook.lines("period", "list", "tokens") == ["No closed periods."]
    record_corrections(tallybook)
    tallybook.run("period", "close", "tokens", "zeta", "--period", "2025-09")
    assert len(tallybook.run_json("period", "list", "tokens")) == 3
    assert len(tallybook.run_json("period", "list", "tokens", "zeta")) == 2
    (touched,) = tallybook.run_json("period", "list", "tokens", "--from", "2025-09-30", "--to", "2025-10-01")
    assert (touched["customer"], touched["quantity"]) == ("zeta", "11")
    assert [period["customer"] for period in tallybook.run_json("period", "list", "tokens", "--as-of", 8)] == ["acme"]


def test_an_anchored_period_is_the_one_that_starts_in_the_month(tallybook: CommandLine) -> None:
    """The anchor is in local time of the timezone; the period is displayed with its bounds."""
    anchored = ("--anchor", "2025-01-31T10:32", "--period", "2025-09", "--timezone", "Europe/Berlin")
    period = tallybook.run_json("period", "close", "tokens", "zeta", *anchored)["period"]
    assert (period["start"], period["end"]) == ("2025-09-30T08:32:00Z", "2025-10-31T09:32:00Z")
    assert period["quantity"] == "18"
    (line,) = tallybook.lines("period", "list", "tokens", *anchored)[2:]
    assert line.startswith("zeta       2025-09-30 10:32 to 2025-10-31 10:32 ")
    assert tallybook.run_json("total", "tokens", "zeta", *anchored)["value"] == "18"
    tallybook.run("period", "reopen", "tokens", "zeta", *anchored, "--reason", "why")


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        ("2025-02", "2025-02-28T10:32:00Z", "2025-03-31T10:32:00Z"),
        ("2025", "2025-01-31T10:32:00Z", "2026-01-31T10:32:00Z"),
        ("2024-12-31", "2024-12-31T10:32:00Z", "2025-01-01T10:32:00Z"),
        ("0001-01", "0001-01-31T10:32:00Z", "0001-02-28T10:32:00Z"),
        ("9999-12", "9999-12-31T10:32:00Z", "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_an_anchor_applies_to_months_days_and_years(tallybook: CommandLine, period: str, start: str, end: str) -> None:
    """This holds before the anchor, at the limits of datetime, and in any timezone."""
    tallybook.run("total", "tokens", "--anchor", "2025-01-31T10:32", "--period", period, "--timezone", "Asia/Tokyo")
    total = tallybook.run_json("total", "tokens", "--anchor", "2025-01-31T10:32", "--period", period)
    assert (total["start"], total["end"]) == (start, end)


@pytest.mark.parametrize(
    "arguments",
    [
        ("close", "tokens", "acme"),
        ("close", "tokens", *OCTOBER),
        ("run", "tokens"),
        ("status",),
        ("close", "tokens", "acme", "--anchor", "2025-01-17", "--from", "2025-10-01", "--to", "2025-11-01"),
        ("close", "tokens", "acme", "--anchor", "the 17th", *OCTOBER),
        ("close", "tokens", "acme", "--grace-period", "soon", *OCTOBER),
        ("reopen", "tokens", "acme", *OCTOBER),
        ("reopen", "tokens", "acme", "--reason", "why"),
        ("list", "tokens", "--from", "2025-10-01"),
        ("adjustments", "tokens", "--anchor", "2025-01-17"),
    ],
)
def test_incomplete_arguments_are_a_usage_error(tallybook: CommandLine, arguments: tuple[str, ...]) -> None:
    """Period, customer and reason are required."""
    assert "Error: " in tallybook.run("period", *arguments, status=2).stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("close", "nothing", "acme", *OCTOBER), "no_meter"),
        (("close", "tokens", "acme", "--from", "2025-10-02", "--to", "2025-10-02"), "invalid_time_range"),
        (("close", "tokens", "acme", "--period", "2999"), "period_not_ended"),
        (("list", "nothing"), "no_meter"),
        (("adjustments", "nothing"), "no_meter"),
        (("reopen", "tokens", "acme", "--reason", "why", *OCTOBER), "period_not_closed"),
        (("reopen", "tokens", "acme", "--reason", "", *OCTOBER), "parameter_invalid"),
    ],
)
def test_ledger_errors_have_their_code(tallybook: CommandLine, arguments: tuple[str, ...], code: str) -> None:
    """The exit status is 1, and the error is one line of text or one JSON document."""
    assert tallybook.run_error("period", *arguments)[0] == code
