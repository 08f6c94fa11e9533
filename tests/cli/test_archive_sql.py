"""`archive sql` and `explain --sql`: SQL that has the ledger's own totals when it is run on the ledger."""

import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from .command_line import CommandLine
from .october_ledger import OCTOBER, october_ledger


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    """Return a ledger with meter events of October."""
    return october_ledger(tmp_path)


def run_sql(tallybook: CommandLine, document: dict[str, Any]) -> list[tuple[object, ...]]:
    """Return the rows of a document, which is run on the file of the ledger."""
    with closing(sqlite3.connect(tallybook.ledger_file)) as connection:
        connection.executescript(document["view"])
        return connection.execute(document["statement"]).fetchall()


def test_the_totals_of_each_customer(tallybook: CommandLine) -> None:
    document = tallybook.run_json("archive", "sql", "tokens", *OCTOBER, "--dialect", "sqlite")
    totals = tallybook.run_json("totals", "tokens", *OCTOBER)
    expected = [
        (total["customer"], *(total[name] for name in ("value", "billable", "sum", "count", "last", "min", "max")))
        for total in totals
    ]
    assert run_sql(tallybook, document) == expected
    assert len(expected) > 1


def test_one_customer_as_of_a_position(tallybook: CommandLine) -> None:
    arguments = ("tokens", *OCTOBER, "--as-of", "3")
    document = tallybook.run_json("archive", "sql", *arguments, "--customer", "acme", "--dialect", "sqlite")
    total = tallybook.run_json("total", "tokens", "acme", *OCTOBER, "--as-of", "3")
    assert document["position"] == 3
    assert run_sql(tallybook, document)[0][0] == total["value"]


def test_an_explanation_is_in_the_dialect_of_the_ledger(tallybook: CommandLine) -> None:
    text = tallybook.run("explain", "tokens", "acme", *OCTOBER, "--sql").stdout
    assert text.startswith('-- The total of the customer "acme" on the meter "tokens", for sqlite.\n')
    document = tallybook.run_json("explain", "tokens", "acme", *OCTOBER, "--sql")
    assert document["text"] == text
    explained = tallybook.run_json("explain", "tokens", "acme", *OCTOBER)
    assert run_sql(tallybook, document)[0][0] == explained["total"]["value"]


def test_the_frozen_total_of_a_closed_period(tallybook: CommandLine) -> None:
    tallybook.run("period", "close", "tokens", "acme", *OCTOBER)
    tallybook.run("rules", "change", "tokens", "--formula", "count", "--reason", "a test", "--yes")
    closed = ("explain", "tokens", "acme", *OCTOBER, "--closed")
    frozen = tallybook.run_json(*closed)["total"]
    assert frozen["value"] != tallybook.run_json("total", "tokens", "acme", *OCTOBER)["value"]
    row = run_sql(tallybook, tallybook.run_json(*closed, "--sql"))[0]
    assert list(row) == [frozen[name] for name in ("value", "billable", "sum", "count", "last", "min", "max")]


def test_the_lines_of_the_digest(tallybook: CommandLine) -> None:
    arguments = ("explain", "tokens", "acme", *OCTOBER)
    rows = run_sql(tallybook, tallybook.run_json(*arguments, "--sql", "--lines"))
    text = "".join(f"{line}\n" for (line,) in rows)
    assert hashlib.sha256(text.encode()).hexdigest() == tallybook.run_json(*arguments)["digest"]


@pytest.mark.parametrize("dialect", ["duckdb", "spark", "postgres", "sqlite", "clickhouse"])
def test_a_script_has_the_view_and_the_statement(tallybook: CommandLine, dialect: str) -> None:
    arguments = ("archive", "sql", "tokens", *OCTOBER, "--dialect", dialect)
    document, text = tallybook.run_json(*arguments), tallybook.run(*arguments).stdout
    assert text == document["text"]
    assert text.endswith(f"{document['view']}\n{document['statement']}")
    assert document["dialect"] == dialect


def test_comments_stay_on_their_lines(tallybook: CommandLine) -> None:
    """A name with a line break can't end a comment, and so can't add SQL to a script."""
    filter_text = json.dumps({"key": "a\n; DROP TABLE x", "exists": True})
    tallybook.run("meter", "configure", "a\n; DROP TABLE x", "--customer-key", "customer", "--filter", filter_text)
    document = tallybook.run_json("archive", "sql", "a\n; DROP TABLE x", *OCTOBER, "--dialect", "sqlite")
    comments = document["text"].partition("\n\n")[0]
    assert all(line.startswith("-- ") for line in comments.splitlines())
    assert run_sql(tallybook, document) == []


def test_errors(tallybook: CommandLine) -> None:
    assert tallybook.run_error("archive", "sql", "tokens", "--dialect", "oracle") == ("parameter_invalid", "dialect")
    assert tallybook.run_error("archive", "sql", "bytes")[0] == "no_meter"
    assert tallybook.run_error("archive", "sql", "tokens", "--group-by", "region") == ("parameter_invalid", "group_by")
    tallybook.run("explain", "tokens", "--dialect", "duckdb", status=2)
    tallybook.run("explain", "tokens", "--lines", status=2)
    tallybook.run("explain", "tokens", "--sql", "--csv", status=2)
    tallybook.run("explain", "tokens", "--sql", "--lines", "--group-by", "model", status=2)


def test_the_totals_of_an_archive(tallybook: CommandLine) -> None:
    """They are those of the ledger, as JSON and as text; without an archive, the error says so."""
    archive = tallybook.folder / "archive"
    tallybook.run("archive", "export", archive)
    assert tallybook.run_json("archive", "totals", "tokens", archive, *OCTOBER) == tallybook.run_json(
        "totals", "tokens", *OCTOBER
    )
    assert tallybook.lines("archive", "totals", "tokens", archive, *OCTOBER) == tallybook.lines(
        "totals", "tokens", *OCTOBER
    )
    assert tallybook.run_error("archive", "totals", "tokens", tallybook.folder / "other")[0] == "invalid_archive"
