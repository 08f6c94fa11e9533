"""A PostgreSQL ledger: its schema and the schema of its read models."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Self

from ....projections.models import PinnedRules
from .connection import PostgresDatastore
from .event_recorder import PostgresEventRecorder
from .ledger_schema import LEDGER_SCHEMA
from .monitored_connection import ServerMonitor
from .parameters import connection_parameters, describe_location
from .read_model_datastore import ReadModelDatastore
from .read_models import PostgresReadModelStore
from .settings import READ_MODELS_SUFFIX, PostgresSettings


@dataclass(frozen=True, slots=True)
class PostgresStore:
    """The schemas of a ledger's events and of its read models."""

    settings: PostgresSettings
    monitor: ServerMonitor = field(compare=False, repr=False)

    is_persistent = True

    @classmethod
    def create(cls, settings: PostgresSettings) -> Self:
        """Return the store with these settings. Raise InvalidLedgerUrl."""
        return cls(settings, ServerMonitor(connection_parameters(settings), settings.timeout_seconds))

    def __reduce__(self) -> tuple[object, ...]:
        """Return how a worker process gets the store: with a monitor of its own."""
        return type(self).create, (self.settings,)

    @property
    def location(self) -> str:
        """Return the location of the ledger, for messages."""
        return f"PostgreSQL on {describe_location(self.settings, self.settings.schema_name)}"

    def exists(self) -> bool:
        """Return whether the ledger exists."""
        with closing(self._ledger_datastore()) as datastore:
            datastore.check_connection()
            return LEDGER_SCHEMA.exists_in(datastore)

    def delete_read_models(self) -> None:
        """Delete the read models, which no process has open. They are projected again when they are needed."""
        with closing(self._read_model_datastore()) as datastore:
            datastore.check_connection()
            with datastore.transaction_for("write") as connection:
                connection.execute(datastore.format_sql("DROP SCHEMA IF EXISTS {schema} CASCADE"))

    def open_recorder(self) -> PostgresEventRecorder:
        """Open the ledger's events. The ledger is created if it does not exist."""
        datastore = self._ledger_datastore()
        try:
            return PostgresEventRecorder(datastore)
        except BaseException:
            datastore.close()
            raise

    def open_read_models(self, current_rules: Callable[[], PinnedRules]) -> PostgresReadModelStore:
        """Open the read models. They get half of the connections, because each query also reads the ledger."""
        return PostgresReadModelStore(self._read_model_datastore(), current_rules)

    def _ledger_datastore(self) -> PostgresDatastore:
        limit = self.settings.max_connections // 2
        return PostgresDatastore(self.settings, self.settings.schema_name, limit, self.monitor)

    def _read_model_datastore(self) -> ReadModelDatastore:
        limit = self.settings.max_connections - self.settings.max_connections // 2
        schema = f"{self.settings.schema_name}{READ_MODELS_SUFFIX}"
        datastore = ReadModelDatastore(self.settings, schema, limit, self.monitor)
        datastore.schemas_in_use = (schema, self.settings.schema_name)  # a read session also reads the ledger's head
        return datastore
