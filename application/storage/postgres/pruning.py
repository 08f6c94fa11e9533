"""Pruning in PostgreSQL: states of recorded usage are replaced by their leaf hashes. See docs/decisions/0057."""

from collections.abc import Sequence

from ..pruned_events import LEAF_HASH_BYTES
from .connection import PostgresDatastore


class PostgresPruning:
    """What a recorder does to prune the history. Triggers allow it up to the position of the last HistoryPruned."""

    store: PostgresDatastore

    def select_last_pruning(self) -> bytes | None:
        """Return the state of the last HistoryPruned, or None; also to a role that may only record."""
        return self.store.select(self.store.format_sql("SELECT {schema}.last_pruning()"), binary=True)[0][0]

    def replace_states(self, leaf_hashes: Sequence[tuple[int, bytes]]) -> None:
        """Replace the states at these positions by their leaf hashes, in one transaction."""
        statement = self.store.format_sql(
            "UPDATE {schema}.stored_events AS stored SET state = given.leaf"
            " FROM unnest(%s::bigint[], %s::bytea[]) AS given (position, leaf)"
            f" WHERE stored.position = given.position AND length(stored.state) > {LEAF_HASH_BYTES}"
        )
        columns = [list(column) for column in zip(*leaf_hashes, strict=True)]
        self.store.run_in_transaction("write", lambda connection: connection.execute(statement, columns))

    def size_bytes(self) -> int:
        """Return the space that stored events take, with their indexes and what is free in it."""
        table = self.store.format_sql("{schema}.stored_events").as_string()
        return self.store.select(self.store.format_sql("SELECT pg_total_relation_size(%s)"), (table,))[0][0]

    def compact(self) -> None:
        """Return free space to the operating system. Reading and recording wait meanwhile."""
        with self.store.dedicated_connection() as connection:
            connection.execute(self.store.format_sql("VACUUM (FULL, ANALYZE) {schema}.stored_events"))
