"""A reader by position must not skip a writer that is delayed between taking its position and committing."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from random import randrange

import psycopg
import pytest

from ..postgres import Database
from ..waiting import wait_until
from .tailing import Page, new_positions
from .usage import batch, open_ledger

GATE_LOCK_KEY = randrange(2**62)
"""The advisory lock that delays the slow writer at the latest point of a transaction: its commit."""

BLOCK_COMMIT_SQL = f"""
    CREATE FUNCTION wait_for_gate() RETURNS trigger LANGUAGE plpgsql
        AS 'BEGIN PERFORM pg_advisory_xact_lock({GATE_LOCK_KEY}); RETURN NULL; END';
    CREATE CONSTRAINT TRIGGER delay_commit AFTER INSERT ON stored_events DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.originator_id LIKE 'event/slow/%') EXECUTE FUNCTION wait_for_gate();
"""

TIMEOUT_SECONDS = 60

Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def url(postgres: Database) -> str:
    """Return the URL of an empty schema."""
    return postgres.fresh_url()


@pytest.fixture
def connect(postgres: Database, url: str) -> Iterator[Callable[[], Connection]]:
    """Yield a function that connects to the schema without the application."""
    with ExitStack() as exit_stack:
        yield lambda: exit_stack.enter_context(closing(connect_to(postgres, url)))


def connect_to(database: Database, url: str) -> Connection:
    """Return a connection to the schema of a ledger's URL."""
    schema = url.removeprefix(database.at(""))
    return psycopg.connect(database.url, autocommit=True, options=f"-c search_path={schema}")


def close_gate(gate: Connection) -> None:
    """Delay the slow writer until this connection releases the lock, or ends."""
    gate.execute(BLOCK_COMMIT_SQL.encode())
    gate.execute("SELECT pg_advisory_lock(%s)", (GATE_LOCK_KEY,))


def blocked_backends(backend: int, connection: Connection) -> list[int]:
    """Return the ids of the server processes that wait for a process."""
    statement = "SELECT pid FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))"
    return [int(str(pid)) for (pid,) in connection.execute(statement, (backend,)).fetchall()]


def positions_around_slow_commit(gate: Connection, write: Callable[[str], None], page: Page) -> list[int]:
    """Return the positions that a reader reads during the delay of one writer, with another writing, and afterwards."""
    close_gate(gate)
    slow, fast = (threading.Thread(target=write, args=(writer,)) for writer in ("slow", "fast"))
    slow.start()
    wait_until(lambda: blocked_backends(gate.info.backend_pid, gate) != [])
    (slow_backend,) = blocked_backends(gate.info.backend_pid, gate)
    fast.start()
    wait_until(lambda: not fast.is_alive() or blocked_backends(slow_backend, gate) != [])
    positions = new_positions(page, [])
    gate.execute("SELECT pg_advisory_unlock(%s)", (GATE_LOCK_KEY,))
    slow.join(TIMEOUT_SECONDS)
    fast.join(TIMEOUT_SECONDS)
    return positions + new_positions(page, positions)


def test_a_reader_of_plain_sequence_ids_misses_an_event(connect: Callable[[], Connection]) -> None:
    """With plain sequence ids the later id is committed first, and the reader never reads the earlier one."""
    gate, reader = connect(), connect()
    (schema,) = reader.execute("SELECT current_setting('search_path')").fetchone() or ("",)
    reader.execute(f"CREATE SCHEMA {schema}".encode())
    reader.execute("CREATE TABLE stored_events (position bigserial PRIMARY KEY, originator_id text NOT NULL)")

    def write(writer: str) -> None:
        connect().execute("INSERT INTO stored_events (originator_id) VALUES (%s)", (f"event/{writer}/1",))

    def page(after: int, limit: int) -> list[tuple[object, ...]]:
        statement = "SELECT position FROM stored_events WHERE position > %s ORDER BY position LIMIT %s"
        return reader.execute(statement, (after, limit)).fetchall()

    assert positions_around_slow_commit(gate, write, page) == [2]
    assert page(0, 10) == [(1,), (2,)]


def test_a_reader_of_ledger_positions_misses_no_event(connect: Callable[[], Connection], url: str) -> None:
    """With the ledger's positions the second writer waits, and the reader reads both batches, in order."""
    with open_ledger(url) as metering:

        def write(writer: str) -> None:
            with open_ledger(url) as own_metering:
                own_metering.record_many(batch(writer, 0, 3))

        page: Page = metering._ledger.read_page  # pyright: ignore
        assert positions_around_slow_commit(connect(), write, page) == [1, 2, 3, 4, 5, 6, 7]
        assert [event.identifier[:4] for event in metering.events("tokens")] == ["slow"] * 3 + ["fast"] * 3
