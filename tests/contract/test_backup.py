"""A backup of an open ledger is one state of it, complete once its file exists; PostgreSQL has programs of its own."""

import hashlib
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tallybook.application import BackupNotSupported, InvalidParameter, LedgerCorrupted, LedgerUnavailable, Metering
from tallybook.application.storage.key_value import KeyValueEntry
from tallybook.application.storage.sqlite.backup import STEP_PAGES

from ..cli.command_line import CommandLine
from .histories import query_results, record_history
from .persistent_stores import PostgresSchema, SQLiteFile
from .stores import Store

EVENT = ("tokens", {"customer": "acme", "value": "1"})
PERIOD = (datetime.now(UTC) - timedelta(days=1), datetime.now(UTC) + timedelta(days=1))


def open_ledger(file: Path) -> Metering:
    return Metering.open(f"sqlite:///{file}")


def new_ledger(file: Path) -> Metering:
    metering = open_ledger(file)
    metering.meters.configure("tokens", customer_key="customer", value_key="value")
    return metering


@pytest.mark.parametrize("fixture", ["file_store", "memory_store"])
def test_a_backup_answers_every_query_as_the_ledger_does(
    fixture: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """It is a ledger of its own, in one private file whose digest and size are returned."""
    store: Store = request.getfixturevalue(fixture)
    file = tmp_path / "copies" / "backup.db"
    file.parent.mkdir()
    with store.metering() as metering:
        record_history(metering, 60)
        backup = metering.backup(file)
        expected = query_results(metering)
        assert backup.position == metering.catch_up()
    assert list(file.parent.iterdir()) == [file]
    assert file.stat().st_mode & 0o777 == 0o600
    assert (backup.file, backup.size_bytes) == (str(file), file.stat().st_size)
    assert backup.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    with SQLiteFile.in_file(file).metering() as restored:
        assert query_results(restored) == expected
        assert restored.verify().is_equal


def test_a_backup_holds_every_event_that_was_acknowledged_before_it(tmp_path: Path) -> None:
    """Other threads record before, during and after it; each backup is at a position that was reached meanwhile."""
    stop, acknowledged = threading.Event(), 0
    with new_ledger(tmp_path / "usage.db") as metering:

        def record_until_stopped() -> None:
            nonlocal acknowledged
            while not stop.is_set():
                metering.record(*EVENT)
                acknowledged += 1

        recording = threading.Thread(target=record_until_stopped)
        recording.start()
        try:
            for number in range(5):
                before = acknowledged
                metering.backup(tmp_path / f"{number}.db")
                after = acknowledged
                with open_ledger(tmp_path / f"{number}.db") as backup:
                    assert before <= backup.total("tokens", "acme", *PERIOD).count <= after + 1
        finally:
            stop.set()
            recording.join()


def test_a_backup_does_not_start_again_when_others_record(tmp_path: Path) -> None:
    """It takes one state in steps. SQLite would start again after each transaction of another connection."""
    steps = 0
    with new_ledger(tmp_path / "usage.db") as metering:
        body = bytes(4096 * STEP_PAGES * 3)
        metering.key_value_store().apply(insert=[KeyValueEntry("test", "large", 0, body)])

        def record(_copied: int, _size: int) -> None:
            nonlocal steps
            steps += 1
            assert steps < 10
            metering.record(*EVENT)

        backup = metering.backup(tmp_path / "backup.db", progress=record)
        assert steps == 4
        assert backup.position == 1
        assert metering.total("tokens", "acme", *PERIOD).count == 4


def test_an_existing_file_is_replaced_only_with_overwrite(tmp_path: Path) -> None:
    """The ledger itself and a file with a write-ahead log are never replaced, and nothing is left in the folder."""
    file = tmp_path / "backup.db"
    file.write_text("precious")
    with new_ledger(tmp_path / "usage.db") as metering:
        names = sorted(tmp_path.iterdir())
        with pytest.raises(InvalidParameter, match="exists already"):
            metering.backup(file)
        for name in ("usage.db", "usage.db-wal", "usage.db.read-models"):
            with pytest.raises(InvalidParameter, match="of the ledger itself"):
                metering.backup(tmp_path / name, overwrite=True)
        with pytest.raises(InvalidParameter, match="No such file or directory"):
            metering.backup(tmp_path / "missing" / "backup.db")
        with pytest.raises(InvalidParameter, match="is a folder"):
            metering.backup(tmp_path, overwrite=True)
        assert sorted(tmp_path.iterdir()) == names
        assert file.read_text() == "precious"
        assert metering.backup(file, overwrite=True).position == 1
        (tmp_path / "backup.db-wal").touch()
        with pytest.raises(InvalidParameter, match=r"'backup\.db-wal' next to it"):
            metering.backup(file, overwrite=True)


def test_a_backup_that_fails_leaves_no_file(tmp_path: Path) -> None:
    """If the caller stops it, or the ledger is corrupted or has a gap, there is no file that looks like a backup."""

    def stop(_copied: int, _size: int) -> None:
        raise KeyboardInterrupt

    with new_ledger(tmp_path / "usage.db") as metering:
        metering.record(*EVENT)
        names = sorted(tmp_path.iterdir())
        with pytest.raises(KeyboardInterrupt):
            metering.backup(tmp_path / "backup.db", progress=stop)
        assert sorted(tmp_path.iterdir()) == names
    with closing(sqlite3.connect(tmp_path / "usage.db", isolation_level=None)) as database:
        database.execute("DROP TRIGGER stored_events_are_never_changed")
        database.execute("UPDATE stored_events SET position = 7 WHERE position = 2")
    with open_ledger(tmp_path / "usage.db") as metering, pytest.raises(LedgerCorrupted, match="positions have no gaps"):
        metering.backup(tmp_path / "backup.db")
    assert not (tmp_path / "backup.db").exists()


def test_a_full_disk_is_reported(tmp_path: Path) -> None:
    """The error names the backup, and the ledger records as before."""
    with new_ledger(tmp_path / "usage.db") as metering:
        with pytest.raises((LedgerUnavailable, InvalidParameter), match="/dev/full"):
            metering.backup("/dev/full/backup.db")
        assert metering.record(*EVENT).position == 2


def test_postgresql_is_backed_up_by_pg_dump(postgres_store: PostgresSchema, tmp_path: Path) -> None:
    """The error names the program, the schema and the guide."""
    with postgres_store.metering() as metering, pytest.raises(BackupNotSupported) as exc_info:
        metering.backup(tmp_path / "backup.sql")
    assert f"pg_dump --schema {postgres_store.schema}" in exc_info.value.message
    assert "docs/guides/back-up-and-restore.md" in exc_info.value.message


def test_the_command_prints_what_the_backup_holds(tmp_path: Path) -> None:
    """As text and as JSON; an existing file is an error."""
    tallybook = CommandLine(tmp_path)
    tallybook.run("meter", "configure", "tokens")
    size = tallybook.run_json("backup", tmp_path / "a.db")["size_bytes"]
    lines = tallybook.lines("backup", tmp_path / "b.db")
    assert lines[0] == f"{tmp_path / 'b.db'}: 1 events, {size:,} bytes, checked"
    assert tallybook.run_error("backup", tmp_path / "b.db") == ("parameter_invalid", "file")
    assert tallybook.run_json("backup", tmp_path / "b.db", "--overwrite")["position"] == 1
