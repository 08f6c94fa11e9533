"""Output that can't be written causes no traceback, and the exit status is that of the command's work."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import pytest
from tallybook.application import AcceptancePolicy, Metering
from tallybook.application.interfaces.cli.output import check_output

from tests.preloaded.program import Program

PROGRAM = Path(sys.executable).with_name("tallybook")
MARCH = ("--period", "2024-03")
CHANGES = {
    "record": ("record", "tokens", "customer=acme", "tokens=1", "--identifier", "another"),
    "record as JSON": ("record", "tokens", "customer=acme", "tokens=1", "--json"),
    "cancel": ("cancel", "tokens", "first", "--any-age"),
    "import": ("import", "usage.csv", "--backfill", "--json"),
    "configure": ("meter", "configure", "others"),
    "close": ("period", "close", "tokens", "acme", *MARCH),
    "billing run": ("period", "run", "tokens", *MARCH),
    "create a key": ("key", "create"),
    "change rules": ("rules", "change", "tokens", "--formula", "last", "--yes", "--reason", "test"),
}
QUERIES = {
    "total": ("total", "tokens", "acme", *MARCH),
    "totals": ("totals", "tokens", *MARCH, "--json"),
    "explain as CSV": ("explain", "tokens", *MARCH, "--csv"),
    "explain as JSON": ("explain", "tokens", *MARCH, "--json"),
    "meters": ("meter", "list"),
    "verify": ("verify",),
    "help": ("total", "--help"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Metering.open(f"sqlite:///{tmp_path}/tallybook.db", policy=AcceptancePolicy(max_age=None)) as metering:
        metering.meters.configure("tokens", customer_key="customer", value_key="tokens")
        at = datetime(2024, 3, 1, tzinfo=UTC)
        metering.record("tokens", {"customer": "acme", "tokens": "1"}, identifier="first", timestamp=at)
    (tmp_path / "usage.csv").write_text(
        "identifier,timestamp,event_name,payload_customer,payload_tokens\nx,2024-03-01,tokens,acme,1\n"
    )
    return tmp_path


def head(folder: Path) -> int:
    with Metering.open(f"sqlite:///{folder}/tallybook.db") as metering:
        return metering.catch_up()


def close_stdout() -> None:
    os.close(1)


def run(folder: Path, arguments: tuple[str, ...], output: str) -> "subprocess.CompletedProcess[str]":
    """Run a command with an output that is a full device, a pipe without a reader, or closed.

    The full device is the output of a preloaded program, which starts quickly.
    """
    if output == "full":
        with (
            Path("/dev/full").open("w") as full,
            Program("tallybook", *arguments, folder=folder, stdout=full, stderr=subprocess.PIPE) as program,
        ):
            _, stderr = program.communicate()
        return subprocess.CompletedProcess(arguments, program.returncode, "", stderr)
    reader, writer = os.pipe()
    os.close(reader)
    prepare: Callable[[], None] | None = close_stdout if output == "closed" else None
    with os.fdopen(writer, "w") as pipe:
        return subprocess.run(
            [PROGRAM, *arguments],
            cwd=folder,
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            preexec_fn=prepare,
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "output"), [*product(CHANGES, ["full"]), ("record", "pipe"), ("record", "closed"), ("import", "pipe")]
)
def test_a_command_whose_output_fails_is_a_success(folder: Path, name: str, output: str) -> None:
    """The caller must not repeat a stored change, so the exit status is 0; stderr has the output error."""
    before = head(folder)
    completed = run(folder, CHANGES[name], output)
    assert (completed.returncode, "Traceback" in completed.stderr) == (0, False), completed.stderr
    assert "The command has done its work, but its output could not be written: " in completed.stderr
    assert head(folder) > before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "output"), [*product(QUERIES, ["full"]), ("total", "closed"), ("explain as CSV", "pipe"), ("help", "pipe")]
)
def test_a_query_whose_output_fails_is_an_error(folder: Path, name: str, output: str) -> None:
    """The work of a query is its output. If the reader closes the pipe, as `head` does, no message is printed."""
    completed = run(folder, QUERIES[name], output)
    expected = "" if output == "pipe" else "tallybook: output_error: The output could not be written: "
    assert (completed.returncode, completed.stderr[: len(expected)]) == (1, expected)
    assert completed.stderr.count("\n") == (output != "pipe")


@pytest.mark.slow
@pytest.mark.parametrize("output", ["full", "pipe"])
def test_an_import_that_cannot_show_how_it_reads_the_file_records_nothing(folder: Path, output: str) -> None:
    """That is shown before anything is recorded."""
    before = head(folder)
    assert run(folder, ("import", "usage.csv", "--backfill"), output).returncode == 1
    assert head(folder) == before


@pytest.mark.slow
def test_rejected_rows_are_an_error_also_without_output(folder: Path) -> None:
    """The exit status is that of the import."""
    (folder / "usage.csv").write_text((folder / "usage.csv").read_text() + "y,noon,tokens,acme,1\n")
    before = head(folder)
    completed = run(folder, CHANGES["import"], "full")
    assert (completed.returncode, "Traceback" in completed.stderr) == (1, False)
    assert head(folder) == before + 3  # the event, and the start and the end of the import


@pytest.mark.slow
def test_an_error_without_output_has_its_exit_status(folder: Path) -> None:
    """This applies if stderr can't be written either."""
    with Path("/dev/full").open("w") as full:
        for arguments, status in ((("total", "nothing"), 1), (CHANGES["record"], 0)):
            completed = subprocess.run([PROGRAM, *arguments], cwd=folder, stdout=full, stderr=full, check=False)
            assert completed.returncode == status


@pytest.mark.slow
def test_characters_outside_the_output_encoding_are_escaped(folder: Path) -> None:
    """A name that can't be encoded causes no error after the work; JSON output stays valid."""
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    for more, expected in (([], rb"\u6771 is recorded"), (["--json"], rb'"\u6771"')):
        completed = subprocess.run(
            [PROGRAM, "record", "tokens", "customer=東", "tokens=1", "--identifier", "東", *more],
            cwd=folder, env=environment, capture_output=True, check=True,
        )  # fmt: skip
        assert expected in completed.stdout.replace(b"was recorded", b"is recorded")


@pytest.mark.slow
def test_ctrl_c_ends_an_explanation_at_once(folder: Path) -> None:
    """The exit status is 130 with a short message, also if nothing reads the output."""
    with Metering.open(f"sqlite:///{folder}/tallybook.db") as metering:
        payload = {"customer": "acme", "tokens": "1"}
        metering.record_many([{"event_name": "tokens", "payload": payload} for _ in range(20_000)])
    for more in ((), ("--csv",), ("--json",)):
        process = subprocess.Popen(
            [PROGRAM, "explain", "tokens", *more], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 130
        assert process.stderr is not None
        assert b"Interrupted." in process.stderr.read()
        process.stdout.close()
        process.stderr.close()


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--csv",), ("--json",)])
def test_a_reader_of_a_long_explanation_may_stop(folder: Path, more: tuple[str, ...]) -> None:
    """As `head` does, while usage is being read. Nothing is printed, also not at the end of the interpreter."""
    with Metering.open(f"sqlite:///{folder}/tallybook.db") as metering:
        for customer in range(50):
            payload = {"customer": f"customer {customer}", "tokens": "1"}
            metering.record_many([{"event_name": "tokens", "payload": payload} for _ in range(1_000)])
    process = subprocess.Popen(
        [PROGRAM, "explain", "tokens", *more], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.read(1)
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=10) == 1


def test_the_checked_output_is_a_text_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the encoding of the stream that it replaces."""
    output = check_output()
    assert (output.fileno(), output.writable(), output.encoding) == (1, True, sys.stdout.encoding)
    monkeypatch.setattr(sys, "stdout", None)
    assert check_output().encoding == "utf-8"
