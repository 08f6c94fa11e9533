"""The commands `cancel --revoke`, `cancel-many`, `cancellation …` and `import --undo`."""

from pathlib import Path

import pytest
from tallybook.application.system_user import system_user

from .command_line import CommandLine

HEADER = "identifier,timestamp,event_name,payload_stripe_customer_id,payload_value\n"
WRONG = HEADER + "".join(f"r-{number},2026-11-{number:02d},tokens,acme,{number}\n" for number in range(1, 11))
RIGHT = HEADER + "".join(f"r-{number},2026-11-{number:02d},tokens,acme,1\n" for number in range(1, 11))


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    line = CommandLine(tmp_path)
    line.run("meter", "configure", "tokens")
    return line


def total(tallybook: CommandLine) -> str:
    """Return the total of the month."""
    return tallybook.run_json("total", "tokens", "acme", "--period", "2026-11")["value"]


def test_a_cancellation_is_revoked(tallybook: CommandLine) -> None:
    """With a reason; the list of events shows it."""
    tallybook.run("import", tallybook.write("usage.csv", WRONG), "--backfill")
    tallybook.run("cancel", "tokens", "r-10", "--reason", "test")
    assert total(tallybook) == "45"
    assert "A revocation needs a reason" in tallybook.run("cancel", "tokens", "r-10", "--revoke", status=2).stderr
    (line,) = tallybook.lines("cancel", "tokens", "r-10", "--revoke", "--reason", "mistake", "--on-behalf-of", "ops")
    assert line.startswith("counted again: r-10 at ")
    assert line.endswith(f" by {system_user()} on behalf of ops: mistake")
    assert total(tallybook) == "55"
    assert "counted; cancellation revoked " in tallybook.run("events", "tokens", "--period", "2026-11-10").stdout


def test_a_wrong_import_is_undone_and_the_corrected_file_imported(tallybook: CommandLine) -> None:
    """Two commands, each with a preview; undoing the undo brings the first total back."""
    wrong, right = tallybook.write("wrong.csv", WRONG), tallybook.write("right.csv", RIGHT)
    run_id = tallybook.run_json("import", wrong, "--backfill", "--on-behalf-of", "ops")["run_id"]
    assert total(tallybook) == "55"
    (listed,) = tallybook.run_json("import", "--list")
    assert (listed["run_id"], listed["file"], listed["recorded"], listed["by"]) == (
        run_id, "wrong.csv", 10, system_user(),
    )  # fmt: skip

    preview = tallybook.run_json("import", "--undo", run_id)
    assert preview["cancellations"] == []
    assert [(row["customer"], row["new_quantity"]) for row in preview["previews"][0]["rows"]] == [("acme", "0")]
    assert total(tallybook) == "55"
    undone = tallybook.run_json("import", "--undo", run_id, "--yes", "--reason", "a wrong file")
    (cancellation,) = undone["cancellations"]
    assert (cancellation["status"], cancellation["cancelled"], total(tallybook)) == ("cancelled", 10, "0")

    checked = tallybook.run_json("import", right, "--backfill", "--dry-run", status=1)
    assert (checked["summary"]["conflict"], checked["usage"]) == (9, {})
    checked = tallybook.run_json("import", right, "--backfill", "--dry-run", "--identifier-prefix", "v2-")
    assert (checked["summary"]["accepted"], checked["usage"]["tokens"][0]["difference"]) == (10, "-10")
    assert total(tallybook) == "0"
    tallybook.run("import", right, "--backfill", "--identifier-prefix", "v2-")
    assert total(tallybook) == "10"

    tallybook.run("cancellation", "revoke", cancellation["cancellation_id"], "--reason", "both are right")
    assert total(tallybook) == "65"
    assert tallybook.run_json("verify")["is_equal"]


def test_many_events_are_cancelled(tallybook: CommandLine) -> None:
    """Without --yes, only the preview is shown. The decision is listed, resumed and revoked by its id."""
    tallybook.run("import", tallybook.write("usage.csv", WRONG), "--backfill")
    selection = ("cancel-many", "tokens", "--from", "2026-11-03", "--to", "2026-11-05")
    lines = tallybook.lines(*selection)
    assert lines[0] == "tokens: 2 events to cancel, as of position 13"
    assert lines[3].split() == ["acme", "2026-11", "2", "55", "48", "-7"]
    assert lines[-1] == "Nothing is changed. The same command with --yes and --reason cancels them."
    tallybook.run(*selection, "--yes", status=2)
    assert tallybook.run_error(*selection, "--yes", "--reason", "x", "--digest", "0") == ("preview_changed", "digest")
    tallybook.run(*selection, "--yes", "--reason", "x", "--digest", lines[-2].split()[-1])
    assert total(tallybook) == "48"
    (bulk,) = tallybook.run_json("cancellation", "list")
    assert (bulk["event_name"], bulk["selection"]["start"]) == ("tokens", "2026-11-03T00:00:00Z")
    assert "2 of 2 events" in tallybook.run("cancellation", "list").stdout
    assert tallybook.run_json("cancellation", "resume", bulk["cancellation_id"]) == bulk
    assert tallybook.run_error("cancel-many", "tokens") == ("parameter_invalid", "customer")
    assert tallybook.run_error("cancellation", "resume", "none") == ("cancellation_not_found", "cancellation_id")
    assert tallybook.run_error("import", "--undo", "none") == ("import_run_not_found", "import_run")
    assert tallybook.run_error(*selection, "--yes", "--reason", "x")[0] == "invalid_cancel_configuration"


def test_a_dry_run_shows_what_would_be_recorded(tallybook: CommandLine) -> None:
    """Rows that are recorded already, in conflict, repeated in the file or invalid; the ledger stays as it is."""
    tallybook.run("import", tallybook.write("usage.csv", WRONG), "--backfill")
    rows = ["r-1,2026-11-01,tokens,acme,1", "r-2,2026-11-02,tokens,acme,3", "new,2026-11-02,tokens,beta,3"]
    rows += ["new,2026-11-02,tokens,beta,3", "new,2026-11-02,tokens,beta,4", "bad,2026-11-02,tokens,beta,x"]
    path = tallybook.write("more.csv", HEADER + "\n".join(rows) + "\n")
    before = tallybook.run_json("events", "tokens", "--period", "2026-11")
    result = tallybook.run_json("import", path, "--backfill", "--dry-run", status=1)
    summary = result["summary"]
    assert [summary[key] for key in ("accepted", "duplicate", "conflict", "rejected")] == [1, 2, 2, 1]
    assert [(row["customer"], row["count"], row["difference"]) for row in result["usage"]["tokens"]] == [
        ("beta", 1, "-3")
    ]
    output = tallybook.run("import", path, "--backfill", "--dry-run", status=1).stdout.splitlines()
    assert output[1] == f"{path}: 6 rows, of which nothing was recorded"
    assert output[-1].split() == ["tokens", "beta", "2026-11", "1", "3"]
    assert tallybook.run_json("events", "tokens", "--period", "2026-11") == before
    summary = tallybook.run_json("import", path, "--backfill", status=1)
    assert [summary[key] for key in ("accepted", "duplicate", "conflict", "rejected")] == [1, 2, 2, 1]


def test_one_thing_at_a_time(tallybook: CommandLine) -> None:
    """A file, --list or --undo."""
    path = tallybook.write("usage.csv", WRONG)
    for arguments in ((), (path, "--list"), ("--list", "--undo", "x"), ("--undo", "x", "--yes")):
        tallybook.run("import", *arguments, status=2)
    assert tallybook.lines("import", "--list") == ["No imports."]
    assert tallybook.lines("cancellation", "list") == ["No bulk cancellations."]
