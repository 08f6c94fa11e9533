"""The relation that all statements read: a view of a ledger's table, or of the segments of an archive.

Its columns are position, stream, version, topic, recorded_at, event_name, occurred_at, recorded_position, payload and
state. `recorded_position` is that of the meter event of a cancellation, or of the revocation of one. Only meter events
have a payload.
"""

from ....projections.ports import CANCELLATION_TOPICS, USAGE_RECORDED
from .dialects import DialectName
from .statement import RELATION

_CANCELLATIONS = ", ".join(f"'{topic}'" for topic in sorted(CANCELLATION_TOPICS))
_WITH_USAGE = f"'{USAGE_RECORDED}', {_CANCELLATIONS}"

# A text in these databases has no U+0000. So a payload that has one is an error, and not read without what follows it.
# `\\` is replaced because it may be followed by the letters u0000.
_SQLITE_LEDGER = f"""CREATE TEMP VIEW IF NOT EXISTS {RELATION} AS
SELECT
    position,
    originator_id AS stream,
    originator_version AS version,
    topic,
    json_extract(document, '$.recorded_at') AS recorded_at,
    CASE WHEN topic IN ({_WITH_USAGE}) THEN json_extract(document, '$.event_name') END AS event_name,
    CASE WHEN topic IN ({_WITH_USAGE}) THEN json_extract(document, '$.occurred_at') END AS occurred_at,
    CASE WHEN topic IN ({_CANCELLATIONS}) THEN json_extract(document, '$.recorded_position') END AS recorded_position,
    CASE WHEN topic = '{USAGE_RECORDED}' THEN CASE
        WHEN INSTR(REPLACE(document, '\\\\', ''), '\\u0000') > 0 THEN json('the payload contains U+0000')
        ELSE json_extract(document, '$.payload')
    END END AS payload,
    state
FROM (SELECT *, CAST(state AS TEXT) AS document FROM {{table}}) AS stored_documents;
"""
_POSTGRES_LEDGER = f"""CREATE OR REPLACE TEMP VIEW {RELATION} AS
SELECT
    position,
    originator_id AS stream,
    originator_version AS version,
    topic,
    CAST(CAST(document AS json) ->> 'recorded_at' AS timestamp with time zone) AS recorded_at,
    CASE WHEN topic IN ({_WITH_USAGE}) THEN CAST(document AS json) ->> 'event_name' END AS event_name,
    CASE WHEN topic IN ({_WITH_USAGE}) THEN
        CAST(CAST(document AS json) ->> 'occurred_at' AS timestamp with time zone) END AS occurred_at,
    CASE WHEN topic IN ({_CANCELLATIONS}) THEN
        CAST(CAST(document AS json) ->> 'recorded_position' AS bigint) END AS recorded_position,
    CASE WHEN topic = '{USAGE_RECORDED}' THEN CAST(CASE
        WHEN has_nul THEN 'the payload contains U+0000'
        ELSE CAST(document AS json) ->> 'payload'
    END AS jsonb) END AS payload,
    state
FROM (
    SELECT
        *,
        STRPOS(REPLACE(stored_text, '\\\\', ''), '\\u0000') > 0 AS has_nul,
        REPLACE(REPLACE(stored_text, '\\\\', '\\u005c'), '\\u0000', '') AS document
    FROM (SELECT *, convert_from(state, 'UTF8') AS stored_text FROM {{table}}) AS stored_texts
) AS stored_documents;
"""
_VIEWS = {
    DialectName.SQLITE: _SQLITE_LEDGER,
    DialectName.POSTGRES: _POSTGRES_LEDGER,
    DialectName.DUCKDB: f"CREATE OR REPLACE TEMP VIEW {RELATION} AS SELECT * FROM read_parquet('{{table}}');\n",
    DialectName.SPARK: f"CREATE OR REPLACE TEMPORARY VIEW {RELATION} USING parquet OPTIONS (path '{{table}}');\n",
    DialectName.CLICKHOUSE: f"CREATE OR REPLACE VIEW {RELATION} AS SELECT * FROM file('{{table}}', Parquet);\n",
}
_LEDGER_TABLE = "stored_events"
_SEGMENT_FILES = "events/*.parquet"


def relation_view(dialect: DialectName, source: str | None = None) -> str:
    """Return the statement that creates the relation.

    The source of SQLite and PostgreSQL is a table of stored events, that of the others the path of Parquet files.
    """
    is_ledger = dialect in {DialectName.SQLITE, DialectName.POSTGRES}
    return _VIEWS[dialect].format(table=source or (_LEDGER_TABLE if is_ledger else _SEGMENT_FILES))
