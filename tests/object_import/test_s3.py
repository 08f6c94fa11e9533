"""The command `import` with a bucket of a server that speaks the protocol of S3."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from subprocess import PIPE
from unittest.mock import ANY

import obstore
import pytest
from obstore.store import from_url

from ..cli.command_line import CommandLine
from ..object_server import new_bucket, object_server, seaweedfs_server
from ..preloaded.program import Program
from ..waiting import wait_until
from .usage_objects import csv_of, parquet_of


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Start a server that speaks the protocol of S3, and return its URL."""
    with object_server() as url:
        yield url


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of a new bucket, which the environment gives access to."""
    return f"{endpoint}/{new_bucket(endpoint, monkeypatch)}"


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    """A ledger with a meter."""
    line = CommandLine(tmp_path)
    line.run("meter", "configure", "tokens", "--customer-key", "customer", "--value-key", "tokens")
    return line


def upload(bucket: str, key: str, content: bytes) -> None:
    """Store an object, or replace it."""
    obstore.put(from_url(f"s3://{bucket.rpartition('/')[2]}"), key, content)


def url_of(bucket: str) -> str:
    """Return the URL that the command takes."""
    return f"s3://{bucket.rpartition('/')[2]}/usage"


def recent_rows(*identifiers: str, value: object = 1) -> list[tuple[object, ...]]:
    """Return rows of the present."""
    now = datetime.now(UTC).isoformat()
    return [(identifier, now, "tokens", "acme", value) for identifier in identifiers]


@pytest.mark.parametrize("server", [object_server, seaweedfs_server])
def test_the_objects_of_a_bucket(
    tallybook: CommandLine, monkeypatch: pytest.MonkeyPatch, server: Callable[[], AbstractContextManager[str]]
) -> None:
    """What was read and what was not recorded is printed, and the exit status says whether all is recorded."""
    with server() as endpoint:
        import_objects(tallybook, f"{endpoint}/{new_bucket(endpoint, monkeypatch)}")


def import_objects(tallybook: CommandLine, bucket: str) -> None:
    """Import the objects of a bucket, of which two have a problem, and then a changed one."""
    url = url_of(bucket)
    upload(bucket, "usage/a.csv", csv_of([*recent_rows("r1"), *recent_rows("r2", value="x")]))
    upload(bucket, "usage/2026/b.parquet", parquet_of(recent_rows("r3")))
    upload(bucket, "usage/c.txt", b"hello")
    upload(bucket, "other/d.csv", csv_of(recent_rows("r4")))
    lines = tallybook.run("import", url, status=1).stdout.splitlines()
    assert [line.partition(": ") for line in lines] == [
        (f"{url}/2026/b.parquet", ": ", "imported, 1 row: 1 accepted"),
        (f"{url}/a.csv", ": ", "imported, 2 rows: 1 accepted, 1 rejected"),
        ("  line 3", ": ", ANY),
        (f"{url}/c.txt", ": ", "failed, 0 rows: none recorded"),
        ("  invalid_import_file", ": ", ANY),
        ("3 objects read, 0 read before, 0 ignored", "", ""),
        (ANY, "", ""),
    ]
    assert "rejected, payload_invalid_value: The value of 'tokens' must be" in lines[2]
    assert "c.txt: its suffix is not that of a known format" in lines[4]
    assert "--retry" in lines[6]
    upload(bucket, "usage/a.csv", csv_of(recent_rows("r2")))
    assert tallybook.lines("import", url)[0] == (
        f"{url}/a.csv: imported, 1 row: 1 accepted, changed since it was read before"
    )
    result = tallybook.run_json("import", url)
    assert (result["reports"], result["imported_before"], result["is_complete"]) == ([], 3, True)
    reports = tallybook.run_json("import", url, "--list")
    assert [(report["url"].rpartition("/")[2], report["accepted"]) for report in reports] == [
        ("b.parquet", 1), ("a.csv", 1), ("c.txt", 0), ("a.csv", 1),
    ]  # fmt: skip
    assert "b.parquet" in tallybook.run("import", url, "--list").stdout


def test_new_objects_are_imported_until_the_command_is_stopped(tallybook: CommandLine, bucket: str) -> None:
    """With --every, also after the store was unavailable; SIGTERM ends it with status 0."""
    arguments = ("import", url_of(bucket), "--every", "1s", "--json", "--ledger", tallybook.url)
    errors = tallybook.folder / "errors"
    with errors.open("w") as stderr:
        process = Program("tallybook", *arguments, environment=dict(os.environ), stdout=PIPE, stderr=stderr)
    try:
        wait_until(lambda: "There are no objects" in errors.read_text())
        upload(bucket, "usage/a.csv", csv_of(recent_rows("r1", "r2")))
        wait_until(lambda: tallybook.run_json("import", "--list"))
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    (report,) = json.loads(output)["reports"]
    assert (report["accepted"], report["status"]) == (2, "imported")


def test_errors_of_the_store(tallybook: CommandLine, bucket: str) -> None:
    """They name the URL, and nothing is stored."""
    assert tallybook.run_error("import", "s3://no-such-bucket/usage") == ("usage_source_unavailable", "url")
    assert tallybook.run_error("import", "ftp://a/b") == ("invalid_usage_source", "url")
    for wrong in (["--every", "0m"], ["--every", "15"], ["--dry-run"], ["--errors", "x.csv"]):
        tallybook.run("import", url_of(bucket), *wrong, status=2)
    tallybook.run("import", "usage.csv", "--retry", status=2)
