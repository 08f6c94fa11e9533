"""Interrupted and timed-out transactions on SQLite leave neither a lock nor a connection behind.

An interrupt is any exception that a signal handler raises, such as KeyboardInterrupt for Ctrl-C in a notebook.
"""

import gc
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import eventsourcing.persistence
import pytest
from eventsourcing.persistence import ConnectionUnavailableError
from tallybook.application.storage.sqlite.connection import Datastore
from tallybook.application.storage.sqlite.event_recorder import open_ledger_datastore
from tallybook.application.storage.sqlite.pool import ABANDONED_SECONDS, Connection, DatabaseConnection
from tallybook.domain.errors import LedgerUnavailable

MAX_CONNECTIONS = 15
SEMAPHORE = {threading.Semaphore.acquire.__code__, threading.Semaphore.release.__code__}


class InterruptedCursor(sqlite3.Cursor):
    """A cursor that is interrupted right after it has started a transaction."""

    def execute(self, statement: str, *parameters: object) -> "InterruptedCursor":
        """Execute a statement."""
        super().execute(statement, *parameters)  # pyright: ignore[reportArgumentType]
        if statement.startswith("BEGIN"):
            raise KeyboardInterrupt
        return self


def interrupt(*_: object, **__: object) -> None:
    """Raise what Ctrl-C raises."""
    raise KeyboardInterrupt


@pytest.fixture(params=["file", "memory"])
def datastore(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Datastore]:
    """Return the database of a ledger, with one connection that is not in use."""
    database = (
        str(tmp_path / "usage.db") if request.param == "file" else f"file:{tmp_path.name}?mode=memory&cache=shared"
    )
    with closing(open_ledger_datastore(database)) as datastore:
        append_event(datastore, 1)
        yield datastore


def append_event(datastore: Datastore, version: int) -> None:
    """Append an event in a transaction of its own."""
    with datastore.transaction(commit=True) as cursor:
        cursor.execute("INSERT INTO stored_events VALUES (NULL, 'a', ?, 'Renamed', '')", (version,))


def require_free(datastore: Datastore) -> None:
    """Check that writers and readers get connections, one writer at a time."""
    datastore.pool.pool_timeout = 0.1
    append_event(datastore, 2)
    append_event(datastore, 3)
    with datastore.get_connection(commit=True), pytest.raises(LedgerUnavailable, match="came free"):
        append_event(datastore, 4)
    with datastore.transaction(commit=False) as cursor:
        cursor.execute("SELECT count(*) FROM stored_events")
        assert cursor.fetchone()[0] == 3
    assert datastore.pool.num_in_use == 0


@pytest.mark.parametrize("commit", [True, False])
def test_an_interrupt_after_begin_ends_the_transaction(
    datastore: Datastore, monkeypatch: pytest.MonkeyPatch, *, commit: bool
) -> None:
    """A BEGIN that waits for another writer returns with the lock, and then the interrupt is raised."""

    def interrupted_cursor(connection: sqlite3.Connection) -> sqlite3.Cursor:
        return sqlite3.Connection.cursor(connection, InterruptedCursor)

    with monkeypatch.context() as patch:
        patch.setattr(DatabaseConnection, "cursor", interrupted_cursor)
        with pytest.raises(KeyboardInterrupt), datastore.transaction(commit=commit):
            pass
    require_free(datastore)


def test_a_transaction_that_is_abandoned_ends_with_the_use_of_its_connection(datastore: Datastore) -> None:
    """An interrupt may skip the end of a block. It runs late then, and does not end the transaction of another."""
    with datastore.get_connection(commit=True) as connection:
        abandoned = connection.transaction(commit=True)
        abandoned.__enter__()
    with datastore.transaction(commit=True) as cursor:
        cursor.execute("INSERT INTO stored_events VALUES (NULL, 'a', 2, 'Renamed', '')")
        del abandoned
        gc.collect()
    with datastore.transaction(commit=False) as cursor:
        cursor.execute("SELECT count(*) FROM stored_events")
        assert cursor.fetchone()[0] == 2


@pytest.mark.parametrize("commit", [True, False])
def test_an_interrupt_while_a_connection_is_opened_leaves_the_place_to_others(
    datastore: Datastore, monkeypatch: pytest.MonkeyPatch, *, commit: bool
) -> None:
    """The next writer does not wait for the interrupted one."""
    with datastore.get_connection(commit=False), monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", interrupt)
        if datastore.pool.is_sqlite_memory_mode and commit:
            patch.setattr(threading.Condition, "wait", interrupt)  # a writer waits for the readers
        with pytest.raises(KeyboardInterrupt), datastore.transaction(commit=commit):
            pass
    require_free(datastore)


@pytest.mark.parametrize("commit", [True, False])
def test_an_interrupt_while_the_files_are_compared_leaves_the_place_to_others(
    datastore: Datastore, monkeypatch: pytest.MonkeyPatch, *, commit: bool
) -> None:
    """The connection goes back to the pool."""
    with monkeypatch.context() as patch:
        patch.setattr(Connection, "find_replaced_file", interrupt)
        with pytest.raises(KeyboardInterrupt), datastore.transaction(commit=commit):
            pass
    require_free(datastore)


@pytest.mark.parametrize("is_interrupted", [True, False])
@pytest.mark.parametrize("commit", [True, False])
def test_a_wait_for_a_connection_that_fails_leaves_the_place_to_others(
    datastore: Datastore, monkeypatch: pytest.MonkeyPatch, *, commit: bool, is_interrupted: bool
) -> None:
    """This holds for a timeout and an interrupt. The next writer does not wait for the one that gave up."""
    datastore.pool.pool_timeout = 0.1
    with ExitStack() as readers, monkeypatch.context() as patch:
        for _ in range(MAX_CONNECTIONS):
            readers.enter_context(datastore.get_connection(commit=False))
        if is_interrupted:
            patch.setattr(threading.Condition, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt if is_interrupted else LedgerUnavailable):
            datastore.get_connection(commit=commit).__enter__()
    require_free(datastore)


def count_events(datastore: Datastore, *, commit: bool) -> int:
    """Return the number of events, read in a transaction of either kind."""
    with datastore.transaction(commit=commit) as cursor:
        cursor.execute("SELECT count(*) FROM stored_events")
        return int(cursor.fetchone()[0])


def interrupting_tracer(line_number: int) -> Callable[[FrameType, str, object], Any]:
    """Return a trace function that raises KeyboardInterrupt at this line that the library's pool executes."""
    lines = count(1)

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename != eventsourcing.persistence.__file__ and frame.f_code not in SEMAPHORE:
            return None
        if event == "line" and next(lines) == line_number:
            raise KeyboardInterrupt
        return trace

    return trace


@pytest.mark.parametrize("commit", [True, False])
@pytest.mark.parametrize("is_open", [True, False])
def test_an_interrupt_at_any_line_of_the_librarys_pool_leaves_the_place_to_others(
    datastore: Datastore, *, is_open: bool, commit: bool
) -> None:
    """Its semaphore, the lock of writers and the connections are free again."""
    datastore.pool.pool_timeout, line_number = 0.5, 0
    for line_number in count(1):
        with ExitStack() as readers:
            if not is_open:
                readers.enter_context(datastore.get_connection(commit=False))  # so that another one is opened
            sys.settrace(interrupting_tracer(line_number))
            try:
                connection = datastore.pool.get_connection(timeout=0.01, is_writer=commit)
            except KeyboardInterrupt:
                connection = None
            except ConnectionUnavailableError:  # a writer of a database in memory waits for the readers
                break
            finally:
                sys.settrace(None)
        if connection is not None:
            datastore.pool.put_connection(connection)
            break
        with ThreadPoolExecutor(1) as another_thread:
            for writes in (True, False):
                assert another_thread.submit(count_events, datastore, commit=writes).result() == 1, line_number
        assert datastore.pool.num_in_use == 0
    assert line_number > 10
    require_free(datastore)


def test_a_connection_that_no_caller_has_any_more_is_taken_back(datastore: Datastore) -> None:
    """An interrupt between two steps of a borrower can lose it."""
    connection = datastore.pool.get_connection(is_writer=True)
    del connection
    with ThreadPoolExecutor(1) as another_thread:
        assert another_thread.submit(count_events, datastore, commit=True).result() == 1
    require_free(datastore)


def test_a_connection_that_a_caller_has_is_not_taken_back(datastore: Datastore) -> None:
    """A waiting writer times out, however long the caller doesn't use it."""
    connection = datastore.pool.get_connection(is_writer=True)
    datastore.pool.pool_timeout = 2 * ABANDONED_SECONDS
    with ThreadPoolExecutor(1) as another_thread, pytest.raises(LedgerUnavailable, match="came free"):
        another_thread.submit(count_events, datastore, commit=True).result()
    datastore.pool.put_connection(connection)
    require_free(datastore)
