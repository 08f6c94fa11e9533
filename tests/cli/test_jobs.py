"""The command `jobs`, and the jobs of `projection run`, which another process sees and takes over."""

import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest
from tallybook.application.archive.layout import MANIFEST

from tests.preloaded.program import Program

from ..waiting import wait_until
from .command_line import CommandLine


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    """Return a command line with a ledger."""
    tallybook = CommandLine(tmp_path)
    tallybook.run("meter", "configure", "tokens")
    return tallybook


def start(tallybook: CommandLine, **environment: str) -> Program:
    """Start `projection run`."""
    return Program(
        "tallybook", "projection", "run", environment={**tallybook.environment, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def job(tallybook: CommandLine, name: str) -> dict[str, object]:
    """Return a job; an empty one if there is none yet."""
    jobs: list[dict[str, object]] = tallybook.run_json("jobs")
    named = [job for job in jobs if job["name"] == name]
    return named[0] if named else {}


def is_run_by_another(tallybook: CommandLine, name: str, runner: str) -> bool:
    """Return whether another process has run a job."""
    return job(tallybook, name)["runner"] != runner


@pytest.mark.slow
def test_jobs_are_seen_paused_and_taken_over(tallybook: CommandLine, tmp_path: Path) -> None:
    """An export runs beside the projection; after a kill another process goes on."""
    assert tallybook.lines("jobs") == ["No jobs yet. 'tallybook serve' and 'tallybook projection run' run them."]
    archive = {"TALLYBOOK_ARCHIVE__DESTINATION": str(tmp_path / "archive"), "TALLYBOOK_ARCHIVE__INTERVAL_SECONDS": "1"}
    killed = start(tallybook, **archive)
    wait_until(lambda: job(tallybook, "archive").get("succeeded_at"))
    exported = job(tallybook, "archive")
    assert (exported["interval_seconds"], exported["error"]) == (1, None)
    assert job(tallybook, "projection")["status"] == "running"
    assert job(tallybook, "projection")["runner"] == exported["runner"]
    assert (tmp_path / "archive" / MANIFEST).exists()
    killed.kill()
    killed.communicate()
    other = start(tallybook, **archive)
    for name in ("archive", "projection"):
        wait_until(partial(is_run_by_another, tallybook, name, str(exported["runner"])))
    assert tallybook.lines("jobs", "pause", "archive", "--on-behalf-of", "ann") == ["paused: archive"]
    wait_until(lambda: job(tallybook, "archive")["status"] == "paused")
    shown = tallybook.run("jobs").stdout
    assert "on behalf of ann" in " ".join(shown.split())
    assert "always" in shown
    assert tallybook.lines("jobs", "resume", "archive") == ["resumed: archive"]
    other.send_signal(signal.SIGTERM)
    output, _ = other.communicate()
    assert (other.returncode, output.splitlines()[-1]) == (0, "stopped: at position 1")
    assert tallybook.lines("jobs", "forget", "projection") == ["forgotten: projection"]
    assert tallybook.run_error("jobs", "pause", "projection") == ("job_not_found", "name")


def test_an_invalid_setting_is_a_usage_error(tallybook: CommandLine) -> None:
    """It is named, without its value."""
    tallybook.environment["TALLYBOOK_ARCHIVE__INTERVAL_SECONDS"] = "often"
    error = tallybook.run("projection", "run", status=2).stderr
    assert error.startswith("tallybook: TALLYBOOK_ARCHIVE__INTERVAL_SECONDS: ")
    assert "often" not in error
