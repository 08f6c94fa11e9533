"""The command `explain`: contributions, arithmetic, CSV, and the frozen total of a closed period."""

import csv
import hashlib
import os
import pty
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path

import pytest
from tallybook.application import Metering, explanation_csv
from tallybook.application.interfaces.formatting import to_json
from tallybook.application.system_user import system_user

from .command_line import CommandLine
from .october_ledger import ANY_AGE, OCTOBER, october_ledger, record_tokens

FIRST, LAST = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
ACME = ("explain", "tokens", "acme", *OCTOBER)


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    """Return a ledger in which one of acme's three meter events of October is cancelled."""
    line = october_ledger(tmp_path)
    line.run("cancel", "tokens", "req-2", "--reason", "bytes, not tokens", "--on-behalf-of", "ops")
    return line


def rows(text: str) -> list[dict[str, str]]:
    """Return the rows of a CSV by column."""
    return list(csv.DictReader(StringIO(text, newline="")))


def digest(csv_rows: list[dict[str, str]]) -> str:
    """Compute the SHA-256 of the counted rows, as an auditor does."""
    lines = [
        f"{row['position']},{row['occurred_at']},{row['value']}\n" for row in csv_rows if row["verdict"] == "counted"
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def test_each_event_has_its_contribution_and_the_sum_is_written_out(tallybook: CommandLine) -> None:
    """The arithmetic has the sign of each value; the rules revision, the position and the digest follow."""
    tallybook.environment["COLUMNS"] = "160"
    lines = tallybook.lines(*ACME)
    assert lines[1].split() == ["occurred", "at", "identifier", "value", "contribution", "verdict"]
    assert [line.split()[2:5] for line in lines[3:6]] == [
        ["req-1", "25", "25"], ["req-2", "3,000", "0"], ["req-3", "-5", "-5"],
    ]  # fmt: skip
    assert lines[6:8] == ["2 of 3 count: sum = 25 - 5 = 20", "rules revision 1, ledger position 7"]
    explanation = tallybook.run_json(*ACME)
    assert lines[8] == f"SHA-256 {explanation['digest']}"
    assert [event["contribution"] for event in explanation["events"]] == ["25", "0", "-5"]


def test_an_explanation_of_many_events_shows_only_the_total(tallybook: CommandLine) -> None:
    """Up to eight values are written out."""
    for number in range(6):
        record_tokens(tallybook, f"more-{number}", "acme", "1", "2025-10-20T00:00:00")
    assert tallybook.lines(*ACME)[-3] == "8 of 9 count: sum = 25 - 5 + 1 + 1 + 1 + 1 + 1 + 1 = 26"
    record_tokens(tallybook, "more-6", "acme", "1", "2025-10-20T00:00:00")
    assert tallybook.lines(*ACME)[-3] == "9 of 10 count: sum = 27"


def test_a_total_without_usage_is_zero(tallybook: CommandLine) -> None:
    """The total is of 0 events."""
    assert tallybook.lines("explain", "tokens", "acme", "--period", "2025-08")[1] == "0 of 0 count: sum = 0"


@pytest.mark.parametrize(("formula", "expected_lines"), [("count", "count = 2"), ("last", "last = -5")])
def test_contributions_depend_on_the_formula(tallybook: CommandLine, formula: str, expected_lines: str) -> None:
    """Under count each event contributes one; under last only the last event contributes."""
    tallybook.run("rules", "change", "tokens", "--formula", formula, "--reason", "another", "--yes")
    lines = tallybook.lines(*ACME)
    assert lines[-3:-1] == [f"2 of 3 count: {expected_lines}", "rules revision 2, ledger position 8"]
    contributions = [Decimal(event["contribution"]) for event in tallybook.run_json(*ACME)["events"]]
    assert str(sum(contributions)) == expected_lines.rpartition(" ")[2]


def test_csv_has_a_row_for_each_event_and_reproduces_total_and_digest(tallybook: CommandLine) -> None:
    """The contributions add up to the total; the counted rows hash to the explanation's digest."""
    csv_rows = rows(tallybook.run(*ACME, "--csv").stdout)
    assert list(csv_rows[0]) == [
        "position", "identifier", "occurred_at", "recorded_at", "customer", "value", "verdict", "contribution",
        "superseded_by", "cancelled_at", "reason", "by", "on_behalf_of", "revision",
    ]  # fmt: skip
    explanation = tallybook.run_json(*ACME)
    assert [(row["identifier"], row["value"], row["verdict"], row["contribution"]) for row in csv_rows] == [
        ("req-1", "25", "counted", "25"), ("req-2", "3000", "cancelled", "0"), ("req-3", "-5", "counted", "-5"),
    ]  # fmt: skip
    assert csv_rows[0]["occurred_at"] == "2025-10-05T09:00:00Z"
    assert (csv_rows[1]["reason"], csv_rows[1]["by"]) == ("bytes, not tokens", system_user())
    assert csv_rows[1]["cancelled_at"] == explanation["events"][1]["cancelled_at"]
    assert str(sum(Decimal(row["contribution"]) for row in csv_rows)) == explanation["total"]["value"]
    assert digest(csv_rows) == explanation["digest"]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_spreadsheet_formulas_are_escaped_and_numbers_are_not(tallybook: CommandLine, start: str) -> None:
    """Identifiers, customers, reasons and authors get an apostrophe; a negative value remains a number."""
    text = f'{start}HYPERLINK("https://example.com";"a,b")'
    with Metering.open(tallybook.url, policy=ANY_AGE) as metering:
        metering.record("tokens", {"customer": text, "tokens": "-0.10"}, identifier=text)
        metering.cancel("tokens", text, reason=text, by=text)
        explanation = metering.explain("tokens", text, FIRST, LAST)
    file = StringIO(newline="")
    explanation_csv(explanation, file)
    (row,) = rows(file.getvalue())
    assert {row[column] for column in ("identifier", "customer", "reason", "by")} == {f"'{text}"}
    assert row["value"] == "-0.10"


def test_different_texts_are_different_cells(tallybook: CommandLine) -> None:
    """A text that starts with an apostrophe differs from an escaped text."""
    identifiers = ("=1", "'=1", "''=1", "'")
    with Metering.open(tallybook.url, policy=ANY_AGE) as metering:
        for identifier in identifiers:
            metering.record("tokens", {"customer": "quoted", "tokens": "1"}, identifier=identifier)
        explanation = metering.explain("tokens", "quoted", FIRST, LAST)
    file = StringIO(newline="")
    explanation_csv(explanation, file)
    assert [row["identifier"] for row in rows(file.getvalue())] == ["'=1", "''=1", "'''=1", "''"]


def test_a_superseded_meter_event_is_escaped_too(tallybook: CommandLine) -> None:
    """The identifier of the superseding event is escaped in its row."""
    tallybook.run("meter", "configure", "seats", "--formula", "last", "--window", "day")
    for identifier in ("first", "=second"):
        arguments = ("stripe_customer_id=a", "value=3", "--identifier", identifier, "--timestamp", "2024-01-01")
        tallybook.run("record", "seats", *arguments, "--backfill")
    csv_rows = rows(tallybook.run("explain", "seats", "a", "--period", "2024", "--csv").stdout)
    assert [(row["identifier"], row["superseded_by"]) for row in csv_rows] == [("first", "'=second"), ("'=second", "")]


def test_csv_is_utf_8_with_crlf_line_ends(tallybook: CommandLine) -> None:
    """The CSV follows RFC 4180 for any encoding of the terminal; a missing value is an empty cell."""
    with Metering.open(tallybook.url, policy=ANY_AGE) as metering:
        metering.meters.configure("calls", formula="count")
        metering.record("calls", {"stripe_customer_id": "é"}, identifier="call-1")
    written = tallybook.run("explain", "calls", "--csv").stdout_bytes
    assert written.count(b"\r\n") == 2
    (row,) = rows(written.decode())
    assert (row["customer"], row["value"], row["contribution"]) == ("é", "", "1")


def test_a_closed_period_is_explained_with_its_frozen_total(tallybook: CommandLine) -> None:
    """Later events are left out, and the digest is that of the closed period."""
    period = tallybook.run_json("period", "close", "tokens", "acme", *OCTOBER)["period"]
    record_tokens(tallybook, "late", "acme", "30", "2025-10-31T23:59:00")
    tallybook.run("rules", "change", "tokens", "--formula", "count", "--reason", "by call", "--yes")
    explanation = tallybook.run_json(*ACME, "--closed")
    assert (explanation["total"]["value"], explanation["digest"]) == (period["quantity"], period["digest"])
    assert (explanation["revision"], explanation["position"], explanation["formula"]) == (1, period["position"], "sum")
    assert digest(rows(tallybook.run(*ACME, "--closed", "--csv").stdout)) == period["digest"]
    assert ", 2025-10 (UTC), as closed at 2" in tallybook.lines(*ACME, "--closed")[0]
    assert tallybook.run_json(*ACME)["total"]["value"] == "3"


def test_an_open_period_has_no_frozen_total(tallybook: CommandLine) -> None:
    """A period that was never closed, overlaps a closed one or was reopened is an error."""
    assert tallybook.run_error(*ACME, "--closed") == ("period_not_closed", "start")
    tallybook.run("period", "close", "tokens", "acme", *OCTOBER)
    day = ("explain", "tokens", "acme", "--period", "2025-10-05", "--closed")
    assert tallybook.run_error(*day)[0] == "period_not_closed"
    tallybook.run("period", "reopen", "tokens", "acme", *OCTOBER, "--reason", "why")
    assert tallybook.run_error(*ACME, "--closed")[0] == "period_not_closed"


@pytest.mark.parametrize(
    "arguments", [("acme", "--csv", "--json"), ("--closed",), ("acme", "--closed", "--as-of", "3")]
)
def test_options_that_exclude_each_other_are_a_usage_error(tallybook: CommandLine, arguments: tuple[str, ...]) -> None:
    """`--csv` excludes `--json`; `--closed` needs a customer and excludes `--as-of`."""
    assert "Error: " in tallybook.run("explain", "tokens", *arguments, *OCTOBER, status=2).stderr


@pytest.mark.parametrize("count", [0, 1, 2_500])
def test_json_is_written_event_by_event(tallybook: CommandLine, count: int) -> None:
    """The output is the same document as if it were written at once."""
    tallybook.run("meter", "configure", "calls", "--formula", "count")
    with Metering.open(tallybook.url, policy=ANY_AGE) as metering:
        metering.record_many(
            [
                {"event_name": "calls", "payload": {"stripe_customer_id": "é"}, "identifier": f"call-{n}"}
                for n in range(count)
            ]
        )
        explanation = metering.explain("calls", None, FIRST, LAST)
    written = tallybook.run("explain", "calls", "--from", "2020-01-01", "--to", "2100-01-01", "--json").stdout
    assert written == f"{to_json(explanation)}\n"


def test_a_long_explanation_is_complete(tallybook: CommandLine) -> None:
    """It has more events than those from which the column widths are computed."""
    with Metering.open(tallybook.url, policy=ANY_AGE) as metering:
        at = datetime(2025, 10, 20, tzinfo=UTC)
        metering.record_many(
            [
                {
                    "event_name": "tokens",
                    "payload": {"customer": "acme", "tokens": str(10**number if number > 1_490 else 1)[:15]},
                    "identifier": f"more-{number}",
                    "timestamp": at + timedelta(seconds=number),
                }
                for number in range(1_500)
            ]
        )
    tallybook.run("cancel", "tokens", "more-1480", "--reason", "bytes, not tokens", "--on-behalf-of", "ops")
    tallybook.environment["COLUMNS"] = "160"
    lines = tallybook.lines(*ACME)
    assert len(lines) == 1_509
    assert lines[-23].endswith(f"by {system_user()} on behalf of ops: bytes, not tokens")
    assert lines[-4].split() == ["2025-10-20", "00:24:59", "more-1499", *["100,000,000,000,000"] * 2, "counted"]
    assert lines[-3].startswith("1,501 of 1,503 count: sum = ")


@pytest.mark.slow
def test_progress_is_shown_on_a_terminal(tallybook: CommandLine) -> None:
    """Progress is written to stderr and is not in the output."""
    with Metering.open(tallybook.url, policy=ANY_AGE) as metering:
        payload = {"customer": "acme", "tokens": "1"}
        metering.record_many([{"event_name": "tokens", "payload": payload} for _ in range(5_000)])
    controller, terminal = pty.openpty()
    output = tallybook.folder / "explained.csv"
    program = Path(sys.executable).with_name("tallybook")
    with output.open("wb") as file:
        process = subprocess.Popen(
            [program, "explain", "tokens", "acme", "--csv", "--ledger", tallybook.url], stdout=file, stderr=terminal
        )
    os.close(terminal)
    shown = b""
    with suppress(OSError):  # raised at the end of the output
        while part := os.read(controller, 65_536):
            shown += part
    os.close(controller)
    assert process.wait() == 0
    assert b"counting" in shown
    assert b"explaining" in shown
    assert output.read_bytes().count(b"\r\n") == 5_001
