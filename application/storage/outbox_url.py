"""URLs of outboxes: the addresses of the databases of host programs."""

from ...domain.errors import InvalidLedgerUrl
from .outbox import OutboxTable
from .ports import Store
from .postgres.settings import PostgresSettings
from .sqlite.outbox import SQLiteOutboxTable
from .sqlite.store import SQLiteStore
from .url import resolve_store


def resolve_outbox(url: str | PostgresSettings) -> Store:
    """Return the database of an outbox. Raise InvalidLedgerUrl.

    A URL has the form of a ledger URL, but no schema: the name of the table has it.
    """
    store = resolve_store(url)
    if not store.is_persistent:
        raise InvalidLedgerUrl("An outbox can't be relayed from a database in memory: use a file.", field="url")
    if _states_schema(url):
        raise InvalidLedgerUrl(
            "The URL of an outbox has no schema: state it in the name of the table, as in 'shop.tallybook_outbox'.",
            field="url",
        )
    return store


def open_outbox_table(url: str | PostgresSettings, table: str) -> OutboxTable:
    """Return the table of an outbox in the host's database. Raise InvalidLedgerUrl."""
    store = resolve_outbox(url)
    if isinstance(store, SQLiteStore):
        return SQLiteOutboxTable(store.events_database, table)
    from .postgres.outbox import PostgresOutboxTable  # noqa: PLC0415 - an extra

    settings = url if isinstance(url, PostgresSettings) else PostgresSettings.parse(url)
    return PostgresOutboxTable(settings, table)


def _states_schema(url: str | PostgresSettings) -> bool:
    if isinstance(url, PostgresSettings):
        return "schema_name" in url.model_fields_set
    return any(parameter.startswith("schema=") for parameter in url.partition("?")[2].split("&"))
