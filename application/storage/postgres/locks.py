"""Which sessions hold the locks on a schema's tables, for messages."""

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import Connection

_MAX_HOLDERS = 3
# Of the modes that can make a query or an append wait. A session that waits for such a lock makes later ones wait too.
_SELECT_HOLDERS = """
SELECT pid, coalesce(nullif(application_name, ''), 'unnamed'), granted, mode, relname, pg_blocking_pids(pid)
FROM pg_locks LEFT JOIN pg_stat_activity USING (pid) JOIN pg_class ON pg_class.oid = relation
WHERE database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND pid <> pg_backend_pid()
AND relnamespace IN (SELECT to_regnamespace(quote_ident(name)) FROM unnest(%s::text[]) AS name)
AND relkind IN ('r', 'p')
AND mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
ORDER BY granted DESC, mode, pid LIMIT %s
"""


def describe_lock_holders(connection: Connection[Any], schemas: Sequence[str]) -> str:
    """Return which sessions hold or wait for strong locks on tables of schemas; an empty text if none does."""
    try:
        rows = connection.execute(_SELECT_HOLDERS, (list(schemas), _MAX_HOLDERS)).fetchall()
    except psycopg.Error:  # the message is only more helpful with them
        return ""
    if not rows:
        return ""
    sentences = [
        f"Process {pid} ({application}) {'holds' if granted else f'waits for processes {blocking} with'} {mode} on "
        f"{table!r}."
        for pid, application, granted, mode, table, blocking in rows
    ]
    return " ".join([*sentences, "End its transaction, for example with pg_terminate_backend, or try again."])
