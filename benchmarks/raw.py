"""Raw SQLite, as close to what Tallybook does with it as can be."""

import sqlite3
from pathlib import Path

from tallybook.application.stores.sqlite import CACHE_KIBIBYTES, CHECKPOINT_PAGES

StoredRow = tuple[str, int, str, bytes]


def connected(file: Path) -> sqlite3.Connection:
    """A connection with the pragmas that the ledger has."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    return connection


def schema(ledger: Path) -> list[str]:
    """The statements that make the tables, indexes and triggers of a ledger."""
    connection = connected(ledger)
    found = connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid").fetchall()
    connection.close()
    return [statement for (statement,) in found]


def stored_rows(ledger: Path) -> list[StoredRow]:
    """All rows of a ledger, in order."""
    connection = connected(ledger)
    found = connection.execute(
        "SELECT originator_id, originator_version, topic, state FROM stored_events ORDER BY position"
    ).fetchall()
    connection.close()
    return found
