"""Raw SQLite, with the pragmas that the ledger has."""

import sqlite3
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from decimal import Decimal
from itertools import count
from pathlib import Path

from tallybook.application.stores.sqlite import CACHE_KIBIBYTES, CHECKPOINT_PAGES

from .engine import Counted, Grouping, StoredRow
from .sqlite_plain import SQLitePlainTable

GROUP_BY = """
SELECT json_extract(e, '$.payload.customer'), count(*), sum(json_extract(e, '$.payload.tokens')),
       json_extract(e, '$.event_name') AS event_name
FROM (SELECT CAST(state AS TEXT) AS e FROM stored_events WHERE topic = 'UsageRecorded' AND position > ?)
GROUP BY event_name, 1 ORDER BY 1
"""
INSERT = "INSERT INTO stored_events (originator_id, originator_version, topic, state) VALUES (?,?,?,?)"


class SQLite:
    """Ledgers as files in a folder."""

    name = "sqlite"
    insert_name = "executemany"
    group_name = "GROUP BY json_extract"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count(1)
        self.groupings: Mapping[str, str] = {self.group_name: GROUP_BY}

    def version(self) -> str:
        """Its name and version."""
        return f"SQLite {sqlite3.sqlite_version}"

    def new_url(self) -> str:
        """A file that isn't there yet."""
        return f"sqlite:///{self._folder / f'{next(self._numbers)}.db'}"

    def delete(self, url: str) -> None:
        """Remove a ledger's file, and that of its read models."""
        _delete(_file(url))
        self.delete_views(url)

    def delete_views(self, url: str) -> None:
        """Remove the file of the read models."""
        _delete(Path(f"{_file(url)}.views"))

    def settle(self, url: str) -> None:
        """Move what was written from the log into the file."""
        with closing(_connected(_file(url))) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def stored_rows(self, url: str) -> Iterator[StoredRow]:
        """The rows of a ledger, by position."""
        with closing(_connected(_file(url))) as connection:
            yield from connection.execute(
                "SELECT originator_id, originator_version, topic, state FROM stored_events ORDER BY position"
            )

    @contextmanager
    def raw_table(self, url: str) -> Generator["SQLiteTable"]:
        """The ledger's own table, on a connection that is closed afterwards."""
        with closing(_connected(_file(url))) as connection:
            yield SQLiteTable(connection)

    @contextmanager
    def grouping(self, url: str, name: str) -> Generator[Grouping]:
        """GROUP BY over the stored JSON of a ledger, on a connection that is open."""
        with closing(_connected(_file(url))) as connection:

            def grouped(after: int) -> list[Counted]:
                rows = connection.execute(self.groupings[name], (after,))
                return [(customer, counted, Decimal(total)) for customer, counted, total, _ in rows]

            yield grouped

    @contextmanager
    def plain_table(self, url: str) -> Generator["SQLitePlainTable"]:
        """A file with the table, removed afterwards."""
        file = _file(self.new_url())
        with closing(_connected(file)) as connection:
            yield SQLitePlainTable(connection, _file(url))
        _delete(file)


class SQLiteTable:
    """The table of stored events, by itself."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def insert(self, rows: Sequence[StoredRow]) -> None:
        """Store rows in one durable transaction."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(INSERT, rows)
        self._connection.execute("COMMIT")


def _connected(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    return connection


def _file(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def _delete(file: Path) -> None:
    """Delete a database, if it is there, and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{file}{suffix}").unlink(missing_ok=True)
