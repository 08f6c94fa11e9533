"""The tables of a ledger in a SQLite database."""

import sqlite3

from .schema import Schema, has_table

KEY_VALUE_STATEMENTS = (
    """CREATE TABLE IF NOT EXISTS key_values (
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        at INTEGER NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (kind, key)
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS key_values_by_time ON key_values (kind, at, key)",
)
"""The table of the key-value store, which is created when a program first uses it."""


def _rename_key_value_table(connection: sqlite3.Connection) -> None:
    """Upgrade version 1 to 2: the table `kept` is called `key_values`."""
    if has_table(connection, "kept"):
        connection.execute("ALTER TABLE kept RENAME TO key_values")
        connection.execute("DROP INDEX kept_by_time")
        for statement in KEY_VALUE_STATEMENTS:
            connection.execute(statement)


# The time ends at its Z, and a time without a fraction of a second is less than one with it. A state without a time is
# less than all others.
_TIME = """CASE WHEN substr({row}.state, 1, 16) = CAST('{{"recorded_at":"' AS BLOB)
        THEN substr(CAST(substr({row}.state, 17, 30) AS TEXT), 1,
            instr(CAST(substr({row}.state, 17, 30) AS TEXT), 'Z') - 1)
        ELSE '' END"""
# The rows of a batch have the same time: if the states begin with the same bytes, it need not be compared.
_TIMES_NEVER_DECREASE = f"""CREATE TRIGGER recorded_times_never_decrease BEFORE INSERT ON stored_events
    WHEN substr(NEW.state, 1, 43) IS NOT (
        SELECT substr(state, 1, 43) FROM stored_events ORDER BY position DESC LIMIT 1
    ) AND {_TIME.format(row="NEW")} < (
        SELECT {_TIME.format(row="last")} FROM stored_events AS last ORDER BY position DESC LIMIT 1
    )
    BEGIN SELECT RAISE(ABORT, 'times of recording never decrease'); END"""


def _check_times(connection: sqlite3.Connection) -> None:
    """Upgrade version 2 to 3: what is stored from now on is never earlier than the event before it."""
    connection.execute(_TIMES_NEVER_DECREASE)


# The one change that is allowed, see docs/decisions/0057: the state of recorded usage becomes its leaf hash, up to the
# position of the last pruning. A condition that is NULL allows nothing.
_NEVER_CHANGED = """CREATE TRIGGER stored_events_are_never_changed BEFORE UPDATE ON stored_events
    WHEN NOT coalesce(
        NEW.position = OLD.position AND NEW.originator_id = OLD.originator_id
        AND NEW.originator_version = OLD.originator_version AND NEW.topic = OLD.topic AND OLD.topic = 'UsageRecorded'
        AND typeof(NEW.state) = 'blob' AND length(NEW.state) = 32 AND length(OLD.state) > 32
        AND OLD.position <= (
            SELECT json_extract(CAST(state AS TEXT), '$.position') FROM stored_events
            WHERE originator_id >= 'history/' AND originator_id < 'history0' ORDER BY originator_id DESC LIMIT 1
        ),
        false
    )
    BEGIN SELECT RAISE(ABORT, 'stored events are never changed'); END"""


def _allow_pruning(connection: sqlite3.Connection) -> None:
    """Upgrade version 3 to 4: the states of old usage can be replaced by their leaf hashes."""
    connection.execute("DROP TRIGGER IF EXISTS stored_events_are_never_changed")
    connection.execute(_NEVER_CHANGED)


LEDGER_SCHEMA = Schema(
    application_id=0x54414C4C,  # "TALL"
    version=4,
    migrations=(_rename_key_value_table, _check_times, _allow_pruning),
    statements=(
        """CREATE TABLE stored_events (
            position INTEGER PRIMARY KEY CHECK (position > 0),
            originator_id TEXT NOT NULL,
            originator_version INTEGER NOT NULL,
            topic TEXT NOT NULL,
            state BLOB NOT NULL,
            UNIQUE (originator_id, originator_version)
        )""",
        _NEVER_CHANGED,
        """CREATE TRIGGER stored_events_are_never_deleted BEFORE DELETE ON stored_events
            BEGIN SELECT RAISE(ABORT, 'stored events are never deleted'); END""",
        # REPLACE deletes rows without firing the trigger above. In the next trigger, a missing position is -1. An
        # explicit -1 passes it, and is rejected by the CHECK, which sees positions as they will be stored.
        """CREATE TRIGGER stored_events_are_only_appended BEFORE INSERT ON stored_events
            WHEN EXISTS (
                SELECT 1 FROM stored_events
                WHERE originator_id = NEW.originator_id AND originator_version = NEW.originator_version
            )
            OR NEW.position <> -1 AND NEW.position <> (SELECT coalesce(max(position), 0) + 1 FROM stored_events)
            BEGIN SELECT RAISE(ABORT, 'stored events are only appended, each once'); END""",
        _TIMES_NEVER_DECREASE,
    ),
)
