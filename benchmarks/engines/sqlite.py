"""Raw SQLite, with the same pragmas as the ledger."""

import sqlite3
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from decimal import Decimal
from itertools import count
from pathlib import Path

from tallybook.application.storage.sqlite.connection import CACHE_KIBIBYTES, CHECKPOINT_PAGES

from .engine import BY_CUSTOMER, CountAndSum, GroupBy, StoredRow
from .sqlite_typed_table import SQLiteTypedTable

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
        """Return the name and version of the engine."""
        return f"SQLite {sqlite3.sqlite_version}"

    def new_url(self) -> str:
        """Return the URL of a file that does not exist."""
        return f"sqlite:///{self._folder / f'{next(self._numbers)}.db'}"

    def delete(self, url: str) -> None:
        """Remove the file of a ledger and that of its read models."""
        _delete(_file(url))
        self.delete_read_models(url)

    def delete_read_models(self, url: str) -> None:
        """Remove the file of the read models."""
        _delete(Path(f"{_file(url)}.read-models"))

    def settle(self, url: str) -> None:
        """Move the content of the write-ahead log into the database file."""
        with closing(_connect(_file(url))) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def stored_rows(self, url: str) -> Iterator[StoredRow]:
        """Yield the rows of a ledger, ordered by position."""
        with closing(_connect(_file(url))) as connection:
            yield from connection.execute(
                "SELECT originator_id, originator_version, topic, state FROM stored_events ORDER BY position"
            )

    @contextmanager
    def raw_table(self, url: str) -> Generator["SQLiteTable"]:
        """Return the ledger's own table, on a connection that is closed on exit."""
        with closing(_connect(_file(url))) as connection:
            yield SQLiteTable(connection)

    @contextmanager
    def group_by(self, url: str, name: str) -> Generator[GroupBy]:
        """Return a GROUP BY over the stored JSON of a ledger, on an open connection."""
        with closing(_connect(_file(url))) as connection:

            def run(after: int) -> list[CountAndSum]:
                rows = connection.execute(self.groupings[name], (after,))
                return [(customer, event_count, Decimal(total)) for customer, event_count, total, _ in rows]

            yield run

    def storage_bytes(self, url: str) -> tuple[int, int]:
        """Return the size of the file of a ledger, and of that of its read models, without their write-ahead logs."""
        files = _file(url), Path(f"{_file(url)}.read-models")
        for file in files:
            self.settle(f"sqlite:///{file}")
        return files[0].stat().st_size, files[1].stat().st_size

    @contextmanager
    def typed_table(self, url: str, index: Sequence[str] = BY_CUSTOMER) -> Generator["SQLiteTypedTable"]:
        """Create a file with a typed table, and remove it on exit."""
        file = _file(self.new_url())
        with closing(_connect(file)) as connection:
            yield SQLiteTypedTable(connection, _file(url), index)
        _delete(file)


class SQLiteTable:
    """The ledger's table of stored events."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def insert(self, rows: Sequence[StoredRow]) -> None:
        """Store rows in one durable transaction."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(INSERT, rows)
        self._connection.execute("COMMIT")


def _connect(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    return connection


def _file(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def _delete(file: Path) -> None:
    """Delete a database file, its write-ahead log and its shared-memory file, if they exist."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{file}{suffix}").unlink(missing_ok=True)
