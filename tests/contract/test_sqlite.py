"""What a SQLite file promises beyond the contract: durability, and events that nobody can change."""

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
from tallybook.application.stores.scratch import scratch_folder
from tallybook.application.stores.sqlite import Datastore
from tallybook.application.stores.sqlite_ledger import LEDGER
from tallybook.application.stores.sqlite_rows import SQLiteRows
from tallybook.domain.errors import LedgerUnavailable
from tallybook.domain.instants import microseconds
from tallybook.projections.buckets import DAY_SECONDS

from .histories import answers, record_history
from .kept_stores import SQLiteFile
from .stores import ANY_TIME, NOW

FULL, NORMAL = 2, 1


def settings(datastore: Datastore, *, commit: bool, connections: int) -> set[tuple[str, int]]:
    """Journal mode and synchronous of as many connections as are taken at once."""
    with ExitStack() as open_at_once:
        found: set[tuple[str, int]] = set()
        for _ in range(connections):
            connection = open_at_once.enter_context(datastore.get_connection(commit=commit))
            with connection.transaction(commit=False) as cursor:
                cursor.execute("PRAGMA journal_mode")
                mode = cursor.fetchone()[0]
                cursor.execute("PRAGMA synchronous")
                found.add((mode, cursor.fetchone()[0]))
        return found


def test_every_connection_to_the_events_is_fully_synchronous_and_in_wal(file_store: SQLiteFile) -> None:
    """Recorded is durable: each connection of the pool syncs the write-ahead log at each commit."""
    with file_store.datastores() as (events, views):
        assert settings(events, commit=False, connections=4) == {("wal", FULL)}
        assert settings(events, commit=True, connections=1) == {("wal", FULL)}
        assert settings(views, commit=False, connections=4) == {("wal", NORMAL)}


def test_what_is_under_way_when_a_ledger_is_closed_is_done(file_store: SQLiteFile) -> None:
    """Its connection is closed when it is given back, and nothing new begins."""
    with file_store.datastores() as (events, _), ThreadPoolExecutor(1) as other:
        with events.get_connection(commit=True) as connection:
            waiting = other.submit(lambda: events.transaction(commit=True).__enter__())
            time.sleep(0.1)
            with connection.transaction(commit=True) as cursor:
                events.close()
                cursor.execute("INSERT INTO stored_events VALUES (NULL, 'a', 1, 'Renamed', '')")
            assert not connection.closed
        assert connection.closed
        for ask in (waiting.result, lambda: events.transaction(commit=False).__enter__()):
            with pytest.raises(LedgerUnavailable, match="was closed"):
                ask()
    with file_store.datastores() as (events, _), events.transaction(commit=False) as cursor:
        cursor.execute("SELECT count(*) FROM stored_events")
        assert cursor.fetchone()[0] == 1


def test_the_application_opens_its_events_fully_synchronous(
    file_store: SQLiteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `Metering.open` itself connects to keeps the promise, through recording, cancelling and asking."""
    opened: dict[str, list[sqlite3.Connection]] = {
        str(file_store.file): [],
        str(file_store.views_file): [],
    }
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def noticed(database: str, **settings: object) -> sqlite3.Connection:
        opened[database].append(connect(database, **settings))
        return opened[database][-1]

    monkeypatch.setattr(sqlite3, "connect", noticed)
    with Metering.open(file_store.url, clock=lambda: NOW) as metering:
        record_history(metering)
        answers(metering)
        found = {
            database: {connection.execute("PRAGMA synchronous").fetchone()[0] for connection in connections}
            for database, connections in opened.items()
        }
    assert found == {str(file_store.file): {FULL}, str(file_store.views_file): {NORMAL}}


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
    """A plain connection that knows nothing of Tallybook is refused by the file itself, and changes nothing."""
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
    """Neither can an event be pushed out by an insert that takes its position or its stream's version."""
    with file_store.metering() as metering:
        record_history(metering, 20)
    with closing(sqlite3.connect(file_store.file, isolation_level=None)) as plain:
        before = plain.execute("SELECT * FROM stored_events").fetchall()
        with pytest.raises(sqlite3.IntegrityError):
            plain.execute(statement)
        assert plain.execute("SELECT * FROM stored_events").fetchall() == before


def test_a_ledger_that_is_being_made_is_not_taken_for_another_s(tmp_path: Path) -> None:
    """Looked at while another process makes the tables, a file is empty or a ledger, and nothing in between."""
    file = str(tmp_path / "usage.db")
    looking = sqlite3.connect(file, isolation_level=None)
    seen: list[str] = []

    def make_meanwhile(statement: str) -> None:
        seen.append(statement)
        if "user_version" not in statement:
            return
        with (
            closing(sqlite3.connect(file, isolation_level=None, timeout=0)) as making,
            suppress(sqlite3.OperationalError),
        ):
            LEDGER.make(making, file)

    looking.set_trace_callback(make_meanwhile)
    assert LEDGER.is_in(looking, file) is False
    looking.set_trace_callback(None)
    assert any("user_version" in statement for statement in seen)
    looking.close()


@pytest.mark.parametrize("position", [-1, 0, -(2**63)])
def test_no_event_is_inserted_below_position_1(file_store: SQLiteFile, position: int) -> None:
    """Also not at -1, which SQLite shows to a trigger where no position is given."""
    with file_store.metering() as metering:
        record_history(metering, 20)
    with closing(sqlite3.connect(file_store.file, isolation_level=None)) as plain:
        before = plain.execute("SELECT * FROM stored_events").fetchall()
        with pytest.raises(sqlite3.IntegrityError):
            plain.execute("INSERT INTO stored_events VALUES (?, 'event/new', 1, 'UsageRecorded', x'00')", (position,))
        assert plain.execute("SELECT * FROM stored_events").fetchall() == before


def test_a_ledger_made_before_positions_were_checked_is_used_as_it_is(tmp_path: Path) -> None:
    """The check is part of new tables only; it makes no other version of the schema."""
    file = tmp_path / "usage.db"
    unchecked = [statement.replace(" CHECK (position > 0)", "") for statement in LEDGER.statements]
    assert unchecked != list(LEDGER.statements)
    with closing(sqlite3.connect(file, isolation_level=None)) as making:
        replace(LEDGER, statements=unchecked).make(making, str(file))
    with Metering.open(f"sqlite:///{file}", clock=lambda: NOW) as metering:
        record_history(metering, 20)
        assert metering.verify().is_equal


def test_what_a_killed_program_left_is_found_by_its_name_and_not_by_a_pattern(tmp_path: Path) -> None:
    """A ledger's name may have brackets, stars and question marks in it."""
    for name in ("u[1].db", "u*.db", "u?.db"):
        left, other = (tmp_path / f"{start}.scratch-dead" for start in (name, "u1.db"))
        left.mkdir()
        other.mkdir(exist_ok=True)
        with scratch_folder(tmp_path / name) as folder:
            assert folder.exists()
        assert (left.exists(), other.exists()) == (False, True)


def test_a_lock_that_can_not_be_had_is_told_as_a_ledger_that_is_not_available(file_store: SQLiteFile) -> None:
    """A folder in its place, as a careless restore may leave it."""
    with file_store.metering() as metering:
        record_history(metering, 20)
        lock = Path(f"{file_store.views_file}.lock")
        lock.unlink(missing_ok=True)
        lock.mkdir()
        with pytest.raises(TallybookError) as refused:
            metering.rebuild()
    assert (refused.value.code, refused.value.field) == ("ledger_unavailable", "url")
    assert str(lock) in refused.value.message


@pytest.fixture
def live(file_store: SQLiteFile) -> Iterator[Metering]:
    """A ledger whose read models are as they should be."""
    with file_store.metering() as metering:
        record_history(metering, 40)
        assert metering.verify().is_equal
        yield metering


@pytest.mark.parametrize("offset", [0, 20, 4_096, 8_192 + 100, 40_000])
def test_a_damaged_file_is_told(live: Metering, file_store: SQLiteFile, offset: int) -> None:
    """Bytes overwritten anywhere: what is damaged is refused or located; where nothing lay the rows are equal still."""
    before = answers(live)
    live.close()
    with file_store.views_file.open("r+b") as file:
        assert file.seek(0, os.SEEK_END) > offset
        file.seek(offset)
        file.write(b"\xa5" * 64)
    with suppress(TallybookError), file_store.metering() as metering:
        verification = metering.verify()
        assert verification.is_equal == (answers(metering) == before)


def test_verifying_folds_into_a_folder_that_is_gone_at_the_end(live: Metering, file_store: SQLiteFile) -> None:
    """Neither when it is done nor when it fails."""
    folder = file_store.views_file.parent
    before = sorted(folder.iterdir())

    def fail(_: object) -> None:
        assert len(list(folder.glob("*.scratch-*"))) == 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        live.verify(fail)
    assert live.verify().is_equal
    assert sorted(folder.iterdir()) == before


KILLED = """
import os, signal, sys
from tallybook.application import Metering
with Metering.open(sys.argv[1]) as metering:
    metering.verify(lambda _: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_what_a_killed_verification_leaves_behind_is_removed_by_the_next(
    live: Metering, file_store: SQLiteFile
) -> None:
    """But not the folder of one that is still running."""
    folder = file_store.views_file.parent
    url = file_store.url
    killed = subprocess.run([sys.executable, "-c", KILLED, url], timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = folder.glob("*.scratch-*")

    def look(_: object) -> None:
        (mine,) = folder.glob("*.scratch-*")
        assert mine != left
        assert live.verify().is_equal
        assert list(folder.glob("*.scratch-*")) == [mine]

    assert live.verify(look).is_equal
    assert list(folder.glob("*.scratch-*")) == []


def test_reading_the_runs_of_all_customers_takes_no_longer_for_each_where_there_are_many(tmp_path: Path) -> None:
    """Twice the days take twice the steps: a bucket leads to its own runs, not through all that a customer has."""
    few, many = (steps_of_all_runs(SQLiteFile.beside(tmp_path / f"{days}.db"), days) for days in (50, 100))
    assert few < many < 2.5 * few


def steps_of_all_runs(store: SQLiteFile, days: int) -> int:
    """How many times ten steps SQLite takes to find the runs of one customer, of whom there is one a day."""
    with store.pieces() as (ledger, views), Metering(ledger, views, ANY_TIME, lambda: NOW) as metering:
        metering.configure_meter("tokens")
        times = [NOW - timedelta(days=day) for day in range(days)]
        payload = {"stripe_customer_id": "acme", "value": "1"}
        metering.record_many({"event_name": "tokens", "payload": payload, "timestamp": at} for at in times)
        metering.catch_up()
        steps: list[None] = []
        with views.reading() as rows:
            assert isinstance(rows, SQLiteRows)
            connection = rows.select("SELECT 1").connection
            connection.set_progress_handler(lambda: steps.append(None), 10)
            assert len(list(rows.runs(1, None, DAY_SECONDS, 0, microseconds(NOW) + 1))) == days
            connection.set_progress_handler(None, 0)
    return len(steps)
