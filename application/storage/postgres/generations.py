"""Generations of read models in a PostgreSQL schema: their bookkeeping inside one transaction."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from eventsourcing.postgres import PostgresTrackingRecorder
from psycopg import Connection, Cursor
from psycopg.rows import dict_row
from psycopg.sql import SQL, Composed

from ..sql_generations import SqlGenerations, tracking_name
from ..sql_statements import TableName, table_names
from .connection import PostgresDatastore
from .errors import translate_errors
from .monitored_connection import MonitoredConnection
from .read_model_schema import GENERATION_STATEMENTS
from .schema import advisory_lock_key


class PostgresTracking(PostgresTrackingRecorder):
    """The library's tracking table: one row for each generation."""

    def __init__(self, datastore: PostgresDatastore) -> None:
        super().__init__(datastore, tracking_table_name="tracking")
        self._advance = datastore.format_sql(
            "INSERT INTO {schema}.tracking AS stored VALUES (%s, %s) ON CONFLICT (application_name) DO UPDATE SET"
            " notification_id = CASE WHEN stored.notification_id < excluded.notification_id"
            " THEN excluded.notification_id END"
        )

    def position(self, connection: Connection[Any], generation: int) -> int:
        """Return the position up to which a generation is projected."""
        with connection.cursor(row_factory=dict_row) as cursor:
            return self._max_tracking_id(tracking_name(generation), cursor) or 0

    def track(self, connection: Connection[Any], generation: int, position: int) -> None:
        """Advance the position of a generation. The statement fails with an IntegrityError unless it grows.

        The library's statement returns no row then, which takes a round trip to see. NULL violates a constraint.
        """
        connection.execute(self._advance, (tracking_name(generation), position), prepare=True)


class PostgresGenerations(SqlGenerations):
    """The generations of a ledger's read models, inside one transaction."""

    def __init__(
        self, datastore: PostgresDatastore, tracking: PostgresTracking, connection: MonitoredConnection
    ) -> None:
        super().__init__(f"{datastore.format_sql('{schema}').as_string()}.")
        self.datastore = datastore
        self.connection = connection
        self._tracking = tracking

    def execute(self, statement: str, params: Sequence[object] = ()) -> Cursor[Any]:
        """Execute a statement."""
        return self.connection.execute(statement.replace("?", "%s").encode(), params or None)

    def position(self, generation: int) -> int:
        """Return the position up to which a generation is projected."""
        return self._tracking.position(self.connection, generation)

    def track(self, generation: int, position: int) -> None:
        """Advance the position of a generation. Raise the library's IntegrityError unless it grows."""
        self._tracking.track(self.connection, generation, position)

    def insert(self, state: str, pinned: str) -> int:
        """Insert the row of a new generation and return its number."""
        row = self.execute(
            f"INSERT INTO {self.table} (state, pinned, revisions) VALUES (?, ?, '{{}}') RETURNING generation",
            (state, pinned),
        ).fetchone()
        assert row is not None
        return row[0]

    def create_tables(self, generation: int) -> None:
        """Create the tables of a new generation."""
        for statement in GENERATION_STATEMENTS:
            self.connection.execute(self.datastore.format_sql(statement, **generation_tables(generation)))

    def mark_ready(self, generation: int, revisions: Mapping[str, int]) -> None:
        """Set a generation that was being built to `ready`, and analyze its tables."""
        super().mark_ready(generation, revisions)
        for table in table_names(generation):  # otherwise the first queries are planned for empty tables
            self.execute(f"ANALYZE {self.schema_prefix}{table}")

    def drop(self, generation: int) -> None:
        """Drop the tables of a generation while no other process projects it. Raise GenerationNotFound."""
        self.require(generation)
        self.lock_projection(generation)
        super().drop(generation)

    def lock_projection(self, generation: int) -> None:
        """Wait until no other transaction projects the generation; lock it until this transaction ends."""
        self.connection.execute(lock_projection_sql(self.datastore, generation))

    def lock_creation(self) -> None:
        """Let one transaction at a time create the live generation, so that the others see it."""
        self.connection.execute(_advisory_lock_sql(self.datastore, "beginning"))

    def lock_tables(self, generation: int) -> None:
        """Keep the tables of a generation from being dropped until the transaction ends."""
        with translate_errors(self.datastore.location):
            for statement in lock_tables_sql(self.datastore, generation):
                self.connection.execute(statement)


def lock_writes_sql(datastore: PostgresDatastore) -> Composed:
    """Return the statement that fails for a role that may not write."""
    return datastore.format_sql("LOCK TABLE {schema}.tracking IN ROW EXCLUSIVE MODE")


def lock_projection_sql(datastore: PostgresDatastore, generation: int) -> SQL:
    """Return the statement that waits until no other transaction projects the generation, and locks it."""
    return _advisory_lock_sql(datastore, f"generation {generation}")


def _advisory_lock_sql(datastore: PostgresDatastore, name: str) -> SQL:
    key = advisory_lock_key(datastore.lock_namespace, name)
    return SQL(f"SELECT pg_advisory_xact_lock({key})")  # pyright: ignore[reportArgumentType] - a number


def lock_tables_sql(datastore: PostgresDatastore, generation: int) -> Sequence[Composed]:
    """Return the statements that keep the tables of a generation from being dropped until the transaction ends.

    They switch sequential scans off, because a plan made for few rows stays cached when there are many.
    """
    lock = datastore.format_sql(
        "LOCK TABLE {schema}.{meters}, {schema}.{customers}, {schema}.{usage}, {schema}.{unsorted_usage},"
        " {schema}.{totals}, {schema}.{high_water_marks} IN ACCESS SHARE MODE",
        **generation_tables(generation),
    )
    return lock, datastore.format_sql("SET LOCAL enable_seqscan = off")


def generation_tables(generation: int) -> dict[str, str]:
    """Return the names of a generation's tables."""
    return dict(zip(get_args(TableName), table_names(generation), strict=True))
