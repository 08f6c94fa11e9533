"""DuckDB over the same stored rows, which are loaded into a table of its own before anything is measured."""

from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb

from .engine import Counted, Engine

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

    def grouped(self) -> list[Counted]:
        """Count and sum of each customer by GROUP BY over the stored JSON."""
        rows = self._connection.execute(GROUP_BY).fetchall()
        return [(customer, counted, total) for customer, counted, total, _ in rows]


@contextmanager
def duck(engine: Engine, url: str, folder: Path) -> Generator[DuckDB]:
    """DuckDB with the rows of a ledger, removed afterwards."""
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
