"""A ledger on SQLite: its file, and that of its read models beside it; or both in memory."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...domain.rules import Rules
from .sqlite_ledger import SQLiteLedgerRecorder, ledger_datastore
from .sqlite_views import SQLiteViews, views_datastore


@dataclass(frozen=True, slots=True)
class SQLiteStore:
    """The SQLite databases of a ledger's events and of its read models: absolute paths, or URIs in memory."""

    events_database: str
    views_database: str

    @property
    def place(self) -> str:
        """Where it is, in words."""
        return self.events_database

    @property
    def is_lasting(self) -> bool:
        """Whether it is there still when nobody has it open."""
        return not self.events_database.startswith("file:")

    def exists(self) -> bool:
        """Whether there is a ledger already."""
        return self.is_lasting and Path(self.events_database).exists()

    def forget(self) -> None:
        """Do away with the read models, which nobody has open; they are made again."""
        for suffix in ("", "-wal", "-shm"):
            Path(self.views_database + suffix).unlink(missing_ok=True)

    def recorder(self) -> SQLiteLedgerRecorder:
        """The ledger's rows, opened; begun where there is no ledger yet."""
        return SQLiteLedgerRecorder(ledger_datastore(self.events_database))

    def views(self, current_rules: Callable[[], Mapping[str, Rules]]) -> SQLiteViews:
        """The read models, opened."""
        return SQLiteViews(views_datastore(self.views_database), current_rules)
