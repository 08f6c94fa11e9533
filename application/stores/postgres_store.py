"""A ledger on PostgreSQL: a schema, and another one for its read models."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass

from ...domain.rules import Rules
from .postgres import Datastore, place_of
from .postgres_ledger import LEDGER, PostgresLedgerRecorder
from .postgres_settings import PostgresSettings
from .postgres_views import PostgresViews


@dataclass(frozen=True, slots=True)
class PostgresStore:
    """The schemas of a ledger's events and of its read models."""

    settings: PostgresSettings

    is_lasting = True

    @property
    def place(self) -> str:
        """Where it is, in words."""
        return f"PostgreSQL on {place_of(self.settings, self.settings.schema_name)}"

    def exists(self) -> bool:
        """Whether there is a ledger already."""
        with closing(self._ledger()) as datastore:
            return LEDGER.is_in(datastore)

    def forget(self) -> None:
        """Do away with the read models, which nobody has open; they are made again."""
        with closing(self._views()) as datastore, datastore.session("write") as connection:
            connection.execute(datastore.named("DROP SCHEMA IF EXISTS {schema} CASCADE"))

    def recorder(self) -> PostgresLedgerRecorder:
        """The ledger's rows, opened; begun where there is no ledger yet."""
        datastore = self._ledger()
        try:
            return PostgresLedgerRecorder(datastore)
        except BaseException:
            datastore.close()
            raise

    def views(self, current_rules: Callable[[], Mapping[str, Rules]]) -> PostgresViews:
        """The read models, opened. Who asks them also asks the ledger, which has the other half of the connections."""
        return PostgresViews(self._views(), current_rules)

    def _ledger(self) -> Datastore:
        return Datastore(self.settings, self.settings.schema_name, self.settings.max_connections // 2)

    def _views(self) -> Datastore:
        limit = self.settings.max_connections - self.settings.max_connections // 2
        return Datastore(self.settings, f"{self.settings.schema_name}_views", limit)
