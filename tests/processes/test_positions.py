"""A writer that is held up between taking its position and committing: who reads by position must not pass it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from random import randrange
from time import monotonic, sleep

import psycopg
import pytest

from ..postgres import Database
from .tailing import Page, new_positions
from .usage import batch, open_ledger

GATE_LOCK_KEY = randrange(2**62)
"""The advisory lock that holds the slow writer up, as late as a transaction can be: while it commits."""

BLOCK_COMMIT_SQL = f"""
    CREATE FUNCTION wait_at_the_gate() RETURNS trigger LANGUAGE plpgsql
        AS 'BEGIN PERFORM pg_advisory_xact_lock({GATE_LOCK_KEY}); RETURN NULL; END';
    CREATE CONSTRAINT TRIGGER hold_up AFTER INSERT ON stored_events DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.originator_id LIKE 'event/slow/%') EXECUTE FUNCTION wait_at_the_gate();
"""

TIMEOUT_SECONDS = 60

Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def url(postgres: Database) -> str:
    """A schema that nothing is in."""
    return postgres.fresh_url()


@pytest.fixture
def connect(postgres: Database, url: str) -> Iterator[Callable[[], Connection]]:
    """Gives connections to that schema, past the application."""
    with ExitStack() as exit_stack:
        yield lambda: exit_stack.enter_context(closing(connect_to(postgres, url)))


def connect_to(database: Database, url: str) -> Connection:
    """A connection to the schema of a ledger's URL."""
    schema = url.removeprefix(database.at(""))
    return psycopg.connect(database.url, autocommit=True, options=f"-c search_path={schema}")


def close_gate(gate: Connection) -> None:
    """Hold the slow writer up from now on, until this connection opens the gate, or ends."""
    gate.execute(BLOCK_COMMIT_SQL.encode())
    gate.execute("SELECT pg_advisory_lock(%s)", (GATE_LOCK_KEY,))


def blocked_backends(backend: int, connection: Connection) -> list[int]:
    """The server's processes that wait for one of them."""
    statement = "SELECT pid FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))"
    return [int(str(pid)) for (pid,) in connection.execute(statement, (backend,)).fetchall()]


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert monotonic() < deadline
        sleep(0.01)


def positions_around_slow_commit(gate: Connection, write: Callable[[str], None], page: Page) -> list[int]:
    """What a reader sees that reads while one writer is held up and another may pass, and once more at the end."""
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


def test_plain_sequence_ids_let_a_reader_miss_an_event(connect: Callable[[], Connection]) -> None:
    """The provocation works: the later id is there first, the reader passes, and never sees the earlier one."""
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


def test_positions_of_the_ledger_never_let_a_reader_miss_an_event(connect: Callable[[], Connection], url: str) -> None:
    """The same provocation: the second writer has to wait, and the reader sees both batches, in order."""
    with open_ledger(url) as metering:

        def write(writer: str) -> None:
            with open_ledger(url) as its_own:
                its_own.record_many(batch(writer, 0, 3))

        page: Page = metering._ledger.read_page  # pyright: ignore
        assert positions_around_slow_commit(connect(), write, page) == [1, 2, 3, 4, 5, 6, 7]
        assert [event.identifier[:4] for event in metering.events("tokens")] == ["slow"] * 3 + ["fast"] * 3
