"""The command `import`."""

import csv
import json
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from .command_line import CommandLine

STRIPE = """identifier,timestamp,event_name,payload_stripe_customer_id,payload_value
a,1704067200,tokens,acme,5
b,2024-01-02,tokens,acme,7
"""


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    line = CommandLine(tmp_path)
    line.run("meter", "configure", "tokens")
    return line


def test_a_file_in_stripes_columns_is_imported_once(tallybook: CommandLine) -> None:
    """The summary has the outcomes of the rows; importing again reports duplicates, with status 0."""
    path = tallybook.write("usage.csv", STRIPE)
    summary = tallybook.run_json("import", path, "--backfill")
    assert summary.pop("seconds") > 0
    assert summary.pop("run_id")
    assert [row["identifier"] for row in summary.pop("first_rows")] == ["a", "b"]
    assert summary.pop("dialect") == {
        "file_format": "csv", "compression": None, "encoding": "utf-8", "delimiter": ",", "header_line": 1,
        "sheet": None,
    }  # fmt: skip
    empty: dict[str, object] = {
        "duplicate": 0, "conflict": 0, "rejected": 0, "generated": 0, "generated_duplicates": 0,
        "cancelled_duplicates": 0, "first_rejected": [], "not_recorded": 0,
    }  # fmt: skip
    assert summary == {"file": str(path), "rows": 2, "accepted": 2, **empty}
    assert tallybook.run_json("import", path)["duplicate"] == 2
    assert tallybook.run_json("total", "tokens", "acme", "--period", "2024")["value"] == "12"


def test_any_csv_is_imported_by_naming_its_columns(tallybook: CommandLine) -> None:
    """Options name the columns of time, value, customer, identifier and other payload keys."""
    tallybook.run("meter", "configure", "gb", "--customer-key", "who", "--value-key", "gb", "--dimension-key", "region")
    path = tallybook.write(
        "export.txt", "id,at,account,size,zone,plan\nx1,2024-01-02 03:04:05.1234567Z,acme,1.50,eu,free\n"
    )
    tallybook.run(
        "import", path, "--format", "csv", "--event-name", "gb", "--timestamp-column", "at", "--value-column", "size",
        "--customer-column", "account", "--identifier-column", "id", "--payload-column", "zone=region",
        "--payload-column", "plan", "--backfill",
    )  # fmt: skip
    (event,) = tallybook.run_json("events", "gb", "--period", "2024")
    assert (event["identifier"], event["occurred_at"]) == ("x1", "2024-01-02T03:04:05.123456Z")
    assert event["payload"] == {"who": "acme", "gb": "1.50", "region": "eu", "plan": "free"}


def test_optional_dimensions_and_texts_are_imported(tallybook: CommandLine) -> None:
    """A file needs no column of an optional dimension; under unique_count the value may be any text or number."""
    tallybook.run(
        "meter", "configure", "users", "--formula", "unique_count", "--value-key", "user",
        "--optional-dimension-key", "team",
    )  # fmt: skip
    columns = "timestamp,event_name,payload_stripe_customer_id,payload_user"
    without = tallybook.write("without.csv", f"{columns}\n2024-01-01,users,acme,007\n2024-01-02,users,acme,7\n")
    teams = tallybook.write(
        "teams.csv", f"{columns},payload_team\n2024-01-03,users,acme,ann@example.com,red\n2024-01-04,users,acme,7,\n"
    )
    payload = {"stripe_customer_id": "acme", "user": 7}
    numbers = tallybook.write(
        "numbers.json", json.dumps([{"timestamp": "2024-01-05", "event_name": "users", "payload": payload}])
    )
    for path in (without, teams, numbers):
        assert tallybook.run_json("import", path, "--event-name", "users", "--backfill")["rejected"] == 0
    total = tallybook.run_json("total", "users", "acme", "--period", "2024", "--group-by", "team")
    assert (total["value"], total["count"]) == ("3", 5)
    assert [group["value"] for group in total["groups"]] == ["2", "1"]


def test_a_formula_of_values_needs_their_column(tallybook: CommandLine) -> None:
    """Without the column of a required value the file is rejected as a whole; `count` needs none."""
    path = tallybook.write("usage.csv", "timestamp,payload_stripe_customer_id\n2024-01-01,acme\n")
    for formula in ("max", "min", "avg", "unique_count"):
        tallybook.run("meter", "configure", formula, "--formula", formula)
        error = tallybook.run_error("import", path, "--event-name", formula, "--backfill")
        assert error == ("invalid_import_file", "payload_value")
    tallybook.run("meter", "configure", "calls", "--formula", "count")
    assert tallybook.run_json("import", path, "--event-name", "calls", "--backfill")["accepted"] == 1


def test_rejected_rows_are_listed_with_their_lines_and_status_1(tallybook: CommandLine) -> None:
    """The terminal shows the first ten rows, the error file has all of them."""
    bad = "".join(f"bad-{number},2024-01-02,tokens,acme,1e{number}\n" for number in range(12))
    path, errors = tallybook.write("usage.csv", STRIPE + bad), tallybook.folder / "errors.csv"
    lines = tallybook.run("import", path, "--backfill", "--errors", errors, status=1).stdout.splitlines()
    assert [line.split() for line in lines[2:6]] == [
        ["accepted", "2"], ["duplicate", "0"], ["conflict", "0"], ["rejected", "12"],
    ]  # fmt: skip
    assert lines[6].startswith("import ")
    assert lines[7].startswith("line 4: rejected, payload_invalid_value: ")
    assert lines[17] == "and 2 more; --errors FILE writes all of them to a file, to correct and import again."
    assert len(lines) == 18
    with errors.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["rejected_line", "rejected_reason", *STRIPE.splitlines()[0].split(",")]
    assert [(row["rejected_line"], row["identifier"]) for row in rows] == [(str(4 + n), f"bad-{n}") for n in range(12)]
    assert all(row["rejected_reason"].startswith("rejected, payload_invalid_value: ") for row in rows)


def test_an_unwritable_error_file_does_not_end_the_import(tallybook: CommandLine) -> None:
    """The valid rows are recorded, and the summary is printed; stderr says that the file is incomplete."""
    path = tallybook.write("usage.csv", STRIPE + "c,noon,tokens,acme,1\n" * 10_000)
    result = tallybook.run("import", path, "--backfill", "--errors", "/dev/full", status=1)
    assert result.stdout.splitlines()[2].split() == ["accepted", "2"]
    assert "The error file /dev/full is incomplete: No space left on device." in result.stderr


def test_digits_are_limited_unless_the_limit_is_lifted(tallybook: CommandLine) -> None:
    """FOCUS writes quantities as 2.000000000000000; the error names the option that lifts the limit."""
    path = tallybook.write("usage.csv", STRIPE.replace("acme,5", "acme,2.000000000000000"))
    lines = tallybook.run("import", path, "--backfill", status=1).stdout.splitlines()
    assert lines[-1].endswith("16 significant digits; at most 15 are accepted. Use --any-digits to record it.")
    assert tallybook.run_json("import", path, "--backfill", "--any-digits")["accepted"] == 1
    assert tallybook.run_json("total", "tokens", "acme", "--period", "2024")["value"] == "9.000000000000000"


@pytest.mark.parametrize(
    ("cell", "timestamp_format", "occurred_at"),
    [
        ("20240102", "compact-date", "2024-01-02T00:00:00Z"),
        ("45293.5", "spreadsheet-days", "2024-01-02T12:00:00Z"),
        ("1704153600500", "unix-milliseconds", "2024-01-02T00:00:00.500000Z"),
        ("86400", "unix-seconds", "1970-01-02T00:00:00Z"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_numbers_that_may_be_no_unix_time_need_their_format(
    tallybook: CommandLine, suffix: str, cell: str, timestamp_format: str, occurred_at: str
) -> None:
    """The error names the option, in CSV and in JSON; nothing is recorded in 1970."""
    row = {"timestamp": float(cell), "event_name": "tokens", "payload": {"stripe_customer_id": "a", "value": 1}}
    content = STRIPE.splitlines()[0] + f"\na,{cell},tokens,a,1\n" if suffix == "csv" else json.dumps(row)
    path = tallybook.write(f"usage.{suffix}", content)
    error = tallybook.run("import", path, "--backfill", status=1).stderr
    assert f"read it with --timestamp-format {timestamp_format}." in error
    options = ("--timestamp-format", timestamp_format, "--timezone", "UTC")
    tallybook.run("import", path, "--backfill", *options)
    (event,) = tallybook.run_json("events", "tokens", "--from", "1900-01-01", "--to", "2100-01-01")
    assert event["occurred_at"] == occurred_at


def test_rejected_rows_are_data_in_json(tallybook: CommandLine) -> None:
    """The fields have the same names as in Python."""
    path = tallybook.write("usage.csv", STRIPE)
    summary = tallybook.run_json("import", path, status=1)
    assert [(row["line"], row["outcome"], row["error"]["code"]) for row in summary["first_rejected"]] == [
        (2, "rejected", "timestamp_too_far_in_past"),
        (3, "rejected", "timestamp_too_far_in_past"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "arguments"),
    [
        ("usage.csv", b"\x00\x01", ()),
        ("usage.txt", STRIPE, ()),
        ("usage.json", STRIPE, ()),
        ("usage.csv", STRIPE, ("--value-column", "size")),
        ("usage.csv", STRIPE, ("--event-name", "tokens", "--customer-column", "account")),
    ],
)
def test_a_file_of_another_format_is_rejected(
    tallybook: CommandLine, name: str, content: str | bytes, arguments: tuple[str, ...]
) -> None:
    """Nothing is recorded."""
    path = tallybook.write(name, content)
    assert tallybook.run_error("import", path, "--backfill", *arguments)[0] == "invalid_import_file"
    assert tallybook.run_json("events", "tokens", "--period", "2024") == []


def test_an_unknown_format_is_rejected(tallybook: CommandLine) -> None:
    """The formats of files and of timestamps are validated."""
    path = tallybook.write("usage.csv", STRIPE)
    assert tallybook.run_error("import", path, "--format", "xml") == ("parameter_invalid", "format")
    unknown = tallybook.run_error("import", path, "--timestamp-format", "days")
    assert unknown == ("parameter_invalid", "timestamp_format")


@pytest.mark.parametrize(
    "arguments",
    [("--customer", "a", "--customer-column", "b"), ("--errors", "usage.csv"), ("--errors", "no/such/folder")],
)
def test_invalid_options_are_a_usage_error(
    tallybook: CommandLine, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two options for the customer, and an error file that would overwrite the import or can't be written."""
    monkeypatch.chdir(tallybook.folder)
    path = tallybook.write("usage.csv", STRIPE)
    tallybook.run("import", path, *arguments, status=2)
    assert path.read_text() == STRIPE


def test_an_interrupted_import_prints_its_progress_and_resumes(tallybook: CommandLine) -> None:
    """Ctrl-C ends the import with status 130; the second run records the remaining rows."""
    rows = 40_000
    content = STRIPE.splitlines()[0] + "\n" + ",2024-01-02,tokens,acme,1\n" * rows
    path = tallybook.write("usage.csv", content)
    arguments = ("import", str(path), "--backfill", "--json", "--ledger", tallybook.url)
    process = subprocess.Popen(
        [Path(sys.executable).with_name("tallybook"), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with closing(sqlite3.connect(tallybook.ledger_file)) as ledger:
        while ledger.execute("SELECT count(*) FROM stored_events").fetchone()[0] < 2_000:
            assert process.poll() is None
            time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (130, b"")
    error = json.loads(stderr)["error"]
    assert error["code"] == "interrupted"
    assert "Run the command again to continue" in error["message"]
    resumed = tallybook.run_json("import", path, "--backfill")
    assert 1_000 < resumed["duplicate"] < rows
    assert resumed["accepted"] + resumed["duplicate"] == rows
    assert tallybook.run_json("total", "tokens", "acme", "--period", "2024")["value"] == str(rows)
