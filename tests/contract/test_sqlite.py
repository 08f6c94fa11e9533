"""What a SQLite file promises beyond the contract: durability, and events that nobody can change."""

import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from tallybook.application import Metering, TallybookError
from tallybook.application.stores.scratch import scratch_folder
from tallybook.application.stores.sqlite import Datastore
from tallybook.application.stores.sqlite_ledger import LEDGER

from .histories import answers, record_history
from .stores import NOW, SQLiteFile

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


def test_the_application_opens_its_events_fully_synchronous(
    file_store: SQLiteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `Metering.open` itself connects to keeps the promise, through recording, cancelling and asking."""
    opened: dict[str, list[sqlite3.Connection]] = {
        file_store.place.events_database: [],
        file_store.place.views_database: [],
    }
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def noticed(database: str, **settings: object) -> sqlite3.Connection:
        opened[database].append(connect(database, **settings))
        return opened[database][-1]

    monkeypatch.setattr(sqlite3, "connect", noticed)
    with Metering.open(f"sqlite:///{file_store.place.events_database}", clock=lambda: NOW) as metering:
        record_history(metering)
        answers(metering)
        found = {
            database: {connection.execute("PRAGMA synchronous").fetchone()[0] for connection in connections}
            for database, connections in opened.items()
        }
    assert found == {file_store.place.events_database: {FULL}, file_store.place.views_database: {NORMAL}}


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
    with closing(sqlite3.connect(file_store.place.events_database, isolation_level=None)) as plain:
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
    with closing(sqlite3.connect(file_store.place.events_database, isolation_level=None)) as plain:
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
    with closing(sqlite3.connect(file_store.place.events_database, isolation_level=None)) as plain:
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
        lock = Path(f"{file_store.place.views_database}.lock")
        lock.unlink(missing_ok=True)
        lock.mkdir()
        with pytest.raises(TallybookError) as refused:
            metering.rebuild()
    assert (refused.value.code, refused.value.field) == ("ledger_unavailable", "url")
    assert str(lock) in refused.value.message
