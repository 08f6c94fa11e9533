"""A SQLite file that is removed, renamed, replaced or overwritten while a program has it open is noticed.

Nothing is acknowledged that the file at the ledger's path does not hold.
"""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tallybook.application import Metering, TallybookError
from tallybook.application.storage.sqlite import pool
from tallybook.domain.errors import LedgerUnavailable

from .histories import query_results, record_history
from .persistent_stores import SQLiteFile


def remove(file: Path) -> None:
    """Remove the file."""
    file.unlink()


def rename(file: Path) -> None:
    """Rename the file."""
    file.rename(file.with_name("renamed"))


def replace_by_copy(file: Path) -> None:
    """Replace the file by a copy of itself, as a restore from a backup does."""
    shutil.copy(file, file.with_name("copy"))
    file.with_name("copy").replace(file)


def rename_folder(file: Path) -> None:
    """Rename the folder of the file."""
    file.parent.rename(file.parent.with_name("renamed"))


def replace_by_link(file: Path) -> None:
    """Leave a symbolic link to another ledger in its place."""
    other = file.with_name("other.db")
    Metering.open(f"sqlite:///{other}").close()
    file.unlink()
    file.symlink_to(other)


CHANGES: list[tuple[Callable[[Path], None], str, str]] = [
    (remove, "", "was removed or renamed"),
    (rename, "", "was removed or renamed"),
    (replace_by_copy, "", "was replaced"),
    (replace_by_link, "", "was replaced"),
    (rename_folder, "", "was removed or renamed"),
    (remove, "-wal", "was removed or renamed"),
    (rename, "-wal", "was removed or renamed"),
    (replace_by_copy, "-wal", "was replaced"),
    (remove, "-shm", "was removed or renamed"),
    (replace_by_copy, "-shm", "was replaced"),
]


def recorded_count(metering: Metering) -> int:
    """Record meter events of three kinds of calls; return how many were acknowledged."""
    event = {"event_name": "tokens", "payload": {"customer": "acme", "value": "1"}}
    calls: list[Callable[[], object]] = [
        lambda: metering.record_many([event]),
        lambda: metering.record("tokens", {"customer": "acme", "value": "1"}),
        lambda: metering.meters.configure("another meter"),
        lambda: metering.access_keys.create(name="app", scopes=["record"]),
    ]
    count = 0
    for call in calls:
        try:
            call()
            count += 1
        except LedgerUnavailable:
            pass
    return count


@pytest.mark.parametrize(("change", "suffix", "state"), CHANGES)
def test_nothing_is_acknowledged_once_a_file_of_the_ledger_is_gone(
    file_store: SQLiteFile, change: Callable[[Path], None], suffix: str, state: str
) -> None:
    """The error says which file and what to do; no new ledger is created in its place."""
    path = Path(f"{file_store.file}{suffix}")
    with file_store.metering() as metering:
        record_history(metering, 20)
        change(path)
        with pytest.raises(LedgerUnavailable) as exc_info:
            metering.record("tokens", {"customer": "acme", "value": "1"})
        assert f"{str(path)!r} {state}" in exc_info.value.message
        assert recorded_count(metering) == 0
        assert path.exists() == (state == "was replaced")


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_closing_saves_the_events_of_a_removed_log(file_store: SQLiteFile, suffix: str) -> None:
    """All recorded events are in the ledger file after it is closed."""
    with file_store.metering() as metering:
        record_history(metering, 20)
        before = query_results(metering)
        remove(Path(f"{file_store.file}{suffix}"))
        assert recorded_count(metering) == 0
    with file_store.metering() as metering:
        assert query_results(metering) == before
        assert metering.verify().is_equal


def test_recording_continues_when_the_file_is_put_back(file_store: SQLiteFile) -> None:
    """The error is not final."""
    moved = file_store.file.with_name("moved.db")
    with file_store.metering() as metering:
        record_history(metering, 20)
        file_store.file.rename(moved)
        assert recorded_count(metering) == 0
        moved.rename(file_store.file)
        assert recorded_count(metering) == 4
        assert metering.verify().is_equal


def test_a_file_replaced_during_the_commit_is_noticed_before_the_acknowledgement(
    file_store: SQLiteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event may be committed to the old file, but the caller gets an error."""
    with file_store.metering() as metering:
        record_history(metering, 20)

        def replace_file(_: int) -> None:
            replace_by_copy(file_store.file)

        monkeypatch.setattr(pool, "require_owner_process", replace_file)  # called directly before the commit
        with file_store.components() as (ledger, _), pytest.raises(LedgerUnavailable, match="was replaced"):
            ledger.ledger_recorder.insert_rows([("a stream", 1, "Renamed", b"{}")])


def test_an_older_copy_of_the_ledger_in_the_same_file_is_noticed(file_store: SQLiteFile) -> None:
    """It is the same file, but it lacks events that this process has recorded."""
    backup = file_store.file.with_name("backup.db")
    with file_store.metering() as metering:
        record_history(metering, 20)
        metering.key_value_store()
        with closing(sqlite3.connect(file_store.file)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            shutil.copyfile(file_store.file, backup)
            recorded_count(metering)
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copyfile(backup, file_store.file)
        with pytest.raises(LedgerUnavailable, match="was overwritten"):
            metering.record("tokens", {"customer": "acme", "value": "1"})


def test_no_ledger_is_created_next_to_the_log_of_a_missing_one(file_store: SQLiteFile) -> None:
    """SQLite would delete the log, and with it the events that are in no other file."""
    log = Path(f"{file_store.file}-wal")
    log.write_bytes(b"frames")
    with pytest.raises(TallybookError, match="write-ahead log") as exc_info:
        file_store.open()
    assert exc_info.value.code == "ledger_unavailable"
    assert (log.read_bytes(), file_store.file.exists()) == (b"frames", False)


@pytest.mark.parametrize("name", ["usage.db", "other.db"])
def test_a_ledger_with_two_names_is_not_opened(file_store: SQLiteFile, name: str) -> None:
    """Under each name, SQLite would keep a write-ahead log that programs with the other name do not read."""
    with file_store.metering() as metering:
        record_history(metering, 20)
        before = query_results(metering)
    other_name = file_store.file.with_name("other.db")
    other_name.hardlink_to(file_store.file)
    files = file_store.list_objects()
    with pytest.raises(LedgerUnavailable, match=r"has 2 names \(hard links\).*remove the other names") as exc_info:
        Metering.open(f"sqlite:///{file_store.file.with_name(name)}")
    assert exc_info.value.field == "url"
    assert file_store.list_objects() == files
    other_name.unlink()
    with file_store.metering() as metering:
        assert query_results(metering) == before


def test_a_name_that_is_added_to_an_open_ledger_does_no_harm(file_store: SQLiteFile) -> None:
    """Nobody can open the ledger under the new name, and recording goes on."""
    other_name = file_store.file.with_name("other.db")
    with file_store.metering() as metering:
        record_history(metering, 20)
        other_name.hardlink_to(file_store.file)
        with pytest.raises(LedgerUnavailable, match="hard links"):
            Metering.open(f"sqlite:///{other_name}")
        assert recorded_count(metering) == 4
        before = query_results(metering)
    other_name.unlink()
    with file_store.metering() as metering:
        assert query_results(metering) == before


@pytest.mark.parametrize("suffixes", [("",), ("", "-wal", "-shm"), ("-wal",), ("-shm",)])
def test_deleted_read_models_are_built_again_while_the_ledger_is_open(
    file_store: SQLiteFile, suffixes: tuple[str, ...]
) -> None:
    """Every connection of the pool uses the new file."""
    with file_store.metering() as metering:
        record_history(metering, 20)
        before = query_results(metering)
        for suffix in suffixes:
            remove(Path(f"{file_store.read_models_file}{suffix}"))
        assert query_results(metering) == before
        recorded_count(metering)
        changed = query_results(metering)
        assert metering.verify().is_equal
    with file_store.metering() as metering:
        assert query_results(metering) == changed
        assert metering.verify().is_equal
