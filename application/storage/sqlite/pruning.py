"""Pruning in SQLite: states of recorded usage are replaced by their leaf hashes. See docs/decisions/0057."""

from collections.abc import Sequence

from ..pruned_events import LEAF_HASH_BYTES
from .connection import Datastore


class SQLitePruning:
    """What a recorder does to prune the history. A trigger allows it up to the position of the last HistoryPruned."""

    store: Datastore

    def select_last_pruning(self) -> bytes | None:
        """Return the state of the last HistoryPruned, or None."""
        with self.store.autocommit_cursor() as cursor:
            row = cursor.execute(
                "SELECT CAST(state AS BLOB) FROM stored_events WHERE originator_id >= 'history/'"
                " AND originator_id < 'history0' ORDER BY originator_id DESC LIMIT 1"
            ).fetchone()
        return None if row is None else row[0]

    def replace_states(self, leaf_hashes: Sequence[tuple[int, bytes]]) -> None:
        """Replace the states at these positions by their leaf hashes, in one transaction."""
        with self.store.transaction(commit=True) as c:
            c.executemany(
                f"UPDATE stored_events SET state = ? WHERE position = ? AND length(state) > {LEAF_HASH_BYTES}",
                [(leaf, position) for position, leaf in leaf_hashes],
            )

    def size_bytes(self) -> int:
        """Return the size of the database, with what is free in it."""
        with self.store.autocommit_cursor() as cursor:
            pages, size = (cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        return pages * size

    def compact(self) -> None:
        """Return free space to the operating system. Recording waits meanwhile, and it takes twice the space."""
        with self.store.autocommit_cursor() as cursor:
            cursor.execute("VACUUM")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
