"""The `archive` commands."""

import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tallybook.application import PruningResult
from tallybook.application.interfaces.cli.archive_pruning import show_pruning

from ..waiting import wait_until
from .checkpoint_ledger import CHECKPOINTS, ledger_with_checkpoint
from .command_line import CommandLine


@pytest.fixture
def tallybook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """Return a ledger of three events with a checkpoint; the commands run in the test's folder."""
    monkeypatch.chdir(tmp_path)
    return ledger_with_checkpoint(tmp_path)


def test_a_ledger_is_exported_and_verified(tallybook: CommandLine) -> None:
    """The root that is printed is that of the checkpoint."""
    exported, root = tallybook.lines("archive", "export", "archive")
    assert exported.startswith("exported: 3 events in 1 segment of ")
    assert exported.endswith(" bytes; archive ends at position 3")
    assert root.removeprefix("root ") in Path("usage.checkpoints").read_text()
    assert tallybook.lines("archive", "export", "archive") == ["nothing to export: archive ends at position 3"]
    assert tallybook.lines("archive", "verify", "archive", *CHECKPOINTS, "--against-ledger") == [
        "3 events in 1 segment up to position 3",
        "1 of 1 checkpoints match; those that end in the archive cover 3 events",
        "compared with the ledger",
        "all equal",
    ]


def test_results_as_json(tallybook: CommandLine) -> None:
    """With the names of the Python API."""
    result = tallybook.run_json("archive", "export", "archive")
    assert (result["destination"], result["segments"], result["rows"], result["last_position"]) == ("archive", 1, 3, 3)
    verification = tallybook.run_json("archive", "verify", "archive")
    assert (verification["rows"], verification["root"], verification["differences"]) == (3, result["root"], [])


def test_a_changed_archive_is_reported(tallybook: CommandLine) -> None:
    """The exit status is 1, and each line names a file and positions."""
    tallybook.run("archive", "export", "archive")
    (segment,) = Path("archive/events").iterdir()
    data = bytearray(segment.read_bytes())
    data[300] ^= 1
    segment.write_bytes(data)
    output = tallybook.run("archive", "verify", "archive", status=1).stdout
    assert f"differs: events/{segment.name}, positions 1 to 3: " in output
    (difference, *_) = tallybook.run_json("archive", "verify", "archive", status=1)["differences"]
    assert (difference["file"], difference["first_position"], difference["last_position"]) == (
        f"events/{segment.name}", 1, 3,
    )  # fmt: skip


def test_errors(tallybook: CommandLine) -> None:
    """Each has a code and the name of the argument."""
    assert tallybook.run_error("archive", "verify", "archive") == ("invalid_archive", "destination")
    tallybook.run("archive", "export", "archive")
    Path("archive/manifest.jsonl").write_text("{}\n")
    assert tallybook.run_error("archive", "export", "archive") == ("archive_mismatch", "destination")
    tallybook.run("archive", "export", "archive", "--every", "0s", status=2)
    tallybook.run("archive", "export", "archive", "--every", "hourly", status=2)
    tallybook.run("archive", "verify", "archive", "--key", "x", status=2)


def test_export_at_intervals_until_it_is_stopped(tallybook: CommandLine, tmp_path: Path) -> None:
    """A line is printed for each export. Signals end it with exit status 0."""
    command = [sys.executable, "-m", "tallybook", "archive", "export", "archive", "--ledger", tallybook.url]
    output = tmp_path / "output"
    with output.open("wb") as file, subprocess.Popen([*command, "--every", "1s"], stdout=file) as process:
        try:
            wait_until(lambda: "exported: 3 events" in output.read_text())
            tallybook.run("record", "tokens", "customer=acme", "tokens=4")
            wait_until(lambda: "exported: 1 event " in output.read_text())
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()
    assert output.read_text().endswith("\nstopped\n")
    assert output.read_text().count("exported") == 2


@pytest.mark.parametrize(
    ("events", "position", "line"),
    [
        (2, 1001, "would be pruned: 2 events up to position 1,001, 300 bytes; they are in file:///old"),
        (0, 1001, "nothing to prune: usage up to position 1,001 is pruned already; it is in file:///old"),
        (0, 0, "nothing to prune: no archived usage in a checkpoint was recorded until 2025-10-01 00:00:00Z"),
    ],
)
def test_a_dry_run_says_if_nothing_is_left_to_prune(
    events: int, position: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is pruned already, or nothing is old enough."""
    show_pruning(
        PruningResult(
            archive="file:///old",
            position=position,
            archived_position=1002,
            checkpoint_size=1002,
            recorded_until=datetime(2025, 10, 1, tzinfo=UTC),
            events=events,
            state_bytes=150 * events,
            size_before=0,
            size_after=0,
            is_dry_run=True,
        )
    )
    assert capsys.readouterr().out.splitlines()[1:] == [line]
