"""The tables of the read models in a PostgreSQL schema."""

import hashlib

from ....projections.high_water_marks import BEFORE_ALL_TIMES
from .schema import Schema

MAX_INDEX_KEY_LENGTH = 200


def index_key(dimensions: str) -> str:
    """Return dimension values as an index can hold them: long ones as their SHA-256. The tables check this."""
    return dimensions if len(dimensions) <= MAX_INDEX_KEY_LENGTH else hashlib.sha256(dimensions.encode()).hexdigest()


_KEY_COLUMN = f"""dimensions_key TEXT COLLATE "C" NOT NULL CHECK (dimensions_key =
            CASE WHEN length(dimensions) <= {MAX_INDEX_KEY_LENGTH} THEN dimensions
            ELSE encode(sha256(convert_to(dimensions, 'UTF8')), 'hex') END)"""


def _usage_statements(table: str) -> tuple[str, str]:
    """Return the statements that create a table of usage blocks.

    The encoded usage isn't compressed: that would take longer than everything else the server does for a row.
    """
    return (
        f"""CREATE TABLE {{schema}}.{{{table}}} (
        meter BIGINT NOT NULL,
        customer BIGINT NOT NULL,
        start BIGINT NOT NULL,
        dimensions TEXT COLLATE "C" NOT NULL,
        first_position BIGINT NOT NULL,
        earliest BIGINT NOT NULL,
        latest BIGINT NOT NULL,
        sum TEXT NOT NULL,
        count BIGINT NOT NULL,
        last TEXT,
        last_at BIGINT,
        last_position BIGINT,
        min_value TEXT,
        max_value TEXT,
        last_change BIGINT NOT NULL,
        usages BYTEA NOT NULL,
        {_KEY_COLUMN},
        PRIMARY KEY (meter, customer, start, dimensions_key, first_position)
    )""",
        f"ALTER TABLE {{schema}}.{{{table}}} ALTER usages SET STORAGE EXTERNAL",
    )


READ_MODEL_SCHEMA = Schema(
    kind="read_models",
    version=9,
    is_disposable=True,
    dynamic_tables=r"(meters|customers|usage|unsorted_usage|totals|high_water_marks)_\d+",
    statements=(
        f"""CREATE TABLE {{schema}}.generations (
            generation BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            state TEXT NOT NULL CHECK (state IN ('building', 'ready', 'live', 'retired')),
            pinned TEXT NOT NULL,
            revisions TEXT NOT NULL,
            ledger_fingerprint TEXT,
            page_id TEXT,
            latest_recorded_at BIGINT NOT NULL DEFAULT {BEFORE_ALL_TIMES}
        )""",
        "CREATE UNIQUE INDEX only_one_is_live ON {schema}.generations (state) WHERE state = 'live'",
        """CREATE TABLE {schema}.tracking (
            application_name TEXT PRIMARY KEY,
            notification_id BIGINT NOT NULL
        )""",
        "CREATE TABLE {schema}.holder (holder TEXT NOT NULL)",
    ),
)
"""The tables that all generations share."""
GENERATION_STATEMENTS = (
    """CREATE TABLE {schema}.{meters} (
        meter BIGINT PRIMARY KEY,
        event_name TEXT COLLATE "C" NOT NULL UNIQUE,
        rules TEXT NOT NULL,
        history TEXT NOT NULL,
        source TEXT COLLATE "C"
    )""",
    # A name may be too long for a B-tree index; a hash index stores only its hash.
    """CREATE TABLE {schema}.{customers} (
        customer BIGINT PRIMARY KEY,
        name TEXT COLLATE "C" NOT NULL,
        EXCLUDE USING hash (name WITH =)
    )""",
    *_usage_statements("usage"),
    *_usage_statements("unsorted_usage"),
    # Current buckets are updated repeatedly. Free space in the pages lets updates leave the indexes unchanged (HOT).
    """CREATE TABLE {schema}.{totals} (
        meter BIGINT NOT NULL,
        bucket_seconds BIGINT NOT NULL,
        start BIGINT NOT NULL,
        customer BIGINT NOT NULL,
        dimensions TEXT COLLATE "C" NOT NULL,
        sum TEXT NOT NULL,
        count BIGINT NOT NULL,
        last TEXT,
        last_at BIGINT,
        last_position BIGINT,
        min_value TEXT,
        max_value TEXT,
        first_change BIGINT NOT NULL,
        last_change BIGINT NOT NULL,
        """
    + _KEY_COLUMN
    + """,
        PRIMARY KEY (meter, bucket_seconds, start, customer, dimensions_key)
    ) WITH (fillfactor = 70)""",
    # Both indexes hold the whole key: with either one, the server finds a bucket without reading others.
    "CREATE INDEX ON {schema}.{totals} (meter, bucket_seconds, customer, start, dimensions_key)",
    """CREATE TABLE {schema}.{high_water_marks} (
        recorded_at BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (recorded_at, position)
    )""",
)
"""The tables of one generation."""
