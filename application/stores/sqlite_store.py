"""A ledger on SQLite: its file, and that of its read models beside it; or both in memory."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ...domain.rules import Rules
from .sqlite_ledger import SQLiteLedgerRecorder, ledger_datastore
from .sqlite_views import SQLiteViews, views_datastore


@dataclass(frozen=True, slots=True)
class SQLiteStore:
    """The SQLite databases of a ledger's events and of its read models: absolute paths, or URIs in memory."""

    events_database: str
    views_database: str

    def recorder(self) -> SQLiteLedgerRecorder:
        """The ledger's rows, opened; begun where there is no ledger yet."""
        return SQLiteLedgerRecorder(ledger_datastore(self.events_database))

    def views(self, current_rules: Callable[[], Mapping[str, Rules]]) -> SQLiteViews:
        """The read models, opened."""
        return SQLiteViews(views_datastore(self.views_database), current_rules)
