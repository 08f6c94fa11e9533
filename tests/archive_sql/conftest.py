"""The engines of every run of the tests."""

from collections.abc import Iterator, Mapping

import pytest
from tallybook.application.archive.sql.dialects import DialectName

from ..postgres import Database
from .engines import DuckDBEngine, PostgresEngine, SqlEngine, SQLiteEngine

ENGINES = (DialectName.SQLITE, DialectName.DUCKDB, DialectName.POSTGRES)


@pytest.fixture(scope="module")
def engines(postgres: Database) -> Iterator[Mapping[DialectName, SqlEngine]]:
    """Open all engines."""
    opened: tuple[SqlEngine, ...] = SQLiteEngine(), DuckDBEngine(), PostgresEngine(postgres.url)
    yield {engine.dialect: engine for engine in opened}
    for engine in opened:
        engine.close()


@pytest.fixture(params=ENGINES)
def engine(engines: Mapping[DialectName, SqlEngine], request: pytest.FixtureRequest) -> SqlEngine:
    """Return each engine in turn."""
    return engines[request.param]
