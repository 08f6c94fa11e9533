"""The command that explains: contributions, arithmetic, CSV, and the figure of a closed period."""

import csv
import hashlib
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO
from pathlib import Path

import pytest
from tallybook.application import Metering, explanation_csv

from .command_line import CommandLine
from .history import ANY_AGE, OCTOBER, october, use_tokens

FIRST, LAST = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
ACME = ("explain", "tokens", "acme", *OCTOBER)


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    """Of acme's three uses of October one is cancelled."""
    line = october(tmp_path)
    line.run("cancel", "tokens", "req-2", "--reason", "bytes, not tokens", "--by", "ops")
    return line


def rows(text: str) -> list[dict[str, str]]:
    """The rows of a CSV by their columns."""
    return list(csv.DictReader(StringIO(text, newline="")))


def digest(found: list[dict[str, str]]) -> str:
    """The SHA-256 that an auditor makes of the rows that count."""
    lines = [f"{row['position']},{row['occurred_at']},{row['value']}\n" for row in found if row["verdict"] == "counted"]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def test_each_event_has_its_contribution_and_the_sum_is_written_out(tallybook: CommandLine) -> None:
    """With the sign of each, what it was counted by, and the digest of what counts."""
    lines = tallybook.lines(*ACME)
    assert lines[1].split() == ["occurred", "at", "identifier", "value", "contribution", "verdict"]
    assert [line.split()[2:5] for line in lines[3:6]] == [
        ["req-1", "25", "25"], ["req-2", "3,000", "0"], ["req-3", "-5", "-5"],
    ]  # fmt: skip
    assert lines[6:8] == ["2 of 3 count: sum = 25 - 5 = 20", "rules revision 1, ledger position 7"]
    answer = tallybook.answer(*ACME)
    assert lines[8] == f"SHA-256 {answer['digest']}"
    assert [one["contribution"] for one in answer["events"]] == ["25", "0", "-5"]


def test_of_many_events_only_the_total_is_told(tallybook: CommandLine) -> None:
    """Nine values are too many to write out; eight are not."""
    for number in range(6):
        use_tokens(tallybook, f"more-{number}", "acme", "1", "2025-10-20T00:00:00")
    assert tallybook.lines(*ACME)[-3] == "8 of 9 count: sum = 25 - 5 + 1 + 1 + 1 + 1 + 1 + 1 = 26"
    use_tokens(tallybook, "more-6", "acme", "1", "2025-10-20T00:00:00")
    assert tallybook.lines(*ACME)[-3] == "9 of 10 count: sum = 27"


def test_a_figure_without_usage_is_nothing(tallybook: CommandLine) -> None:
    """Of no events."""
    assert tallybook.lines("explain", "tokens", "acme", "--period", "2025-08")[1] == "0 of 0 count: sum = 0"


@pytest.mark.parametrize(("formula", "said"), [("count", "count = 2"), ("last", "last = -5")])
def test_other_formulas_contribute_otherwise(tallybook: CommandLine, formula: str, said: str) -> None:
    """Under count each event adds one, under last the last one alone."""
    tallybook.run("rules", "change", "tokens", "--formula", formula, "--reason", "another", "--yes")
    lines = tallybook.lines(*ACME)
    assert lines[-3:-1] == [f"2 of 3 count: {said}", "rules revision 2, ledger position 8"]
    contributions = [Decimal(one["contribution"]) for one in tallybook.answer(*ACME)["events"]]
    assert str(sum(contributions)) == said.rpartition(" ")[2]


def test_csv_has_a_row_for_each_event_and_reproduces_figure_and_digest(tallybook: CommandLine) -> None:
    """The contributions add up to the total; the counted rows hash to the explanation's digest."""
    found = rows(tallybook.run(*ACME, "--csv").stdout)
    assert list(found[0]) == [
        "position", "identifier", "occurred_at", "recorded_at", "customer", "value", "verdict", "contribution",
        "overwritten_by", "cancelled_at", "reason", "by",
    ]  # fmt: skip
    answer = tallybook.answer(*ACME)
    assert [(row["identifier"], row["value"], row["verdict"], row["contribution"]) for row in found] == [
        ("req-1", "25", "counted", "25"), ("req-2", "3000", "cancelled", "0"), ("req-3", "-5", "counted", "-5"),
    ]  # fmt: skip
    assert found[0]["occurred_at"] == "2025-10-05T09:00:00Z"
    assert (found[1]["reason"], found[1]["by"]) == ("bytes, not tokens", "ops")
    assert found[1]["cancelled_at"] == answer["events"][1]["cancelled_at"]
    assert str(sum(Decimal(row["contribution"]) for row in found)) == answer["total"]["value"]
    assert digest(found) == answer["digest"]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_texts_that_spreadsheets_would_run_are_guarded_and_numbers_are_not(tallybook: CommandLine, start: str) -> None:
    """An apostrophe goes before identifiers, customers, reasons and who asked; a negative value stays a number."""
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
    """A text that begins with an apostrophe of its own isn't taken for one that was guarded."""
    identifiers = ("=1", "'=1", "''=1", "'")
    with Metering.open(tallybook.url, policy=ANY_AGE) as metering:
        for identifier in identifiers:
            metering.record("tokens", {"customer": "quoted", "tokens": "1"}, identifier=identifier)
        explanation = metering.explain("tokens", "quoted", FIRST, LAST)
    file = StringIO(newline="")
    explanation_csv(explanation, file)
    assert [row["identifier"] for row in rows(file.getvalue())] == ["'=1", "''=1", "'''=1", "''"]


def test_a_replaced_report_is_guarded_too(tallybook: CommandLine) -> None:
    """By the name of what counts in its place."""
    tallybook.run("meter", "configure", "seats", "--formula", "last", "--window", "day")
    for identifier in ("first", "=second"):
        words = ("stripe_customer_id=a", "value=3", "--identifier", identifier, "--timestamp", "2024-01-01")
        tallybook.run("record", "seats", *words, "--backfill")
    found = rows(tallybook.run("explain", "seats", "a", "--period", "2024", "--csv").stdout)
    assert [(row["identifier"], row["overwritten_by"]) for row in found] == [("first", "'=second"), ("'=second", "")]


def test_csv_is_utf_8_with_the_line_ends_of_its_standard(tallybook: CommandLine) -> None:
    """RFC 4180, whatever the terminal's encoding; a value that is missing is an empty cell."""
    with Metering.open(tallybook.url, policy=ANY_AGE) as metering:
        metering.configure_meter("calls", formula="count")
        metering.record("calls", {"stripe_customer_id": "é"}, identifier="call-1")
    written = tallybook.run("explain", "calls", "--csv").stdout_bytes
    assert written.count(b"\r\n") == 2
    (row,) = rows(written.decode())
    assert (row["customer"], row["value"], row["contribution"]) == ("é", "", "1")


def test_the_figure_of_a_closed_period_is_explained_as_it_was_frozen(tallybook: CommandLine) -> None:
    """With what came since left out, and the digest that the closing keeps."""
    period = tallybook.answer("period", "close", "tokens", "acme", *OCTOBER)["period"]
    use_tokens(tallybook, "late", "acme", "30", "2025-10-31T23:59:00")
    tallybook.run("rules", "change", "tokens", "--formula", "count", "--reason", "by call", "--yes")
    answer = tallybook.answer(*ACME, "--closed")
    assert (answer["total"]["value"], answer["digest"]) == (period["quantity"], period["digest"])
    assert (answer["revision"], answer["position"], answer["formula"]) == (1, period["position"], "sum")
    assert digest(rows(tallybook.run(*ACME, "--closed", "--csv").stdout)) == period["digest"]
    assert ", 2025-10 (UTC), as closed at 2" in tallybook.lines(*ACME, "--closed")[0]
    assert tallybook.answer(*ACME)["total"]["value"] == "3"


def test_what_is_not_closed_has_no_frozen_figure(tallybook: CommandLine) -> None:
    """Neither a period never closed, nor one that overlaps a closed one, nor one that was reopened."""
    assert tallybook.refusal(*ACME, "--closed") == ("period_not_closed", "start")
    tallybook.run("period", "close", "tokens", "acme", *OCTOBER)
    day = ("explain", "tokens", "acme", "--period", "2025-10-05", "--closed")
    assert tallybook.refusal(*day)[0] == "period_not_closed"
    tallybook.run("period", "reopen", "tokens", "acme", *OCTOBER, "--reason", "why")
    assert tallybook.refusal(*ACME, "--closed")[0] == "period_not_closed"


@pytest.mark.parametrize("words", [("acme", "--csv", "--json"), ("--closed",), ("acme", "--closed", "--as-of", "3")])
def test_options_that_exclude_each_other_are_wrong_usage(tallybook: CommandLine, words: tuple[str, ...]) -> None:
    """A closed period is a customer's, and has a position of its own."""
    assert "Error: " in tallybook.run("explain", "tokens", *words, *OCTOBER, status=2).stderr
