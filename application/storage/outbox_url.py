"""URLs of outboxes: the addresses of the databases of host programs."""

from ...domain.errors import InvalidLedgerUrl
from .outbox import OutboxTable
from .postgres.settings import PostgresSettings
from .sqlite.outbox import SQLiteOutboxTable
from .sqlite.store import SQLiteStore
from .url import resolve_store


def open_outbox_table(url: str | PostgresSettings, table: str) -> OutboxTable:
    """Return the table of an outbox in the host's database. Raise InvalidLedgerUrl.

    A URL has the form of a ledger URL, but no schema: the name of the table has it.
    """
    store = resolve_store(url)
    if isinstance(store, SQLiteStore):
        if not store.is_persistent:
            raise InvalidLedgerUrl("An outbox can't be relayed from a database in memory: use a file.", field="url")
        return SQLiteOutboxTable(store.events_database, table)
    from .postgres.outbox import PostgresOutboxTable  # noqa: PLC0415 - an extra

    settings = url if isinstance(url, PostgresSettings) else PostgresSettings.parse(url)
    if "schema_name" in settings.model_fields_set if settings is url else _states_schema(str(url)):
        raise InvalidLedgerUrl(
            "The URL of an outbox has no schema: state it in the name of the table, as in 'shop.tallybook_outbox'.",
            field="url",
        )
    return PostgresOutboxTable(settings, table)


def _states_schema(url: str) -> bool:
    return any(parameter.startswith("schema=") for parameter in url.partition("?")[2].split("&"))
