"""Reading a page of stored events as one document for each chunk of positions, assembled by PostgreSQL."""

from operator import itemgetter
from typing import Any

from ....projections.models import CHUNK_SIZE, NON_USAGE_MARKER, RawPage
from ....projections.ports import USAGE_RECORDED
from .connection import PostgresDatastore
from .errors import ValueTooLong

MAX_CHUNK_BYTES = 30_000_000
"""The server does not send a longer chunk: the client holds all chunks of a page in memory."""
# A row for each chunk: one value for the whole page takes twice as long to send. The order is that of the subquery, as
# PostgreSQL documents; ORDER BY inside the aggregate would sort all rows.
_SELECT_USAGE_DOCUMENT = f"""
SELECT CASE WHEN length(uses) <= %(longest)s THEN uses END, last
FROM generate_series(%(after)s::bigint / {CHUNK_SIZE} * {CHUNK_SIZE}, %(until)s::bigint - 1, {CHUNK_SIZE}) AS begin,
LATERAL (
    SELECT
        string_agg(CASE topic WHEN '{USAGE_RECORDED}' THEN state ELSE '\\x{NON_USAGE_MARKER.hex()}'::bytea END, ','),
        max(position)
    FROM (
        SELECT position, topic, state FROM {{schema}}.stored_events
        WHERE position > greatest(begin, %(after)s) AND position <= least(begin + {CHUNK_SIZE}, %(until)s)
        ORDER BY position
    ) AS part
) AS chunk (uses, last)
WHERE last IS NOT NULL
"""
_SELECT_OTHER_EVENTS = f"""
SELECT position, topic, state FROM {{schema}}.stored_events
WHERE position > %s AND position <= %s AND topic <> '{USAGE_RECORDED}' ORDER BY position
"""


def read_page_bulk(datastore: PostgresDatastore, after: int, limit: int) -> RawPage:
    """Return up to `limit` events after a position, assembled by PostgreSQL.

    If a chunk is too long, the page holds only the events that are not usage.
    """
    other_statement = datastore.format_sql(_SELECT_OTHER_EVENTS)
    params = {"after": after, "until": after + limit, "longest": MAX_CHUNK_BYTES}
    chunks: list[tuple[Any, int]]
    try:
        chunks = datastore.select(datastore.format_sql(_SELECT_USAGE_DOCUMENT), params, binary=True)
    except ValueTooLong:
        chunks = [(None, after)]
    if any(chunk is None for chunk, _ in chunks):
        return RawPage(b"", datastore.select(other_statement, (after, after + limit), binary=True), after)
    chunks.sort(key=itemgetter(1))  # they arrive in order, but ORDER BY, which would guarantee it, would copy them
    usage_json, last_position = b"\n".join([chunk for chunk, _ in chunks]), chunks[-1][1] if chunks else after
    has_other_events = NON_USAGE_MARKER in usage_json
    other_events = datastore.select(other_statement, (after, last_position), binary=True) if has_other_events else ()
    return RawPage(usage_json, other_events, last_position)
