"""The stores that a simulation can run on, and their stored rows, read without the package."""

import atexit
import json
import sqlite3
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from psycopg.pq import ExecStatus, PGconn
from tallybook.application import AcceptancePolicy, Metering, PostgresSettings
from tallybook.application.storage.sqlite.event_recorder import SQLiteEventRecorder

from ..postgres import Database, database
from .fault_plan import FAULT_KINDS
from .model import Row

Clock = Callable[[], datetime]
_QUERY = (
    "SELECT position, originator_id, originator_version, topic, state FROM stored_events WHERE position > ? ORDER BY 1"
)
_connect = sqlite3.connect


POLICY = AcceptancePolicy(max_clock_delay=None)
"""Operations of other processes may take hours between the moment in which one reads the clock and appends."""


@dataclass
class LedgerLocation:
    """The location of one ledger, which up to `processes` processes can open at once."""

    url: str
    processes: int = 3
    faults: tuple[str, ...] = tuple(kind for kind in FAULT_KINDS if kind != "connection lost")

    def open(self, clock: Clock) -> Metering:
        """Open the ledger again, as another process."""
        return Metering.open(self.url, policy=POLICY, clock=clock)

    def rows(self, after: int) -> list[Row]:
        """Return the rows after a position."""
        with closing(_connect(self.url.removeprefix("sqlite:///"))) as connection:
            return parse_rows(connection.execute(_QUERY, (after,)).fetchall())

    def delete_read_models(self) -> None:
        """Delete the read models; no process has the ledger open."""
        for suffix in (".read-models", ".read-models-wal", ".read-models-shm"):
            Path(self.url.removeprefix("sqlite:///") + suffix).unlink(missing_ok=True)


@dataclass
class InMemoryLocation(LedgerLocation):
    """A ledger in memory: it exists while it is open, and only one process can open it."""

    url: str = "sqlite://"
    processes: int = 1
    faults: tuple[str, ...] = ("disk full", "disk I/O error", "response lost")
    _opened: list[Metering] = field(default_factory=list[Metering])

    def open(self, clock: Clock) -> Metering:
        """Open the ledger; it can be opened once."""
        self._opened.append(Metering.open(self.url, policy=POLICY, clock=clock))
        return self._opened[-1]

    def rows(self, after: int) -> list[Row]:
        """Return the rows after a position."""
        recorder = self._opened[-1]._ledger.ledger_recorder  # pyright: ignore[reportPrivateUsage]
        assert isinstance(recorder, SQLiteEventRecorder)
        with closing(_connect(recorder.datastore.pool.db_name, uri=True)) as connection:
            return parse_rows(connection.execute(_QUERY, (after,)).fetchall())


@dataclass
class PostgresLocation(LedgerLocation):
    """A ledger in a PostgreSQL schema, with short timeouts: no other operation can release a lock during a wait."""

    faults: tuple[str, ...] = FAULT_KINDS

    def open(self, clock: Clock) -> Metering:
        """Open the ledger again, as another process."""
        settings = PostgresSettings.parse(self.url).model_copy(update={"timeout_seconds": 1.0})
        return Metering.open(settings, policy=POLICY, clock=clock)

    def rows(self, after: int) -> list[Row]:
        """Return the rows after a position, without psycopg's cursors, which the simulation may observe."""
        settings = PostgresSettings.parse(self.url)
        table = f'FROM "{settings.schema_name}".stored_events WHERE position > {after} ORDER BY position'
        with _query(settings, f"SELECT position, originator_id, originator_version, topic, state {table}") as result:
            texts = [
                [(result.get_value(number, column) or b"").decode() for column in range(5)]
                for number in range(result.ntuples)
            ]
        return parse_rows(
            (int(position), stream, int(version), topic, bytes.fromhex(state[2:]))
            for position, stream, version, topic, state in texts
        )

    def delete_read_models(self) -> None:
        """Drop the read models; no process has the ledger open."""
        settings = PostgresSettings.parse(self.url)
        with _query(settings, f'DROP SCHEMA IF EXISTS "{settings.schema_name}_read_models" CASCADE'):
            pass


@contextmanager
def _query(settings: PostgresSettings, statement: str) -> Generator[Any]:
    connection = PGconn.connect(settings.url.get_secret_value().encode())
    try:
        result = connection.exec_(statement.encode())
        assert result.status in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK), result.error_message
        yield result
    finally:
        connection.finish()


def parse_rows(stored_rows: Iterable[tuple[int, str, int, str, bytes]]) -> list[Row]:
    """Return stored events with decoded JSON."""
    return [
        Row(position, stream, version, topic, json.loads(state))
        for position, stream, version, topic, state in stored_rows
    ]


@contextmanager
def sqlite_file_location() -> Generator[LedgerLocation]:
    """Yield a ledger in a file, in a memory file system if there is one: the simulation tests order, not disks."""
    quick = Path("/dev/shm")
    with TemporaryDirectory(prefix="tallybook-", dir=quick if quick.is_dir() else None) as folder:
        yield LedgerLocation(f"sqlite:///{folder}/usage.db")


@contextmanager
def sqlite_memory_location() -> Generator[LedgerLocation]:
    """Yield a ledger in memory."""
    yield InMemoryLocation()


@contextmanager
def postgres_location() -> Generator[LedgerLocation]:
    """Yield a ledger in a new schema, on one server for all ledgers of this process."""
    yield PostgresLocation(server().fresh_url())
    server().drop_schemas()


def server() -> Database:
    """Return the database of `CONFIGURED_DATABASES`, or start a server that ends with this process."""
    if not CONFIGURED_DATABASES:
        exit_stack = ExitStack()
        CONFIGURED_DATABASES.append(exit_stack.enter_context(database()))
        atexit.register(exit_stack.close)
    return CONFIGURED_DATABASES[0]


CONFIGURED_DATABASES: list[Database] = []
STORES: Mapping[str, Callable[[], AbstractContextManager[LedgerLocation]]] = {
    "sqlite": sqlite_file_location,
    "memory": sqlite_memory_location,
    "postgres": postgres_location,
}
