"""Bookkeeping of the generations of read models, in SQL common to both stores."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ...domain.errors import GenerationNotFound
from ...projections.models import Generation, GenerationState, PinnedRules
from .row_codec import decode_pinned, decode_revisions, encode_pinned, encode_revisions
from .sql_statements import table_names


class Rows(Protocol):
    """The result of a statement."""

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        ...

    def fetchall(self) -> Sequence[Any]:
        """Return the rows that are left."""
        ...


class SqlGenerations(ABC):
    """The generations of a ledger's read models, inside one transaction. The placeholder is a question mark."""

    def __init__(self, schema_prefix: str = "") -> None:
        """Use the tables in a schema: `schema_prefix` is its quoted name with a full stop, or empty."""
        self.schema_prefix = schema_prefix
        self.table = f"{schema_prefix}generations"
        self._with_positions = (
            f"{self.table} LEFT JOIN {schema_prefix}tracking ON application_name = 'generation ' || generation"
        )

    # --- statements that differ between the stores ------------------------------------------------------

    @abstractmethod
    def execute(self, statement: str, params: Sequence[object] = ()) -> Rows:
        """Execute a statement."""

    @abstractmethod
    def position(self, generation: int) -> int:
        """Return the position up to which a generation is projected."""

    @abstractmethod
    def track(self, generation: int, position: int) -> None:
        """Advance the position of a generation. Raise the library's IntegrityError unless it grows."""

    @abstractmethod
    def insert(self, state: str, pinned: str) -> int:
        """Insert the row of a new generation and return its number."""

    @abstractmethod
    def create_tables(self, generation: int) -> None:
        """Create the tables of a new generation."""

    # --- statements that both stores share --------------------------------------------------------------

    def live(self) -> int | None:
        """Return the number of the live generation, or None if there is none."""
        row = self.execute(f"SELECT generation FROM {self.table} WHERE state = 'live'").fetchone()
        return None if row is None else row[0]

    def all(self) -> list[Generation]:
        """Return all generations in the order of their creation."""
        rows = self.execute(
            "SELECT generation, state, pinned, revisions, notification_id"
            f" FROM {self._with_positions} ORDER BY generation"
        )
        return [
            Generation(
                number,
                GenerationState(state),
                decode_pinned(pinned),
                decode_revisions(revisions),
                position or 0,
            )
            for number, state, pinned, revisions, position in rows.fetchall()
        ]

    def heads(self) -> list[tuple[int, str | None]]:
        """Return the position of each generation, and the fingerprint of the ledger's event at that position."""
        rows = self.execute(f"SELECT notification_id, ledger_fingerprint FROM {self._with_positions}").fetchall()
        return [(position or 0, fingerprint) for position, fingerprint in rows]

    def require(self, generation: int) -> None:
        """Raise GenerationNotFound if the generation does not exist."""
        if self.execute(f"SELECT 1 FROM {self.table} WHERE generation = ?", (generation,)).fetchone() is None:
            raise GenerationNotFound(
                f"There is no generation {generation} of the read models; 'tallybook projection status' lists them.",
                field="generation",
                value=generation,
            )

    def create(self, state: str, pinned: PinnedRules) -> int:
        """Create an empty generation and return its number."""
        generation = self.insert(state, encode_pinned(pinned))
        self.create_tables(generation)
        return generation

    def mark_ready(self, generation: int, revisions: Mapping[str, int]) -> None:
        """Set a generation that was being built to `ready`, and store its revisions. Raise GenerationNotFound."""
        self.require(generation)
        self.execute(
            f"UPDATE {self.table} SET revisions = ?, state = CASE state WHEN 'building' THEN 'ready' ELSE state END"
            " WHERE generation = ?",
            (encode_revisions(revisions), generation),
        )

    def make_live(self, generation: int, revisions: Mapping[str, int]) -> None:
        """Make a generation live, and retire the live one with these revisions. Raise GenerationNotFound."""
        self.require(generation)
        self.execute(
            f"UPDATE {self.table} SET state = 'retired', revisions = ? WHERE state = 'live'",
            (encode_revisions(revisions),),
        )
        self.execute(f"UPDATE {self.table} SET state = 'live' WHERE generation = ?", (generation,))

    def drop(self, generation: int) -> None:
        """Drop the tables of a generation and delete its rows. Raise GenerationNotFound."""
        self.require(generation)
        for table in table_names(generation):
            self.execute(f"DROP TABLE {self.schema_prefix}{table}")
        self.execute(f"DELETE FROM {self.table} WHERE generation = ?", (generation,))
        self.execute(
            f"DELETE FROM {self.schema_prefix}tracking WHERE application_name = ?", (tracking_name(generation),)
        )

    def replace_all(self, pinned: PinnedRules) -> None:
        """Drop all generations and create an empty live one."""
        for generation in self.all():
            self.drop(generation.number)
        self.create("live", pinned)

    def lock_owner(self) -> str | None:
        """Return the description of the last process that held the generation lock, or None."""
        row = self.execute(f"SELECT holder FROM {self.schema_prefix}holder").fetchone()
        return None if row is None else row[0]

    def set_lock_owner(self, description: str) -> None:
        """Store which process holds the generation lock."""
        self.execute(f"DELETE FROM {self.schema_prefix}holder")
        self.execute(f"INSERT INTO {self.schema_prefix}holder VALUES (?)", (description,))


def tracking_name(generation: int) -> str:
    """Return the name under which the position of a generation is tracked."""
    return f"generation {generation}"
