"""Guarantees of a SQLite file beyond the contract: commits are durable, and stored events are immutable."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tallybook.application import Metering, TallybookError
from tallybook.application.storage.sqlite.connection import Datastore
from tallybook.application.storage.sqlite.ledger_schema import LEDGER_SCHEMA
from tallybook.application.storage.sqlite.statements import SQLiteReadModels
from tallybook.application.storage.temp_directory import temp_directory
from tallybook.domain.errors import LedgerUnavailable
from tallybook.domain.timestamps import to_microseconds
from tallybook.projections.buckets import DAY_SECONDS

from .histories import query_results, record_history
from .persistent_stores import SQLiteFile
from .stores import ANY_TIME, NOW

FULL, NORMAL = 2, 1


def connection_settings(datastore: Datastore, *, commit: bool, connections: int) -> set[tuple[str, int]]:
    """Return journal mode and synchronous setting of a number of concurrent connections."""
    with ExitStack() as open_at_once:
        found_settings: set[tuple[str, int]] = set()
        for _ in range(connections):
            connection = open_at_once.enter_context(datastore.get_connection(commit=commit))
            with connection.transaction(commit=False) as cursor:
                cursor.execute("PRAGMA journal_mode")
                mode = cursor.fetchone()[0]
                cursor.execute("PRAGMA synchronous")
                found_settings.add((mode, cursor.fetchone()[0]))
        return found_settings


def test_every_connection_to_the_events_is_fully_synchronous_and_in_wal(file_store: SQLiteFile) -> None:
    """Recorded events are durable: each connection of the pool syncs the write-ahead log at each commit."""
    with file_store.datastores() as (events, views):
        assert connection_settings(events, commit=False, connections=4) == {("wal", FULL)}
        assert connection_settings(events, commit=True, connections=1) == {("wal", FULL)}
        assert connection_settings(views, commit=False, connections=4) == {("wal", NORMAL)}


def test_pending_work_is_completed_when_a_ledger_is_closed(file_store: SQLiteFile) -> None:
    """A connection in use is closed when it is returned to the pool, and new transactions are rejected."""
    with file_store.datastores() as (events, _), ThreadPoolExecutor(1) as other:
        with events.get_connection(commit=True) as connection:
            waiting = other.submit(lambda: events.transaction(commit=True).__enter__())
            time.sleep(0.1)  # so that it waits for the connection; nothing shows that it does
            with connection.transaction(commit=True) as cursor:
                events.close()
                cursor.execute("INSERT INTO stored_events VALUES (NULL, 'a', 1, 'Renamed', '')")
            assert not connection.closed
        assert connection.closed
        for operation in (waiting.result, lambda: events.transaction(commit=False).__enter__()):
            with pytest.raises(LedgerUnavailable, match="was closed"):
                operation()
    with file_store.datastores() as (events, _), events.transaction(commit=False) as cursor:
        cursor.execute("SELECT count(*) FROM stored_events")
        assert cursor.fetchone()[0] == 1


def test_the_application_opens_its_events_fully_synchronous(
    file_store: SQLiteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All connections of `Metering.open` are fully synchronous while it records, cancels and queries."""
    opened: dict[str, list[sqlite3.Connection]] = {
        str(file_store.file): [],
        str(file_store.read_models_file): [],
    }
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def record_connection(database: str, **settings: object) -> sqlite3.Connection:
        opened[database].append(connect(database, **settings))
        return opened[database][-1]

    monkeypatch.setattr(sqlite3, "connect", record_connection)
    with Metering.open(file_store.url, clock=lambda: NOW) as metering:
        record_history(metering)
        query_results(metering)
        actual = {
            database: {connection.execute("PRAGMA synchronous").fetchone()[0] for connection in connections}
            for database, connections in opened.items()
        }
    assert actual == {str(file_store.file): {FULL}, str(file_store.read_models_file): {NORMAL}}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE stored_events SET state = '{}' WHERE position = 5",
        "UPDATE stored_events SET originator_id = 'event/x'",
        "UPDATE stored_events SET position = position + 1000",
        "DELETE FROM stored_events WHERE position = 5",
        "DELETE FROM stored_events",
    ],
)
def test_stored_events_cannot_be_changed_or_deleted(file_store: SQLiteFile, statement: str) -> None:
    """Triggers in the file reject such statements on any connection."""
    with file_store.metering() as metering:
        record_history(metering, 20)
    with closing(sqlite3.connect(file_store.file, isolation_level=None)) as plain:
        before = plain.execute("SELECT * FROM stored_events").fetchall()
        with pytest.raises(sqlite3.IntegrityError, match=r"stored events are never (changed|deleted)"):
            plain.execute(statement)
        assert plain.execute("SELECT * FROM stored_events").fetchall() == before


@pytest.mark.parametrize(
    "statement",
    [
        (
            "INSERT OR REPLACE INTO stored_events SELECT position, originator_id, originator_version, topic, '{}'"
            " FROM stored_events WHERE position = 5"
        ),
        (
            "REPLACE INTO stored_events (originator_id, originator_version, topic, state)"
            " SELECT originator_id, originator_version, topic, '{}' FROM stored_events WHERE position = 5"
        ),
    ],
)
def test_stored_events_cannot_be_replaced(file_store: SQLiteFile, statement: str) -> None:
    """An insert with an existing position or stream version is rejected."""
    with file_store.metering() as metering:
        record_history(metering, 20)
    with closing(sqlite3.connect(file_store.file, isolation_level=None)) as plain:
        before = plain.execute("SELECT * FROM stored_events").fetchall()
        with pytest.raises(sqlite3.IntegrityError):
            plain.execute(statement)
        assert plain.execute("SELECT * FROM stored_events").fetchall() == before


def test_a_ledger_being_created_is_not_mistaken_for_a_foreign_file(tmp_path: Path) -> None:
    """While another process creates the tables, a file is either empty or a complete ledger."""
    file = str(tmp_path / "usage.db")
    looking = sqlite3.connect(file, isolation_level=None)
    statements: list[str] = []

    def make_meanwhile(statement: str) -> None:
        statements.append(statement)
        if "user_version" not in statement:
            return
        with (
            closing(sqlite3.connect(file, isolation_level=None, timeout=0)) as making,
            suppress(sqlite3.OperationalError),
        ):
            LEDGER_SCHEMA.upgrade(making, file)

    looking.set_trace_callback(make_meanwhile)
    assert LEDGER_SCHEMA.is_current_in(looking, file) is False
    looking.set_trace_callback(None)
    assert any("user_version" in statement for statement in statements)
    looking.close()


@pytest.mark.parametrize("position", [-1, 0, -(2**63)])
def test_no_event_is_inserted_below_position_1(file_store: SQLiteFile, position: int) -> None:
    """This includes -1, which SQLite passes to a trigger if no position is given."""
    with file_store.metering() as metering:
        record_history(metering, 20)
    with closing(sqlite3.connect(file_store.file, isolation_level=None)) as plain:
        before = plain.execute("SELECT * FROM stored_events").fetchall()
        with pytest.raises(sqlite3.IntegrityError):
            plain.execute("INSERT INTO stored_events VALUES (?, 'event/new', 1, 'UsageRecorded', x'00')", (position,))
        assert plain.execute("SELECT * FROM stored_events").fetchall() == before


def test_a_ledger_without_the_position_check_stays_usable(tmp_path: Path) -> None:
    """Only new tables have the check; the schema version is the same without it."""
    file = tmp_path / "usage.db"
    unchecked = [statement.replace(" CHECK (position > 0)", "") for statement in LEDGER_SCHEMA.statements]
    assert unchecked != list(LEDGER_SCHEMA.statements)
    with closing(sqlite3.connect(file, isolation_level=None)) as making:
        replace(LEDGER_SCHEMA, statements=unchecked).upgrade(making, str(file))
    with Metering.open(f"sqlite:///{file}", clock=lambda: NOW) as metering:
        record_history(metering, 20)
        assert metering.verify().is_equal


def test_leftovers_of_a_killed_process_are_matched_by_exact_name(tmp_path: Path) -> None:
    """The name of a ledger may contain the wildcards of glob patterns."""
    for name in ("u[1].db", "u*.db", "u?.db"):
        leftover, other = (tmp_path / f"{start}.scratch-dead" for start in (name, "u1.db"))
        leftover.mkdir()
        other.mkdir(exist_ok=True)
        with temp_directory(tmp_path / name) as folder:
            assert folder.exists()
        assert (leftover.exists(), other.exists()) == (False, True)


def test_a_lock_timeout_is_reported_as_ledger_unavailable(file_store: SQLiteFile) -> None:
    """A folder at the path of the lock file, for example from a mistaken restore, is an error that names the path."""
    with file_store.metering() as metering:
        record_history(metering, 20)
        lock = Path(f"{file_store.read_models_file}.lock")
        lock.unlink(missing_ok=True)
        lock.mkdir()
        with pytest.raises(TallybookError) as exc_info:
            metering.generations.rebuild()
    assert (exc_info.value.code, exc_info.value.field) == ("ledger_unavailable", "url")
    assert str(lock) in exc_info.value.message


@pytest.fixture
def live_ledger(file_store: SQLiteFile) -> Iterator[Metering]:
    """Return a ledger with verified read models."""
    with file_store.metering() as metering:
        record_history(metering, 40)
        assert metering.verify().is_equal
        yield metering


@pytest.mark.parametrize("offset", [0, 20, 4_096, 8_192 + 100, 40_000])
def test_a_corrupted_file_is_reported(live_ledger: Metering, file_store: SQLiteFile, offset: int) -> None:
    """Overwritten bytes raise an error or are found by verification, unless they were unused."""
    before = query_results(live_ledger)
    live_ledger.close()
    with file_store.read_models_file.open("r+b") as file:
        assert file.seek(0, os.SEEK_END) > offset
        file.seek(offset)
        file.write(b"\xa5" * 64)
    with suppress(TallybookError), file_store.metering() as metering:
        verification = metering.verify()
        assert verification.is_equal == (query_results(metering) == before)


def test_verifying_uses_a_temporary_folder(live_ledger: Metering, file_store: SQLiteFile) -> None:
    """The temporary folder is removed after a verification, also after a failed one."""
    folder = file_store.read_models_file.parent
    before = sorted(folder.iterdir())

    def fail(_: object) -> None:
        assert len(list(folder.glob("*.scratch-*"))) == 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        live_ledger.verify(fail)
    assert live_ledger.verify().is_equal
    assert sorted(folder.iterdir()) == before


KILLED_PROGRAM = """
import os, signal, sys
from tallybook.application import Metering
with Metering.open(sys.argv[1]) as metering:
    metering.verify(lambda _: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_leftovers_of_a_killed_verification_are_removed_by_the_next(
    live_ledger: Metering, file_store: SQLiteFile
) -> None:
    """The folder of a running verification is not removed."""
    folder = file_store.read_models_file.parent
    url = file_store.url
    killed = subprocess.run([sys.executable, "-c", KILLED_PROGRAM, url], timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    (leftover,) = folder.glob("*.scratch-*")

    def check_folder(_: object) -> None:
        (mine,) = folder.glob("*.scratch-*")
        assert mine != leftover
        assert live_ledger.verify().is_equal
        assert list(folder.glob("*.scratch-*")) == [mine]

    assert live_ledger.verify(check_folder).is_equal
    assert list(folder.glob("*.scratch-*")) == []


def test_a_temporary_folder_that_cannot_be_opened_is_left_alone(live_ledger: Metering, file_store: SQLiteFile) -> None:
    """Each user of a shared ledger has private temporary folders, which no other user can open."""
    folder = Path(f"{file_store.read_models_file}.scratch-other-user")
    (folder / "scratch.lock").mkdir(parents=True)  # the superuser, too, cannot open a directory as a lock file
    assert live_ledger.verify().is_equal
    assert folder.exists()


def test_reading_blocks_of_all_customers_scales_linearly(tmp_path: Path) -> None:
    """Twice the days take twice the steps: only the usage blocks of a bucket are read, not all of the customer."""
    few_steps, many_steps = (count_steps(SQLiteFile.in_file(tmp_path / f"{days}.db"), days) for days in (50, 100))
    assert few_steps < many_steps < 2.5 * few_steps


def count_steps(store: SQLiteFile, days: int) -> int:
    """Return how many times ten steps SQLite needs to find the usage blocks of a customer with one block a day."""
    with store.components() as (ledger, views), Metering(ledger, views, ANY_TIME, lambda: NOW) as metering:
        metering.meters.configure("tokens")
        times = [NOW - timedelta(days=day) for day in range(days)]
        payload = {"stripe_customer_id": "acme", "value": "1"}
        for at in times:
            metering.record("tokens", payload, timestamp=at)
            metering.catch_up()
        steps: list[None] = []
        with views.read_session() as rows:
            assert isinstance(rows, SQLiteReadModels)
            connection = rows.select("SELECT 1").connection
            connection.set_progress_handler(lambda: steps.append(None), 10)
            assert len(list(rows.blocks_between(1, None, DAY_SECONDS, 0, to_microseconds(NOW) + 1))) == days
            connection.set_progress_handler(None, 0)
    return len(steps)
