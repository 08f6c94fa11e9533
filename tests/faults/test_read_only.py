"""Read-only files and folders: reads succeed, and the error of every other operation says what to do."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tallybook.application import Metering, TallybookError
from tallybook.application.storage.sqlite.event_recorder import open_ledger_datastore

from .forked import run_in_child
from .operations import NOW, PERIOD, meter_event, set_up_ledger

UNPRIVILEGED_USER_ID = 65_534

OPERATIONS: dict[str, Callable[[Metering], Any]] = {
    "total": lambda metering: str(metering.total("tokens", "acme", *PERIOD).value),
    "explain": lambda metering: len(metering.explain("tokens", "acme", *PERIOD).events),
    "verify": lambda metering: metering.verify().is_equal,
    "record": lambda metering: str(metering.record_many([meter_event(50, customer="beta")])[0].outcome),
    "total again": lambda metering: str(metering.total("tokens", "acme", *PERIOD).value),
    "rebuild": lambda metering: str(metering.generations.rebuild().state),
}
ALL_RESULTS: dict[str, Any] = {
    "total": "131.0", "explain": 12, "verify": True, "record": "accepted", "total again": "131.0", "rebuild": "ready",
}  # fmt: skip
READ_ONLY_ERROR = "ledger_unavailable: read-only"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a ledger whose read models are up to date; every user may write to it."""
    folder = tmp_path / "ledger"
    folder.mkdir()
    with Metering.open(ledger_url(folder), clock=lambda: NOW) as metering:
        set_up_ledger(metering)
        metering.catch_up()
    for parent in [folder, *folder.parents]:
        if parent.owner() == Path(tmp_path).owner() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o777)
    for file in folder.iterdir():
        file.chmod(0o666)
    return folder


@pytest.mark.parametrize(
    ("read_only", "rejected"),
    [
        ([], []),
        (["usage.db"], ["record"]),
        (["usage.db.read-models"], ["total again", "rebuild"]),
        (["usage.db", "usage.db.read-models"], ["record", "rebuild"]),
    ],
)
def test_a_read_only_ledger_serves_reads_and_rejects_the_rest(
    folder: Path, read_only: list[str], rejected: list[str]
) -> None:
    """Read-only read models serve queries until the next event is recorded; a read-only ledger always does."""
    for name in read_only:
        (folder / name).chmod(0o444)
    assert run_unprivileged(lambda: results_of(folder)) == ALL_RESULTS | dict.fromkeys(rejected, READ_ONLY_ERROR)
    for file in folder.iterdir():  # SQLite gave its write-ahead logs the same permissions
        file.chmod(0o666)
    assert run_unprivileged(lambda: results_of(folder)) == ALL_RESULTS | (
        {} if "record" in rejected else {"record": "duplicate"}
    )


@pytest.mark.parametrize("mode", [0o444, 0o666])
def test_a_copy_in_a_read_only_folder_serves_reads(folder: Path, mode: int) -> None:
    """It is read as it is, with read models in a temporary folder, which also holds those of `rebuild`."""
    (folder / "usage.db").chmod(mode)
    folder.chmod(0o555)
    names = sorted(folder.iterdir())
    rejected = {"record": READ_ONLY_ERROR}
    assert run_unprivileged(lambda: results_of(folder)) == ALL_RESULTS | rejected
    assert sorted(folder.iterdir()) == names
    folder.chmod(0o777)
    (folder / "usage.db").chmod(0o666)
    assert run_unprivileged(lambda: results_of(folder)) == ALL_RESULTS


def test_a_read_only_copy_that_changes_is_not_read_further(folder: Path) -> None:
    """SQLite would not notice the change, and could mix pages of two states."""
    folder.chmod(0o555)
    later = (folder / "usage.db").stat().st_mtime_ns + 1

    def query_after_change() -> list[str]:
        with Metering.open(ledger_url(folder), clock=lambda: NOW) as metering:
            before = result_or_error(lambda: OPERATIONS["total"](metering))
            os.utime(folder / "usage.db", ns=(later, later))
            return [before, result_or_error(lambda: OPERATIONS["total"](metering))]

    os.chown(folder / "usage.db", UNPRIVILEGED_USER_ID if os.getuid() == 0 else -1, -1)
    assert run_unprivileged(query_after_change) == [ALL_RESULTS["total"], "ledger_unavailable: was replaced"]


def test_a_read_only_copy_that_is_recorded_to_is_not_read_further(folder: Path) -> None:
    """What another program records is in its write-ahead log. Opened again, the ledger is read with that."""
    folder.chmod(0o555)
    (was_opened, opened), (was_recorded, recorded) = os.pipe(), os.pipe()

    def record_once_opened() -> Metering:
        os.read(was_opened, 1)
        folder.chmod(0o777)
        metering = Metering.open(ledger_url(folder), clock=lambda: NOW)
        metering.record_many([meter_event(50)])
        os.write(recorded, b"1")
        return metering

    def query_before_and_after() -> list[str]:
        with Metering.open(ledger_url(folder), clock=lambda: NOW) as metering:
            before = result_or_error(lambda: OPERATIONS["total"](metering))
            os.write(opened, b"1")
            os.read(was_recorded, 1)
            after = result_or_error(lambda: OPERATIONS["total"](metering))
        with Metering.open(ledger_url(folder), clock=lambda: NOW) as metering:
            return [before, after, result_or_error(lambda: OPERATIONS["total"](metering))]

    with ThreadPoolExecutor(1) as thread:
        recording = thread.submit(record_once_opened)
        results = run_unprivileged(query_before_and_after)
        with recording.result() as metering:
            assert results == [
                ALL_RESULTS["total"], "ledger_unavailable: opened it since", OPERATIONS["total"](metering)
            ]  # fmt: skip


def test_a_read_only_copy_that_changes_during_a_query_has_no_result(folder: Path) -> None:
    """The query could have read pages of two states."""
    folder.chmod(0o555)
    os.chown(folder / "usage.db", UNPRIVILEGED_USER_ID if os.getuid() == 0 else -1, -1)

    def change_during_transaction() -> None:
        with open_ledger_datastore(str(folder / "usage.db")).transaction(commit=False):
            os.utime(folder / "usage.db", ns=(0, 0))

    error = run_unprivileged(lambda: result_or_error(change_during_transaction))
    assert error == "ledger_unavailable: was replaced"


def test_a_write_ahead_log_in_a_read_only_folder_is_not_ignored(folder: Path) -> None:
    """The log that a killed process left may hold events, and SQLite can't read it without writing."""
    (folder / "usage.db-wal").write_bytes(b"events")
    folder.chmod(0o555)
    error = run_unprivileged(lambda: result_or_error(lambda: Metering.open(ledger_url(folder))))
    assert error == "ledger_unavailable: read-only, tallybook backup"


def test_a_folder_made_read_only_rejects_only_operations_that_create_files(folder: Path) -> None:
    """An open ledger continues to work, but `verify` and `rebuild` must create a file next to it."""

    def query_later() -> dict[str, Any]:
        with Metering.open(ledger_url(folder), clock=lambda: NOW) as metering:
            metering.record_many([meter_event(49, customer="beta")])
            metering.catch_up()
            folder.chmod(0o555)
            return {
                name: result_or_error(lambda operation=operation: operation(metering))
                for name, operation in OPERATIONS.items()
            }

    os.chown(folder, UNPRIVILEGED_USER_ID if os.getuid() == 0 else -1, -1)
    rejected = dict.fromkeys(["verify", "rebuild"], "ledger_unavailable: Permission denied")
    assert run_unprivileged(query_later) == ALL_RESULTS | rejected


def results_of(folder: Path) -> dict[str, Any]:
    """Return the result or error of each operation."""
    with Metering.open(ledger_url(folder), clock=lambda: NOW) as metering:
        return {
            name: result_or_error(lambda operation=operation: operation(metering))
            for name, operation in OPERATIONS.items()
        }


def result_or_error(operation: Callable[[], Any]) -> Any:
    """Return the result of an operation, or the code and reason of its error."""
    try:
        return operation()
    except TallybookError as error:
        phrases = ("read-only", "Permission denied", "was replaced", "tallybook backup", "opened it since")
        reasons = [phrase for phrase in phrases if phrase in str(error)]
        return f"{error.code}: {', '.join(reasons)}"


def run_unprivileged(function: Callable[[], Any]) -> Any:
    """Run a function in an unprivileged process, since file permissions do not apply to root."""

    def run_unprivileged() -> Any:
        if os.getuid() == 0:
            os.setgid(UNPRIVILEGED_USER_ID)
            os.setuid(UNPRIVILEGED_USER_ID)
        return function()

    status, result = run_in_child(run_unprivileged)
    assert status == 0
    return result


def ledger_url(folder: Path) -> str:
    """Return the URL of the ledger in a folder."""
    return f"sqlite:///{folder / 'usage.db'}"
