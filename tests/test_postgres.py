"""The PostgreSQL server of the tests: it starts, recovers committed rows after a crash, and is removed completely."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from time import monotonic, sleep

import psutil
import psycopg
import pytest

from .postgres import SERVER_URL_VARIABLE, Database, Server, database

ROOT = Path(__file__).parents[1]

START_AND_WAIT = """
import time
from tests.postgres import Server
server = Server()
print(server.folder, server.data, server.processes[0].pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def server() -> Iterator[Server]:
    """Start a server that no other test uses."""
    with closing(Server()) as started:
        yield started


def test_the_shared_server_answers(postgres: Database) -> None:
    """A query returns its result."""
    with closing(postgres.connect()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_no_two_tests_share_a_schema(postgres: Database) -> None:
    """Each call of `fresh_url` returns another schema of the same database."""
    first, second = postgres.fresh_url(), postgres.fresh_url()
    assert first != second
    assert first.rpartition("schema=")[0] == second.rpartition("schema=")[0]


def test_a_configured_server_is_used_and_left_clean(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end, the schemas of the tests and of their read models are dropped from the configured server."""
    monkeypatch.setenv(SERVER_URL_VARIABLE, server.database.url)
    with closing(server.database.connect()) as connection:
        with database() as configured:
            schema = configured.fresh_url().removeprefix(configured.at(""))
            assert configured.at(schema) == server.url(schema)
            for name in (schema, f"{schema}_read_models"):
                connection.execute(f"CREATE SCHEMA {name}".encode())
        assert server.running
        remaining = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 't\\_%'").fetchall()
    assert remaining == []


@pytest.mark.parametrize("end", [Server.stop_immediately, Server.kill], ids=["stopped", "killed"])
def test_committed_rows_survive_a_restart(server: Server, end: Callable[[Server], None]) -> None:
    """Connections end with the server, and uncommitted rows are lost."""
    before, open_still = server.database.connect(), psycopg.connect(server.database.url)
    before.execute("CREATE TABLE numbers (number integer)")
    before.execute("INSERT INTO numbers VALUES (1)")
    open_still.execute("INSERT INTO numbers VALUES (2)")
    end(server)
    assert not server.running
    with pytest.raises(psycopg.OperationalError):
        before.execute("SELECT 1")
    before.close()
    open_still.close()
    with pytest.raises(psycopg.OperationalError):
        server.database.connect()
    server.start()
    assert server.running
    with closing(server.database.connect()) as after:
        assert after.execute("SELECT number FROM numbers").fetchall() == [(1,)]


@pytest.mark.parametrize("kill", [False, True], ids=["running", "killed"])
def test_nothing_is_left_of_a_closed_server(kill: bool) -> None:
    """Its processes and its folders are removed, whether it was running or killed."""
    server = Server()
    processes = server.processes
    if kill:
        server.kill()
    server.close()
    assert not server.folder.exists()
    assert not server.data.exists()
    assert psutil.wait_procs(processes, 10)[1] == []


def test_nothing_is_left_of_a_server_whose_starter_was_killed() -> None:
    """The server is removed even if its starter was killed by SIGKILL."""
    with ExitStack() as exit_stack:
        starter = subprocess.Popen([sys.executable, "-c", START_AND_WAIT], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        exit_stack.enter_context(starter)
        exit_stack.callback(starter.kill)
        assert starter.stdout is not None
        *folders, pid = starter.stdout.readline().split()
        processes = [psutil.Process(int(pid)), *psutil.Process(int(pid)).children()]
    assert psutil.wait_procs(processes, 10)[1] == []
    deadline = monotonic() + 10
    while any(Path(folder).exists() for folder in folders):
        assert monotonic() < deadline
        sleep(0.05)
