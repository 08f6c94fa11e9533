"""DuckDB with a copy of the stored rows, which is loaded before the measurement."""

from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb

from .engine import CountAndSum, Engine

GROUP_BY = """
SELECT e[2], count(*), sum(CAST(e[3] AS DECIMAL(18, 0))), e[1]
FROM (SELECT json_extract_string(state, ['$.event_name', '$.payload.customer', '$.payload.tokens']) AS e
      FROM stored_events WHERE topic = 'UsageRecorded')
GROUP BY e[1], e[2] ORDER BY 1
"""
NAME = "DuckDB"


class DuckDB:
    """The stored events of a ledger in a DuckDB file."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def group_by_customer(self) -> list[CountAndSum]:
        """Return count and sum of each customer, by GROUP BY over the stored JSON."""
        rows = self._connection.execute(GROUP_BY).fetchall()
        return [(customer, count, total) for customer, count, total, _ in rows]


@contextmanager
def open_duckdb(engine: Engine, url: str, folder: Path) -> Generator[DuckDB]:
    """Load the rows of a ledger into DuckDB, and remove its file on exit."""
    rows, database = folder / "rows.tsv", folder / "rows.duckdb"
    with rows.open("wb") as file:
        for _, _, topic, state in engine.stored_rows(url):
            file.write(b"%s\t%s\n" % (topic.encode(), state))
    with closing(duckdb.connect(database)) as connection:
        connection.execute(
            "CREATE TABLE stored_events AS SELECT * FROM read_csv(?, delim='\t', quote='', escape='', header=false,"
            " auto_detect=false, columns={'topic': 'VARCHAR', 'state': 'VARCHAR'})",
            [str(rows)],
        )
        rows.unlink()
        yield DuckDB(connection)
    database.unlink()
