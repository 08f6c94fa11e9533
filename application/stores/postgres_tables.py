"""The tables of the read models on PostgreSQL."""

import hashlib

from .postgres_schema import Schema

LONGEST_KEY = 200


def dimensions_key(dimensions: str) -> str:
    """Dimension values as an index can hold them: longer ones by their SHA-256. The tables check it."""
    return dimensions if len(dimensions) <= LONGEST_KEY else hashlib.sha256(dimensions.encode()).hexdigest()


_KEY_COLUMN = f"""dimensions_key TEXT COLLATE "C" NOT NULL CHECK (dimensions_key =
            CASE WHEN length(dimensions) <= {LONGEST_KEY} THEN dimensions
            ELSE encode(sha256(convert_to(dimensions, 'UTF8')), 'hex') END)"""
VIEWS = Schema(
    kind="read_models",
    version=3,
    is_disposable=True,
    later=r"(meters|customers|usage|totals)_\d+",
    statements=(
        """CREATE TABLE {schema}.generations (
            generation BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            state TEXT NOT NULL CHECK (state IN ('building', 'ready', 'live', 'retired')),
            pinned TEXT NOT NULL,
            revisions TEXT NOT NULL,
            ledger_mark TEXT
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
GENERATION = (
    """CREATE TABLE {schema}.{meters} (
        meter BIGINT PRIMARY KEY,
        event_name TEXT COLLATE "C" NOT NULL UNIQUE,
        rules TEXT NOT NULL,
        history TEXT NOT NULL
    )""",
    # A name may be longer than what an ordinary index can hold; a hash index holds none.
    """CREATE TABLE {schema}.{customers} (
        customer BIGINT PRIMARY KEY,
        name TEXT COLLATE "C" NOT NULL,
        EXCLUDE USING hash (name WITH =)
    )""",
    """CREATE TABLE {schema}.{usage} (
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
        usages BYTEA NOT NULL,
        """
    + _KEY_COLUMN
    + """,
        PRIMARY KEY (meter, customer, start, dimensions_key, first_position)
    )""",
    # Not compressed: that would take the server longer than all else about a row.
    "ALTER TABLE {schema}.{usage} ALTER usages SET STORAGE EXTERNAL",
    # Buckets of now are written again and again: room in their pages lets that leave the indexes alone.
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
        """
    + _KEY_COLUMN
    + """,
        PRIMARY KEY (meter, bucket_seconds, start, customer, dimensions_key)
    ) WITH (fillfactor = 70)""",
    # Both indexes hold the whole key: whichever a server takes, it finds a bucket without reading others.
    "CREATE INDEX ON {schema}.{totals} (meter, bucket_seconds, customer, start, dimensions_key)",
)
"""The tables of one generation."""
