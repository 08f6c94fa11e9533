"""The stores that a world can be made in, and their rows as they lie there, read past the package."""

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
from tallybook.application import Metering, PostgresSettings
from tallybook.application.stores.sqlite_ledger import SQLiteLedgerRecorder

from ..postgres import Database, database
from .faults import KINDS
from .model import Row

Clock = Callable[[], datetime]
_QUERY = (
    "SELECT position, originator_id, originator_version, topic, state FROM stored_events WHERE position > ? ORDER BY 1"
)
_connect = sqlite3.connect


@dataclass
class Place:
    """Where one ledger is: to be opened as often as `processes` says, read past the package, and tidied up."""

    url: str
    processes: int = 3
    faults: tuple[str, ...] = tuple(kind for kind in KINDS if kind != "connection lost")

    def open(self, clock: Clock) -> Metering:
        """Open the ledger once more."""
        return Metering.open(self.url, clock=clock)

    def rows(self, after: int) -> list[Row]:
        """The rows after a position."""
        with closing(_connect(self.url.removeprefix("sqlite:///"))) as connection:
            return rows_of(connection.execute(_QUERY, (after,)).fetchall())

    def delete_views(self) -> None:
        """Delete the read models; nobody has the ledger open."""
        for suffix in (".views", ".views-wal", ".views-shm"):
            Path(self.url.removeprefix("sqlite:///") + suffix).unlink(missing_ok=True)


@dataclass
class InMemory(Place):
    """A ledger in memory: there for as long as it is open, and only for who opened it."""

    url: str = "sqlite://"
    processes: int = 1
    faults: tuple[str, ...] = ("disk full", "disk I/O error", "answer lost")
    _opened: list[Metering] = field(default_factory=list[Metering])

    def open(self, clock: Clock) -> Metering:
        """Open it, once."""
        self._opened.append(Metering.open(self.url, clock=clock))
        return self._opened[-1]

    def rows(self, after: int) -> list[Row]:
        """The rows after a position."""
        recorder = self._opened[-1]._ledger.ledger_recorder  # pyright: ignore[reportPrivateUsage]
        assert isinstance(recorder, SQLiteLedgerRecorder)
        with closing(_connect(recorder.datastore.pool.db_name, uri=True)) as connection:
            return rows_of(connection.execute(_QUERY, (after,)).fetchall())


@dataclass
class InPostgres(Place):
    """A ledger in a schema. It gives up soon: nobody will let go of what they hold meanwhile."""

    faults: tuple[str, ...] = KINDS

    def open(self, clock: Clock) -> Metering:
        """Open the ledger once more."""
        settings = PostgresSettings.parse(self.url).model_copy(update={"timeout_seconds": 1.0})
        return Metering.open(settings, clock=clock)

    def rows(self, after: int) -> list[Row]:
        """The rows after a position, past psycopg's cursors, which may be watched."""
        settings = PostgresSettings.parse(self.url)
        table = f'FROM "{settings.schema_name}".stored_events WHERE position > {after} ORDER BY position'
        with _asked(settings, f"SELECT position, originator_id, originator_version, topic, state {table}") as found:
            texts = [
                [(found.get_value(number, column) or b"").decode() for column in range(5)]
                for number in range(found.ntuples)
            ]
        return rows_of(
            (int(position), stream, int(version), topic, bytes.fromhex(state[2:]))
            for position, stream, version, topic, state in texts
        )

    def delete_views(self) -> None:
        """Drop the read models; nobody has the ledger open."""
        settings = PostgresSettings.parse(self.url)
        with _asked(settings, f'DROP SCHEMA IF EXISTS "{settings.schema_name}_views" CASCADE'):
            pass


@contextmanager
def _asked(settings: PostgresSettings, statement: str) -> Generator[Any]:
    connection = PGconn.connect(settings.url.get_secret_value().encode())
    try:
        found = connection.exec_(statement.encode())
        assert found.status in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK), found.error_message
        yield found
    finally:
        connection.finish()


def rows_of(found: Iterable[tuple[int, str, int, str, bytes]]) -> list[Row]:
    """Stored events, their JSON read."""
    return [
        Row(position, stream, version, topic, json.loads(state)) for position, stream, version, topic, state in found
    ]


@contextmanager
def sqlite_file() -> Generator[Place]:
    """A ledger in a file, in memory where the system has files there: what is tried is the order of things."""
    quick = Path("/dev/shm")
    with TemporaryDirectory(prefix="tallybook-", dir=quick if quick.is_dir() else None) as folder:
        yield Place(f"sqlite:///{folder}/usage.db")


@contextmanager
def sqlite_memory() -> Generator[Place]:
    """A ledger in memory."""
    yield InMemory()


@contextmanager
def in_postgres() -> Generator[Place]:
    """A ledger in a schema of its own, on one server for all the ledgers of this process."""
    yield InPostgres(server().fresh_url())
    server().drop_schemas()


def server() -> Database:
    """The database of `SERVERS`, or of a server of our own, which ends with this process."""
    if not SERVERS:
        kept = ExitStack()
        SERVERS.append(kept.enter_context(database()))
        atexit.register(kept.close)
    return SERVERS[0]


SERVERS: list[Database] = []
STORES: Mapping[str, Callable[[], AbstractContextManager[Place]]] = {
    "sqlite": sqlite_file,
    "memory": sqlite_memory,
    "postgres": in_postgres,
}
