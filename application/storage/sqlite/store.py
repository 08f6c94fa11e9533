"""A SQLite ledger: its file and the file of its read models, or both in memory."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ....projections.models import PinnedRules
from .event_recorder import SQLiteEventRecorder, open_ledger_datastore
from .read_models import SQLiteReadModelStore, TemporaryReadModelStore, open_read_model_datastore
from .read_only_copy import is_read_only_copy


@dataclass(frozen=True, slots=True)
class SQLiteStore:
    """The databases of a ledger's events and of its read models: absolute paths, or URIs of databases in memory."""

    events_database: str
    read_models_database: str

    @property
    def location(self) -> str:
        """Return the location of the ledger, for messages."""
        return self.events_database

    @property
    def is_persistent(self) -> bool:
        """Return whether the ledger exists after all processes have closed it."""
        return not self.events_database.startswith("file:")

    def exists(self) -> bool:
        """Return whether the ledger exists."""
        return self.is_persistent and Path(self.events_database).exists()

    def delete_read_models(self) -> None:
        """Delete the read models, which no process has open. They are projected again when they are needed."""
        for suffix in ("", "-wal", "-shm"):
            Path(self.read_models_database + suffix).unlink(missing_ok=True)

    def open_recorder(self) -> SQLiteEventRecorder:
        """Open the ledger's events. The ledger is created if it does not exist."""
        return SQLiteEventRecorder(open_ledger_datastore(self.events_database))

    def open_read_models(self, current_rules: Callable[[], PinnedRules]) -> SQLiteReadModelStore:
        """Open the read models. Those of a read-only copy are temporary."""
        if is_read_only_copy(self.events_database):
            return TemporaryReadModelStore(current_rules)
        datastore = open_read_model_datastore(self.read_models_database, permissions_of=self.events_database)
        return SQLiteReadModelStore(datastore, current_rules)
