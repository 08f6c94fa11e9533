"""PostgreSQL itself guarantees that stored events are immutable, and that positions have no gaps."""

from contextlib import closing

import psycopg
import pytest
from psycopg import sql

from .persistent_stores import PostgresSchema, Step, StoreRejected
from .recorded_postgres import HEAD, stored_rows

INSERT = "INSERT INTO stored_events (position, originator_id, originator_version, topic, state)"


# --- stored events are never changed --------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE stored_events SET state = '{}' WHERE position = 5",
        "UPDATE stored_events SET originator_id = 'event/x'",
        "UPDATE stored_events SET position = position + 1000",
        "DELETE FROM stored_events WHERE position = 5",
        "DELETE FROM stored_events",
        "TRUNCATE stored_events",
        "TRUNCATE stored_events CASCADE",
        f"{INSERT} SELECT * FROM stored_events WHERE position = 5 ON CONFLICT (position) DO UPDATE SET state = '{{}}'",
        "MERGE INTO stored_events USING (SELECT 5 AS at) AS given ON position = at WHEN MATCHED THEN DELETE",
    ],
)
def test_stored_events_cannot_be_changed_or_deleted(recorded_store: PostgresSchema, statement: str) -> None:
    """Triggers of the table reject such statements, also those of the table's owner."""
    before = stored_rows(recorded_store)
    with pytest.raises(StoreRejected, match=r"stored events are never (changed|deleted)"):
        recorded_store.execute("ledger", Step(statement))
    assert stored_rows(recorded_store) == before


def similar_events(*positions: int) -> list[tuple[object, ...]]:
    """Return copies of the event at position 5 with new identifiers and the given positions."""
    return [(position, f"event/like-{index}-{position}", 1) for index, position in enumerate(positions)]


REJECTED_POSITIONS = [
    (HEAD + 2,), (0,), (-1,), (1,), (HEAD,), (HEAD + 1, HEAD + 1), (HEAD + 1, HEAD + 3), (HEAD + 2, HEAD + 3),
    (HEAD, HEAD + 1), (0, 1), (HEAD + 1, 5), (2**63 - 1,),
]  # fmt: skip


@pytest.mark.parametrize("positions", REJECTED_POSITIONS)
@pytest.mark.parametrize("by", ["INSERT", "COPY"])
def test_only_the_next_position_is_accepted(
    recorded_store: PostgresSchema, positions: tuple[int, ...], by: str
) -> None:
    """A statement with a gap, position 0, an existing position or a repeated position is rejected as a whole."""
    before = stored_rows(recorded_store)
    with pytest.raises((psycopg.IntegrityError, psycopg.DataError)):
        append(recorded_store, positions, by)
    assert stored_rows(recorded_store) == before


@pytest.mark.parametrize("by", ["INSERT", "COPY"])
@pytest.mark.parametrize("positions", [(HEAD + 1,), (HEAD + 1, HEAD + 2, HEAD + 3), (HEAD + 2, HEAD + 1)])
def test_any_writer_can_insert_the_next_positions(
    recorded_store: PostgresSchema, positions: tuple[int, ...], by: str
) -> None:
    """Any connection can append rows in any order within a statement; the application continues after them."""
    append(recorded_store, positions, by)
    with recorded_store.metering() as metering:
        receipt = metering.record("tokens", {"customer": "acme", "value": "1"})
        assert receipt.position == HEAD + len(positions) + 1
        assert metering.verify().is_equal


def append(store: PostgresSchema, positions: tuple[int, ...], by: str) -> None:
    """Store events without the application, in one statement."""
    ((topic, state),) = store.ledger_rows(
        "SELECT topic, state FROM stored_events WHERE topic = 'UsageRecorded' LIMIT 1"
    )
    rows = [(*event, topic, state) for event in similar_events(*positions)]
    with closing(store.database.connect()) as connection, connection.transaction(), connection.cursor() as cursor:
        cursor.execute(sql.SQL("SET LOCAL search_path TO {}").format(sql.Identifier(store.schema)))
        if by == "COPY":
            with cursor.copy("COPY stored_events FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(["int8", "text", "int8", "text", "bytea"])
                for row in rows:
                    copy.write_row(row)
        else:
            values = ",".join(["(%s, %s, %s, %s, %s)"] * len(rows))
            cursor.execute(f"{INSERT} VALUES {values}".encode(), [cell for row in rows for cell in row])


def test_an_insert_does_not_use_uncommitted_positions(recorded_store: PostgresSchema) -> None:
    """Without the append lock, a writer can't insert after an uncommitted position, which may be rolled back."""
    with closing(recorded_store.database.connect()) as connection, connection.transaction(force_rollback=True):
        connection.execute(f"SET LOCAL search_path TO {recorded_store.schema}".encode())
        row = "SELECT %s, %s, 1, topic, state FROM stored_events WHERE position = 10"
        connection.execute(f"{INSERT} {row}".encode(), (HEAD + 1, "event/undecided"))
        with pytest.raises(psycopg.IntegrityError):
            append(recorded_store, (HEAD + 2,), "INSERT")
    append(recorded_store, (HEAD + 1,), "INSERT")


def test_a_user_defined_operator_does_not_bypass_the_check(recorded_store: PostgresSchema) -> None:
    """A writer can't leave a gap with a search_path in which the operator `>` is redefined."""
    before, evil = stored_rows(recorded_store), f"{recorded_store.schema}_evil"
    with closing(recorded_store.database.connect()) as connection:
        for statement in (
            f"CREATE SCHEMA {evil}",
            f"CREATE FUNCTION {evil}.never(bigint, integer) RETURNS boolean LANGUAGE sql AS 'SELECT false'",
            f"CREATE OPERATOR {evil}.> (LEFTARG = bigint, RIGHTARG = integer, FUNCTION = {evil}.never)",
            f"SET search_path TO {evil}, pg_catalog, {recorded_store.schema}",
        ):
            connection.execute(statement.encode())
        row = "SELECT 1000, 'event/far', 1, topic, state FROM stored_events WHERE position = 5"
        with pytest.raises(psycopg.IntegrityError):
            connection.execute(f"{INSERT} {row}".encode())
        connection.execute(f"DROP SCHEMA {evil} CASCADE".encode())
    assert stored_rows(recorded_store) == before
