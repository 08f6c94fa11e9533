"""A PostgreSQL server as the documents have it: with a database `billing` that a user `billing` owns."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.postgres import Server


@pytest.fixture(scope="package")
def documented_server() -> Iterator[Server]:
    """A server that these tests have for themselves: roles belong to all of a server."""
    with closing(Server()) as server:
        yield server


@pytest.fixture
def billing(documented_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server with an empty database `billing`, which the environment leads to."""
    with closing(documented_server.database.connect()) as connection:
        connection.execute("CREATE ROLE billing LOGIN")
        connection.execute("CREATE DATABASE billing OWNER billing")
    monkeypatch.setenv("PGHOST", str(documented_server.folder))
    monkeypatch.setenv("PGPORT", "5432")
    monkeypatch.setenv("PGUSER", "postgres")  # where no user is named, an administrator
    for variable in ("PGDATABASE", "PGPASSWORD", "PGSERVICE", "POSTGRES_ENABLE_DB_FUNCTIONS"):
        monkeypatch.delenv(variable, raising=False)
    yield documented_server
    with closing(documented_server.database.connect()) as connection:
        for database in ("billing", "restored"):
            connection.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)".encode())
        others = "SELECT rolname FROM pg_roles WHERE rolname <> 'postgres' AND rolname NOT LIKE 'pg\\_%'"
        for (role,) in connection.execute(others).fetchall():
            connection.execute(f'DROP ROLE "{role}"'.encode())
