"""The commands `period settle` and `invoice-lines`, and what the other `period` commands show of settlements."""

import csv
import io
from pathlib import Path

import pytest
from tallybook.application.system_user import system_user

from .command_line import CommandLine
from .october_ledger import OCTOBER, october_ledger, record_tokens

NOVEMBER = ("--period", "2025-11")


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    """Return a ledger whose October is closed, with late usage of two customers."""
    line = october_ledger(tmp_path)
    line.run("period", "run", *OCTOBER)
    record_tokens(line, "req-8", "acme", "30", "2025-10-20T09:00:00")
    record_tokens(line, "req-9", "omega", "70", "2025-10-20T09:00:00")
    return line


def test_an_adjustment_is_settled_by_a_document(tallybook: CommandLine) -> None:
    """It is shown with what was invoiced, and the same command again changes nothing."""
    settle = ("period", "settle", "tokens", "acme", *OCTOBER, "--document", "INV-7", "--on-behalf-of", "finance")
    author = f"{system_user()} on behalf of finance"
    for _ in range(2):
        assert tallybook.lines(*settle) == [
            f"tokens, acme, 2025-10: +30 is settled by INV-7 by {author}, as of position 12",
            "invoiced: 3,050, billable 3,050",
        ]
    (settlement,) = tallybook.run_json(*settle)["settlements"]
    assert (settlement["document"], settlement["difference"], settlement["position"]) == ("INV-7", "30", 12)
    lines = tallybook.lines("period", "list", "tokens")
    assert lines[0].split()[-1] == "settled"
    assert lines[2].endswith("+30 by INV-7")
    assert tallybook.lines("period", "adjustments", "tokens", "acme")[0].startswith("No adjustments")
    settled = tallybook.lines("period", "adjustments", "tokens", "acme", "--settled")
    assert settled[2].split() == ["acme", "2025-10", "3,020", "+30", "3,050", "0", "0", "0"]


def test_control_characters_in_a_document_are_escaped_once(tallybook: CommandLine) -> None:
    """They never reach the terminal."""
    settle = ("period", "settle", "tokens", "acme", *OCTOBER, "--document", "INV\x1b[2J")
    assert "is settled by INV\\x1b[2J by" in tallybook.lines(*settle)[0]
    assert tallybook.lines("period", "list", "tokens")[2].endswith("+30 by INV\\x1b[2J")


def test_nothing_owed_is_an_error(tallybook: CommandLine) -> None:
    """So is a position that doesn't exist yet."""
    zeta = ("period", "settle", "tokens", "zeta", *OCTOBER, "--document", "INV-7")
    assert "adjustment_not_found: Nothing is owed" in tallybook.run(*zeta, status=1).stderr
    acme = ("period", "settle", "tokens", "acme", *OCTOBER, "--document", "INV-7", "--as-of", "99")
    assert "invalid_as_of" in tallybook.run(*acme, status=1).stderr


def test_what_is_owed_on_all_meters(tallybook: CommandLine) -> None:
    """The adjustments of each meter are under its name."""
    lines = tallybook.lines("period", "adjustments")
    assert [line.split()[0].strip("─") for line in lines] == ["tokens:", "customer", "", "acme", "omega"]
    tallybook.run("meter", "configure", "calls", "--customer-key", "customer", "--value-key", "tokens")
    assert tallybook.run_json("period", "adjustments") == tallybook.run_json("period", "adjustments", "tokens")
    tallybook.run("invoice-lines", *NOVEMBER, "--settle", "run 11")
    assert tallybook.lines("period", "adjustments")[0].startswith("No adjustments")


def test_a_roll_forward_has_the_columns_that_are_not_zero(tallybook: CommandLine) -> None:
    """The parts lead from the frozen total to the present one."""
    lines = tallybook.lines("period", "adjustments", "tokens", "--roll-forward")
    assert lines[0].split() == ["customer", "period", "frozen", "late", "now", "open"]
    assert [line.split() for line in lines[2:]] == [
        ["acme", "2025-10", "3,020", "+30", "3,050", "+30"],
        ["omega", "2025-10", "0", "+70", "70", "+70"],
    ]


def test_invoice_lines_are_printed_and_settled(tallybook: CommandLine) -> None:
    """The adjustments of October are lines of November; settled, they are not owed again."""
    assert tallybook.lines("invoice-lines", *OCTOBER) == [
        "customer   meter    period    line    quantity   billable",
        "─────────────────────────────────────────────────────────",
        "acme       tokens   2025-10   usage      3,020      3,020",
        "zeta       tokens   2025-10   usage          7          7",
        "tokens: 2 lines, billable 3,027",
        "2 lines, as of ledger position 12",
    ]
    result = tallybook.run("invoice-lines", "tokens", *NOVEMBER, "--settle", "run 11", "--as-of", "12")
    assert result.stdout.splitlines() == [
        "customer   meter    period    line         quantity   billable   billed before",
        "──────────────────────────────────────────────────────────────────────────────",
        "acme       tokens   2025-10   adjustment        +30        +30           3,020",
        "omega      tokens   2025-10   late usage        +70        +70               0",
        "tokens: 2 lines, billable 100",
        "2 lines, as of ledger position 12",
    ]
    assert result.stderr == "2 adjustments settled by run 11, as of position 12\n"
    assert tallybook.lines("invoice-lines", *NOVEMBER)[0].startswith(
        "No lines: the periods that end in 2025-11 (UTC) have no quantity or are not closed, and no earlier period "
    )
    again = tallybook.run_json("invoice-lines", *NOVEMBER, "--settle", "run 11", "--as-of", "12")
    assert (again["settlement"]["settled"], again["settlement"]["not_settled"]) == (2, [])


def test_an_adjustment_that_another_document_has_is_an_error(tallybook: CommandLine) -> None:
    """The others are settled, and the exit status is 1."""
    tallybook.run("period", "settle", "tokens", "acme", *OCTOBER, "--document", "CN-1")
    result = tallybook.run("invoice-lines", *NOVEMBER, "--settle", "run 11", "--as-of", "12", status=1)
    lines = result.stderr.splitlines()
    assert lines[0] == "1 adjustment settled by run 11, as of position 12"
    assert lines[1].startswith("tokens, acme: not settled: adjustment_not_found: Nothing is owed")


def test_invoice_lines_as_csv(tallybook: CommandLine) -> None:
    """The lines of one customer, without formulas that a spreadsheet would evaluate."""
    record_tokens(tallybook, "req-10", "=1+1", "5", "2025-10-20T09:00:00")
    text = tallybook.run("invoice-lines", *NOVEMBER, "--csv").stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["customer"], row["billable"], row["is_late"]) for row in rows] == [
        ("'=1+1", "5", "true"), ("acme", "30", "false"), ("omega", "70", "true"),
    ]  # fmt: skip
    text = tallybook.run("invoice-lines", *OCTOBER, "--csv", "--customer", "zeta").stdout
    (row,) = csv.DictReader(io.StringIO(text))
    assert (row["kind"], row["meter"], row["quantity"]) == ("usage", "tokens", "7")
    assert (row["start"], row["end"]) == ("2025-10-01T00:00:00Z", "2025-11-01T00:00:00Z")
    tallybook.run("invoice-lines", *OCTOBER, "--csv", "--json", status=2)


def test_a_dry_run_shows_the_difference_before_a_period_is_closed_again(tallybook: CommandLine) -> None:
    """By the rules of the closing, or by the present ones; nothing is stored."""
    close = ("period", "close", "tokens", "acme", *OCTOBER)
    tallybook.run("rules", "change", "tokens", "--formula", "count", "--reason", "contract", "--yes")
    dry_run = tallybook.lines(*close, "--dry-run")
    assert dry_run == [
        "tokens, acme, 2025-10 would be closed under rules revision 1; nothing is stored",
        "                  quantity   billable   events",
        "──────────────────────────────────────────────",
        "would be frozen      3,050      3,050        4",
        "invoiced             3,020      3,020",
        "difference             +30        +30",
    ]
    assert tallybook.lines(*close, "--dry-run", "--rules", "current")[-1].split() == ["difference", "-3,016", "-3,016"]
    tallybook.run("period", "reopen", "tokens", "acme", *OCTOBER, "--reason", "wrong address")
    assert tallybook.run_json(*close)["period"]["quantity"] == "3050"
    assert "parameter_invalid" in tallybook.run(*close, "--dry-run", "--rules", "first", status=1).stderr
