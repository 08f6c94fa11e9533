"""The stores that a world can be made in, and their rows as they lie there, read past the package."""

import json
import sqlite3
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from tallybook.application import Metering
from tallybook.application.stores.sqlite_ledger import SQLiteLedgerRecorder

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


def rows_of(found: Sequence[tuple[int, str, int, str, bytes]]) -> list[Row]:
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


STORES: Mapping[str, Callable[[], AbstractContextManager[Place]]] = {"sqlite": sqlite_file, "memory": sqlite_memory}
