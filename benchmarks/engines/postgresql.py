"""Raw PostgreSQL: a server of the benchmarks' own, with its settings as they come, or one that is given."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import Connection

from tests.postgres import Database, Server

from .engine import Counted, Grouping, StoredRow
from .postgresql_plain import PostgreSQLPlainTable, named

SETTINGS = ("listen_addresses=", "max_connections=60", "port=5432", "timezone=UTC")
"""No more than what a server in a folder needs: what is committed is on disk."""
GROUP_BY = """
SELECT e -> 'payload' ->> 'customer', count(*), sum((e -> 'payload' ->> 'tokens')::numeric),
       e ->> 'event_name' AS event_name
FROM (
    SELECT convert_from(state, 'UTF8')::jsonb AS e
    FROM {schema}.stored_events WHERE topic = 'UsageRecorded' AND position > %s
) AS events
GROUP BY event_name, 1 ORDER BY 1
"""
QUICKEST_GROUP_BY = """
SELECT p.customer, count(*), sum(p.tokens), e.event_name
FROM {schema}.stored_events
CROSS JOIN LATERAL jsonb_to_record(convert_from(state, 'UTF8')::jsonb) AS e (event_name text, payload jsonb)
CROSS JOIN LATERAL jsonb_to_record(e.payload) AS p (customer text, tokens numeric)
WHERE topic = 'UsageRecorded' AND position > %s
GROUP BY e.event_name, 1 ORDER BY 1
"""  # measured to be the quickest of eight ways: each state is read once


class PostgreSQL:
    """Ledgers as schemas of a database."""

    name = "postgresql"
    insert_name = "binary COPY"
    group_name = "GROUP BY jsonb ->>"

    def __init__(self, database: Database) -> None:
        self._database = database
        self.groupings: Mapping[str, str] = {
            self.group_name: GROUP_BY,
            "GROUP BY jsonb_to_record": QUICKEST_GROUP_BY,
        }

    def version(self) -> str:
        """Its name and version."""
        with closing(self._database.connect()) as connection:
            return f"PostgreSQL {connection.info.parameter_status('server_version')}"

    def new_url(self) -> str:
        """A schema that isn't there yet."""
        return self._database.fresh_url()

    def delete(self, url: str) -> None:
        """Remove the schema of a ledger, and that of its read models."""
        self._do(url, "DROP SCHEMA IF EXISTS {schema} CASCADE")
        self.delete_views(url)

    def delete_views(self, url: str) -> None:
        """Remove the schema of the read models."""
        self._do(url, "DROP SCHEMA IF EXISTS {views} CASCADE")

    def settle(self, url: str) -> None:
        """Do what autovacuum would do some time after, and what a checkpoint does."""
        self._do(url, "VACUUM ANALYZE {schema}.stored_events")
        self._do(url, "CHECKPOINT")

    def stored_rows(self, url: str) -> Iterator[StoredRow]:
        """The rows of a ledger, by position."""
        statement = (
            "SELECT originator_id, originator_version, topic, state FROM {schema}.stored_events ORDER BY position"
        )
        with (
            psycopg.connect(self._database.url) as connection,
            connection.cursor("stored_rows", binary=True) as cursor,
        ):
            cursor.itersize = 20_000
            yield from cursor.execute(named(url, statement))

    @contextmanager
    def raw_table(self, url: str) -> Generator["PostgreSQLTable"]:
        """The ledger's own table, on a connection that is closed afterwards."""
        with closing(self._database.connect()) as connection:
            yield PostgreSQLTable(connection, url)

    @contextmanager
    def grouping(self, url: str, name: str) -> Generator[Grouping]:
        """GROUP BY over the stored JSON of a ledger, on a connection that is open; by parallel workers."""
        with closing(self._database.connect()) as connection:

            def grouped(after: int) -> list[Counted]:
                rows = connection.execute(named(url, self.groupings[name]), (after,), prepare=False)
                return [(customer, counted, Decimal(total)) for customer, counted, total, _ in rows]

            yield grouped

    @contextmanager
    def plain_table(self, url: str) -> Generator["PostgreSQLPlainTable"]:
        """The table beside the ledger's, removed afterwards."""
        with closing(self._database.connect()) as connection:
            yield PostgreSQLPlainTable(connection, url)
            connection.execute(named(url, "DROP TABLE {schema}.usage"))

    def _do(self, url: str, statement: str) -> None:
        with closing(self._database.connect()) as connection:
            connection.execute(named(url, statement))


class PostgreSQLTable:
    """The table of stored events, by itself."""

    def __init__(self, connection: Connection[Any], url: str) -> None:
        self._connection = connection
        self._copy = named(
            url,
            "COPY {schema}.stored_events (position, originator_id, originator_version, topic, state)"
            " FROM STDIN (FORMAT BINARY)",
        )
        self._position = connection.execute(named(url, "SELECT max(position) FROM {schema}.stored_events")).fetchall()[
            0
        ][0]

    def insert(self, rows: Sequence[StoredRow]) -> None:
        """Store rows in one durable transaction."""
        with self._connection.cursor() as cursor, cursor.copy(self._copy) as copy:
            copy.set_types(("int8", "text", "int8", "text", "bytea"))
            for position, row in enumerate(rows, self._position + 1):
                copy.write_row((position, *row))
        self._position += len(rows)


@contextmanager
def postgresql(url: str | None) -> Generator[PostgreSQL]:
    """The database at `url`, or a server that ends with the block; nothing is left in either."""
    if url is not None:
        given = Database(url)
        try:
            yield PostgreSQL(given)
        finally:
            given.drop_schemas()
    else:
        with closing(Server(SETTINGS)) as server:
            yield PostgreSQL(server.database)
