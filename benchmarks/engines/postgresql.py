"""Raw PostgreSQL: a temporary server with default settings, or an existing database."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import Connection

from tests.postgres import Database, Server

from .engine import BY_CUSTOMER, CountAndSum, GroupBy, StoredRow
from .postgresql_typed_table import PostgreSQLTypedTable, format_statement, schema_name

SETTINGS = ("listen_addresses=", "max_connections=60", "port=5432", "timezone=UTC")
"""The settings that a server in a folder needs. Commits are durable."""
GROUP_BY = """
SELECT e -> 'payload' ->> 'customer', count(*), sum((e -> 'payload' ->> 'tokens')::numeric),
       e ->> 'event_name' AS event_name
FROM (
    SELECT convert_from(state, 'UTF8')::jsonb AS e
    FROM {schema}.stored_events WHERE topic = 'UsageRecorded' AND position > %s
) AS events
GROUP BY event_name, 1 ORDER BY 1
"""
FASTEST_GROUP_BY = """
SELECT p.customer, count(*), sum(p.tokens), e.event_name
FROM {schema}.stored_events
CROSS JOIN LATERAL jsonb_to_record(convert_from(state, 'UTF8')::jsonb) AS e (event_name text, payload jsonb)
CROSS JOIN LATERAL jsonb_to_record(e.payload) AS p (customer text, tokens numeric)
WHERE topic = 'UsageRecorded' AND position > %s
GROUP BY e.event_name, 1 ORDER BY 1
"""  # the fastest of eight measured statements: it parses each state once
STORAGE_BYTES = """
SELECT sum(pg_total_relation_size(pg_class.oid)) FROM pg_class JOIN pg_namespace ON relnamespace = pg_namespace.oid
WHERE relkind = 'r' AND nspname = %s
"""


class PostgreSQL:
    """Ledgers as schemas of a database."""

    name = "postgresql"
    insert_name = "binary COPY"
    group_name = "GROUP BY jsonb ->>"

    def __init__(self, database: Database) -> None:
        self._database = database
        self.groupings: Mapping[str, str] = {
            self.group_name: GROUP_BY,
            "GROUP BY jsonb_to_record": FASTEST_GROUP_BY,
        }

    def version(self) -> str:
        """Return the name and version of the engine."""
        with closing(self._database.connect()) as connection:
            return f"PostgreSQL {connection.info.parameter_status('server_version')}"

    def new_url(self) -> str:
        """Return the URL of a schema that does not exist."""
        return self._database.fresh_url()

    def delete(self, url: str) -> None:
        """Remove the schema of a ledger and that of its read models."""
        self._execute(url, "DROP SCHEMA IF EXISTS {schema} CASCADE")
        self.delete_read_models(url)

    def delete_read_models(self, url: str) -> None:
        """Remove the schema of the read models."""
        self._execute(url, "DROP SCHEMA IF EXISTS {read_models} CASCADE")

    def settle(self, url: str) -> None:
        """Run VACUUM ANALYZE, as autovacuum would do later, and a checkpoint."""
        self._execute(url, "VACUUM ANALYZE {schema}.stored_events")
        self._execute(url, "CHECKPOINT")

    def stored_rows(self, url: str) -> Iterator[StoredRow]:
        """Yield the rows of a ledger, ordered by position."""
        statement = (
            "SELECT originator_id, originator_version, topic, state FROM {schema}.stored_events ORDER BY position"
        )
        with (
            psycopg.connect(self._database.url) as connection,
            connection.cursor("stored_rows", binary=True) as cursor,
        ):
            cursor.itersize = 20_000
            yield from cursor.execute(format_statement(url, statement))

    @contextmanager
    def raw_table(self, url: str) -> Generator["PostgreSQLTable"]:
        """Return the ledger's own table, on a connection that is closed on exit."""
        with closing(self._database.connect()) as connection:
            yield PostgreSQLTable(connection, url)

    @contextmanager
    def group_by(self, url: str, name: str) -> Generator[GroupBy]:
        """Return a GROUP BY over the stored JSON of a ledger, on an open connection with parallel workers."""
        with closing(self._database.connect()) as connection:

            def run(after: int) -> list[CountAndSum]:
                rows = connection.execute(format_statement(url, self.groupings[name]), (after,), prepare=False)
                return [(customer, event_count, Decimal(total)) for customer, event_count, total, _ in rows]

            yield run

    def storage_bytes(self, url: str) -> tuple[int, int]:
        """Return the size of the tables of a ledger, and of those of its read models, with their indexes."""
        schema = schema_name(url)
        with closing(self._database.connect()) as connection:
            (ledger,), (read_models,) = (
                connection.execute(STORAGE_BYTES, (name,)).fetchall()[0] for name in (schema, f"{schema}_read_models")
            )
        return int(ledger), int(read_models)

    @contextmanager
    def typed_table(self, url: str, index: Sequence[str] = BY_CUSTOMER) -> Generator["PostgreSQLTypedTable"]:
        """Create a typed table in the ledger's schema, and remove it on exit."""
        with closing(self._database.connect()) as connection:
            table = PostgreSQLTypedTable(connection, url, index)
            yield table
            table.drop()

    def _execute(self, url: str, statement: str) -> None:
        with closing(self._database.connect()) as connection:
            connection.execute(format_statement(url, statement))


class PostgreSQLTable:
    """The ledger's table of stored events."""

    def __init__(self, connection: Connection[Any], url: str) -> None:
        self._connection = connection
        self._copy = format_statement(
            url,
            "COPY {schema}.stored_events (position, originator_id, originator_version, topic, state)"
            " FROM STDIN (FORMAT BINARY)",
        )
        self._position = connection.execute(
            format_statement(url, "SELECT max(position) FROM {schema}.stored_events")
        ).fetchall()[0][0]

    def insert(self, rows: Sequence[StoredRow]) -> None:
        """Store rows in one durable transaction."""
        with self._connection.cursor() as cursor, cursor.copy(self._copy) as copy:
            copy.set_types(("int8", "text", "int8", "text", "bytea"))
            for position, row in enumerate(rows, self._position + 1):
                copy.write_row((position, *row))
        self._position += len(rows)


@contextmanager
def open_postgresql(url: str | None) -> Generator[PostgreSQL]:
    """Use the database at `url`, or start a temporary server. Everything is removed on exit."""
    if url is not None:
        database = Database(url)
        try:
            yield PostgreSQL(database)
        finally:
            database.drop_schemas()
    else:
        with closing(Server(SETTINGS)) as server:
            yield PostgreSQL(server.database)
